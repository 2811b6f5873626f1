//! Accounts of NATS that are proved by signed tokens (JWT), as `nsc` makes them.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use nlring::Timestamp;
use serde_json::{Value, json};

/// An operator with an account for JetStream.
pub struct Operator {
    account: KeyPair,
    /// The lines of a server's configuration.
    pub lines: String,
}

impl Operator {
    pub fn new() -> Self {
        let operator = KeyPair::new_operator();
        let (system, account) = (KeyPair::new_account(), KeyPair::new_account());
        let name = operator.public_key();
        let token = token(&operator, &name, json!({ "type": "operator" }));
        let preload = [(&system, 0), (&account, -1)].map(|(account, storage)| {
            let name = account.public_key();
            let token = self::token(&operator, &name, account_claims(storage));
            format!("{name}: {token}")
        });
        let lines = format!(
            "operator: {token}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}\n}}",
            system.public_key(),
            preload.join("\n")
        );
        Self { account, lines }
    }

    /// The text of a credentials file, and the user's seed in it.
    pub fn credentials(&self) -> (String, String) {
        let user = KeyPair::new_user();
        let claims = json!({
            "type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1
        });
        let token = token(&self.account, &user.public_key(), claims);
        let seed = user.seed().expect("a seed");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        (text, seed)
    }
}

/// An account with this much storage for streams. -1: any.
fn account_claims(storage: i32) -> Value {
    json!({
        "type": "account",
        "limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage
        }
    })
}

/// A token by which the issuer says this about the subject.
fn token(issuer: &KeyPair, subject: &str, mut claims: Value) -> String {
    claims["version"] = json!(2);
    let body = json!({
        "jti": subject,
        "iat": Timestamp::now().as_ns() / 1_000_000_000,
        "iss": issuer.public_key(),
        "name": subject,
        "sub": subject,
        "nats": claims
    });
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let [head, body] = [head, body].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let signed = format!("{head}.{body}");
    let signature = issuer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

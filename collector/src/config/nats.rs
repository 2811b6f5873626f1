//! The configuration for NATS: the servers, the credentials, and the output.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::output::Output;
use super::{Bytes, Config, Span};

/// The servers, and how to reach them. Secrets are in files, and only their names are here.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Servers {
    /// Addresses of one cluster: `nats://host:4222`, or `tls://host:4222`.
    pub addresses: Vec<String>,
    /// The certificates that may have signed a server's certificate. None: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The certificate of this client, and its key.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// A credentials file (`.creds`) with a JWT and its seed.
    pub credentials_file: Option<PathBuf>,
    /// A file with the seed of an nkey.
    pub nkey_file: Option<PathBuf>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            addresses: vec!["nats://127.0.0.1:4222".to_owned()],
            ca_file: None,
            certificate_file: None,
            key_file: None,
            credentials_file: None,
            nkey_file: None,
            user: None,
            password_file: None,
            token_file: None,
        }
    }
}

impl Servers {
    /// Checks values that can be read but make no sense.
    pub fn check(&self) -> Result<(), String> {
        if self.addresses.is_empty() {
            return Err("addresses is empty: name a server, such as nats://nats1:4222".to_owned());
        }
        for address in &self.addresses {
            let rest = ["nats://", "tls://"]
                .iter()
                .find_map(|scheme| address.strip_prefix(scheme));
            let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
                return Err(format!(
                    "{address:?} is no address of a NATS server; use one such as nats://nats1:4222 or tls://nats1:4222"
                ));
            };
            if rest.contains('@') {
                return Err(
                    "an address has a user in it, and would be logged; use user and password_file, or token_file"
                        .to_owned(),
                );
            }
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return Err(
                "certificate_file and key_file belong together: name both, or none".to_owned(),
            );
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Err("user and password_file belong together: name both, or none".to_owned());
        }
        let proofs = [
            &self.credentials_file,
            &self.nkey_file,
            &self.password_file,
            &self.token_file,
        ];
        if proofs.iter().filter(|file| file.is_some()).count() > 1 {
            return Err(
                "use one of credentials_file, nkey_file, user with password_file, and token_file"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The files that must be readable, each with its key.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let files = [
            ("ca_file", &self.ca_file),
            ("certificate_file", &self.certificate_file),
            ("key_file", &self.key_file),
            ("credentials_file", &self.credentials_file),
            ("nkey_file", &self.nkey_file),
            ("password_file", &self.password_file),
            ("token_file", &self.token_file),
        ];
        files
            .into_iter()
            .filter_map(|(key, file)| Some((key, file.as_ref()?)))
    }
}

/// An output to a stream of NATS JetStream.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Nats {
    /// The name in the log, in metrics and for the cursor. It is unique among the outputs.
    pub name: String,
    pub servers: Servers,
    pub stream: Stream,
    /// Messages have the subjects `PREFIX.NODE.flows`, `.events` and `.losses`.
    pub prefix: String,
    pub format: Body,
    /// How many batches are in flight to the server at the same time.
    pub window: u32,
}

/// The stream, and the settings that it must have. Settings that are left out are not compared.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    pub name: String,
    /// Whether to create the stream if it does not exist.
    pub create: bool,
    pub replicas: Option<u8>,
    pub storage: Option<Storage>,
    pub max_bytes: Option<Bytes>,
    pub max_age: Option<Span>,
    /// The time in which the server recognises repeated messages.
    pub duplicate_window: Option<Span>,
}

/// Where the servers keep a stream.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    File,
    Memory,
}

/// The form of the records in a message.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// A stream of Arrow IPC, compressed with zstd.
    Arrow,
    /// A JSON object per line, compressed with zstd.
    Json,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            name: "nlring".to_owned(),
            create: true,
            replicas: None,
            storage: None,
            max_bytes: None,
            max_age: None,
            duplicate_window: None,
        }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            name: "nats".to_owned(),
            servers: Servers::default(),
            stream: Stream::default(),
            prefix: "nlring".to_owned(),
            format: Body::Arrow,
            window: 32,
        }
    }
}

/// Whether a text may be one or several tokens of a subject.
fn is_subject(text: &str) -> bool {
    let is_token = |token: &str| {
        !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || "*>".contains(c))
    };
    text.split('.').all(is_token)
}

/// Whether a text may be the name of a stream or a consumer.
pub fn is_name(text: &str) -> bool {
    is_subject(text) && !text.contains(['.', '/', '\\'])
}

impl Output for Nats {
    fn name(&self) -> &str {
        &self.name
    }

    fn receiver(&self) -> String {
        let addresses = self.servers.addresses.join(", ");
        let (stream, prefix) = (&self.stream.name, &self.prefix);
        format!("the stream {stream} of NATS at {addresses}, subjects {prefix}.NODE.…")
    }

    fn check(&self, _config: &Config) -> Result<(), String> {
        self.servers.check()?;
        if !is_subject(&self.prefix) {
            return Err(format!(
                "prefix = {:?} is no part of a subject; use letters and points, such as \"nlring\"",
                self.prefix
            ));
        }
        let stream = &self.stream;
        if !is_name(&stream.name) {
            return Err(format!(
                "stream.name = {:?} is no name of a stream; use letters, digits, - and _",
                stream.name
            ));
        }
        if stream
            .replicas
            .is_some_and(|replicas| !matches!(replicas, 1..=5))
        {
            return Err("stream.replicas: use 1, 3 or 5".to_owned());
        }
        let is_zero = |span: Option<Span>| span.is_some_and(|span| span.0 == Duration::ZERO);
        if is_zero(stream.max_age) || is_zero(stream.duplicate_window) {
            return Err("stream.max_age or stream.duplicate_window is 0; use a time such as 7d, or leave it out".to_owned());
        }
        if !matches!(self.window, 1..=1024) {
            return Err("window: use a number from 1 to 1024".to_owned());
        }
        Ok(())
    }
}

//! Sentences about what servers refuse, each with a remedy.

use std::error::Error;

use super::connection::Connection;
use crate::failure::Failure;

/// The texts of the server or the client, and what to do.
const REMEDIES: [(&str, &str); 13] = [
    (
        "Permissions Violation",
        "give this user the permissions that docs/nats.md lists",
    ),
    ("error code 10076", NO_JETSTREAM),
    ("error code 10039", NO_JETSTREAM),
    (
        "error code 10074",
        "replicas need a cluster of servers: set stream.replicas to 1, or add servers",
    ),
    (
        "error code 10005",
        "the cluster has too few servers for stream.replicas: add servers, or lower it",
    ),
    (
        "error code 10065",
        "another stream takes these subjects: use its name in stream.name, or another prefix",
    ),
    ("error code 10054", TOO_LARGE),
    ("error code 10077", FULL),
    ("error code 10047", FULL),
    ("error code 10023", FULL),
    ("error code 10002", FULL),
    ("error code 10028", FULL),
    (
        "timed out",
        "see whether the server has JetStream and a leader for the stream (`nats stream info`), and whether this user has \
         the permissions that docs/nats.md lists",
    ),
];

const NO_JETSTREAM: &str = "the server has no JetStream for this account: enable it (`jetstream {}` in its configuration), and \
     use nats-server 2.9 or later";
const TOO_LARGE: &str = "raise max_msg_size of the stream, or remove that limit";
const FULL: &str = "the stream or the account is full: raise max_bytes of the stream, give it a max_age, or let it discard the \
     oldest (docs/nats.md)";

/// A failure to do something, with the server's text and a remedy.
pub fn failure(connection: &Connection, doing: &str, error: &(dyn Error + 'static)) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    if let Some(complaint) = connection.complaint() {
        text = complaint;
    }
    let addresses = &connection.addresses;
    let remedy = remedy(&text).map_or(String::new(), |remedy| format!("; {remedy}"));
    Failure::Other(format!("NATS at {addresses}: {doing}: {text}{remedy}"))
}

fn remedy(text: &str) -> Option<&'static str> {
    if text.contains("no responders") || text.contains("resource does not exist") {
        return Some(NO_JETSTREAM);
    }
    let known = REMEDIES.iter().find(|(sign, _)| text.contains(sign));
    known.map(|(_, remedy)| *remedy)
}

//! The connection to the servers.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event};

use crate::config::Servers;
use crate::failure::{Failure, Result};

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to accept a message.
const SEND: Duration = Duration::from_secs(10);
/// How often the connection is checked while waiting for an answer.
const LOOK: Duration = Duration::from_millis(200);
/// The pause before a lost connection would be restored.
const NEVER: Duration = Duration::from_secs(365 * 86_400);
/// More messages than any window has.
const MOST_IN_FLIGHT: usize = 1 << 20;

/// A connection, and what its server has said about it. It is never restored automatically, because messages that were
/// in flight when it was lost must be checked first.
pub struct Connection {
    pub client: Client,
    pub context: Context,
    pub addresses: String,
    state: Arc<State>,
}

/// What is known about a connection.
#[derive(Default)]
struct State {
    is_made: AtomicBool,
    is_lost: AtomicBool,
    /// The last error that the server has sent, for example that a subject is forbidden, for which there is no other
    /// answer.
    complaint: Mutex<Option<String>>,
}

impl State {
    fn note(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => self.is_lost.store(true, Ordering::Relaxed),
            Event::ServerError(error) => {
                let complaint = self.complaint.lock();
                *complaint.unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            _ => {}
        }
    }

    fn delay(&self) -> Duration {
        if self.is_made.load(Ordering::Relaxed) {
            NEVER
        } else {
            Duration::ZERO
        }
    }
}

impl Connection {
    /// Connects to one of the servers. `name` is the name of this client there.
    pub async fn open(servers: &Servers, name: &str) -> Result<Self> {
        let addresses = servers.addresses.join(", ");
        let state = Arc::new(State::default());
        let (noting, delaying) = (state.clone(), state.clone());
        let options = options(servers)?
            .name(name)
            .connection_timeout(CONNECT)
            .reconnect_delay_callback(move |_| delaying.delay())
            .event_callback(move |event| {
                noting.note(&event);
                std::future::ready(())
            });
        let connected = options.connect(servers.addresses.clone()).await;
        let client = connected.map_err(|error| cannot_connect(&addresses, &error))?;
        if !client.is_server_compatible(2, 9, 0) {
            return Err(Failure::Other(format!(
                "NATS at {addresses}: the server has version {}; use nats-server 2.9 or later",
                client.server_info().version
            )));
        }
        state.is_made.store(true, Ordering::Relaxed);
        let context = jetstream::context::ContextBuilder::new()
            .timeout(ANSWER)
            .max_ack_inflight(MOST_IN_FLIGHT)
            .build(client.clone());
        Ok(Self {
            client,
            context,
            addresses,
            state,
        })
    }

    /// # Errors
    ///
    /// The connection is lost.
    pub fn check(&self) -> Result<()> {
        if !self.state.is_lost.load(Ordering::Relaxed) {
            return Ok(());
        }
        let addresses = &self.addresses;
        Err(Failure::Other(format!(
            "NATS at {addresses}: the connection is lost; see whether the server runs"
        )))
    }

    /// Waits for this, as long as the connection exists. Everything that waits for the connection must be awaited here
    /// or have a time limit, because a lost connection answers nothing and takes nothing.
    pub async fn wait<T>(&self, awaited: impl Future<Output = T>) -> Result<T> {
        let mut awaited = pin!(awaited);
        loop {
            match tokio::time::timeout(LOOK, &mut awaited).await {
                Ok(value) => return Ok(value),
                Err(_) => self.check()?,
            }
        }
    }

    /// Waits until everything has been sent.
    pub async fn flush(&self) -> Result<()> {
        let flushed = tokio::time::timeout(SEND, self.client.flush());
        if matches!(self.wait(flushed).await?, Ok(Ok(()))) {
            return Ok(());
        }
        Err(Failure::Other(format!(
            "NATS at {}: the connection takes no message; see whether the server is there",
            self.addresses
        )))
    }

    /// The server's last complaint since the previous call.
    pub fn complaint(&self) -> Option<String> {
        let complaint = self.state.complaint.lock();
        complaint.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The largest body of a message. Headers take part of what the server allows.
    pub fn largest_body(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_BYTES)
    }
}

/// An upper bound for the headers of a message.
pub const HEADER_BYTES: usize = 2048;

fn options(servers: &Servers) -> Result<ConnectOptions> {
    let mut options = ConnectOptions::new();
    if let Some(path) = &servers.ca_file {
        options = options
            .add_root_certificates(path.clone())
            .require_tls(true);
    }
    if let (Some(certificate), Some(key)) = (&servers.certificate_file, &servers.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if let Some(path) = &servers.credentials_file {
        let wrong = |_: io::Error| {
            Failure::Other(format!(
                "{} is no file of credentials; use one that `nsc generate creds` has made",
                path.display()
            ))
        };
        // The parser wants the line break at the end.
        let text = format!("{}\n", secret(path)?);
        return options.credentials(&text).map_err(wrong);
    }
    if let Some(path) = &servers.nkey_file {
        return Ok(options.nkey(secret(path)?));
    }
    if let (Some(user), Some(path)) = (&servers.user, &servers.password_file) {
        return Ok(options.user_and_password(user.clone(), secret(path)?));
    }
    Ok(match &servers.token_file {
        Some(path) => options.token(secret(path)?),
        None => options,
    })
}

/// The contents of a file, without the last line break.
fn secret(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Failure::of_file("read", path, &error))?;
    Ok(text.trim_end().to_owned())
}

fn cannot_connect(addresses: &str, error: &ConnectError) -> Failure {
    let text = error.to_string();
    let (what, remedy) = if text.contains("certificate") || text.contains("UnknownIssuer") {
        (
            "the certificate is not accepted",
            "name the file with the certificate of its issuer in servers.ca_file, use an address that the certificate \
             has, and see whether the server wants a certificate_file of this client",
        )
    } else {
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => (
                "the server does not accept this client",
                "correct the secret that [nats.servers] names (credentials_file, nkey_file, user with password_file, or \
                 token_file)",
            ),
            ConnectErrorKind::Tls => (
                "no TLS connection can be made",
                "see whether the server has TLS at this port, and servers.ca_file, certificate_file and key_file",
            ),
            _ => (
                "no server can be reached",
                "start one, or correct servers.addresses",
            ),
        }
    };
    Failure::Other(format!("NATS at {addresses}: {what} ({text}); {remedy}"))
}

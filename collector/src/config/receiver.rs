//! The receiver of an output that sends over a socket.

use std::fmt;

use serde::Deserialize;

/// How an output sends.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    Udp,
    Tcp,
    /// Datagrams to a socket in the file system.
    Unix,
    /// A stream to a socket in the file system.
    UnixStream,
}

/// A receiver and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    pub transport: Transport,
    /// A host or an address with a port, or the path of a socket.
    pub address: String,
    /// The longest packet over UDP, with the headers of IP and UDP.
    pub mtu: u16,
}

/// The least `mtu`: every IPv4 host accepts packets of this length.
const LEAST_MTU: u16 = 576;

impl Transport {
    pub fn is_unix(self) -> bool {
        matches!(self, Self::Unix | Self::UnixStream)
    }

    pub fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::UnixStream)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Unix => "unix datagrams",
            Self::UnixStream => "a unix stream",
        })
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.address, self.transport)
    }
}

impl Receiver {
    /// Checks values that can be read but make no sense.
    pub fn check(&self) -> Result<(), String> {
        if self.mtu < LEAST_MTU {
            return Err(format!(
                "mtu = {}: use a number from {LEAST_MTU} to {}, such as 1500",
                self.mtu,
                u16::MAX
            ));
        }
        let address = &self.address;
        if self.transport.is_unix() {
            let is_path = address.starts_with('/') && address.len() < 108;
            return is_path.then_some(()).ok_or_else(|| {
                format!(
                    "address = {address:?}: use the path of a socket, such as \"/dev/log\", of at most 107 bytes; \
                     or another transport"
                )
            });
        }
        let wrong = |remedy: &str| Err(format!("address = {address:?}: {remedy}"));
        let Some((host, port)) = address.rsplit_once(':') else {
            return wrong("add the port, as in \"192.0.2.1:514\"");
        };
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        if host.contains(':') && !is_bracketed {
            return wrong("write an IPv6 address in brackets, as in \"[2001:db8::1]:514\"");
        }
        if host.is_empty() || host.contains('/') {
            return wrong("use a host or an address with a port, as in \"192.0.2.1:514\"");
        }
        match port.parse::<u16>() {
            Ok(0) | Err(_) => wrong("use a port from 1 to 65535"),
            Ok(_) => Ok(()),
        }
    }
}

//! Which events are received.

use std::io;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use nlring::{Protocol, Socket};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Conntrack,
    Route,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "conntrack" => Ok(Self::Conntrack),
            "route" => Ok(Self::Route),
            _ => Err(format!("there is no source {text}")),
        }
    }
}

impl Source {
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Conntrack => Protocol::NETFILTER,
            Self::Route => Protocol::ROUTE,
        }
    }

    pub fn groups(self) -> &'static [u32] {
        match self {
            Self::Conntrack => &[1, 2, 3], // NEW, UPDATE, DESTROY
            Self::Route => &[7, 11],       // IPv4 and IPv6
        }
    }

    pub fn open(self, buffer_bytes: usize) -> nlring::Result<Socket> {
        Socket::builder(self.protocol())
            .groups(self.groups().iter().copied())
            .recv_buffer_bytes(buffer_bytes)
            .no_enobufs(true)
            .open()
    }
}

/// Gives a rival's socket the options that ours has, also if its own API cannot set them.
pub fn level(rival: BorrowedFd<'_>, buffer_bytes: usize) -> io::Result<()> {
    let socket = Socket::try_from(rival.try_clone_to_owned()?)?;
    socket.set_recv_buffer_bytes(buffer_bytes)?;
    socket.set_no_enobufs(true)?;
    Ok(())
}

//! What makes events: the value of flood's and latency's SOURCE.

use std::fmt;

use clap::ValueEnum;

/// What makes the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum SourceKind {
    /// Datagrams that this program multicasts itself (NETLINK_USERSOCK, group 1); needs no root
    Usersock,
    /// Conntrack entries, made and removed by requests: NEW and DESTROY
    Conntrack,
    /// UDP flows over the loopback device, each removed by a request: NEW and DESTROY
    ConntrackFlows,
    /// TCP connections over the loopback device, made, reset and removed: NEW, three UPDATE and DESTROY
    ConntrackTcp,
    /// Conntrack entries, made one by one, then all removed by one request at the kernel's full speed
    ConntrackFlush,
    /// IPv4 routes over the loopback device, added and deleted
    Route,
}

impl SourceKind {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usersock => "usersock",
            Self::Conntrack => "conntrack",
            Self::ConntrackFlows => "conntrack-flows",
            Self::ConntrackTcp => "conntrack-tcp",
            Self::ConntrackFlush => "conntrack-flush",
            Self::Route => "route",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_shown_as_the_command_line_takes_it() {
        for source in SourceKind::value_variants() {
            assert_eq!(
                SourceKind::from_str(&source.to_string(), false),
                Ok(*source)
            );
        }
    }
}

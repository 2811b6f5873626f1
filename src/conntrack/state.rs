//! What a flow's tracker knows about it: the state of its protocol, and its packets and bytes.

use std::fmt;

use super::kernel::{cta_counters, cta_protoinfo};
use crate::message::Attributes;

/// The state of a connection, as the kernel's tracker of its protocol sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ProtocolState {
    /// One of [`tcp_state`](super::tcp_state).
    Tcp(u8),
    /// `enum sctp_conntrack` (`include/uapi/linux/netfilter/nf_conntrack_sctp.h`).
    Sctp(u8),
    /// `enum ct_dccp_states` (Linux v6.12, `include/linux/netfilter/nf_conntrack_dccp.h`).
    Dccp(u8),
}

impl ProtocolState {
    /// The state's name in the kernel, such as `"ESTABLISHED"`. None for a number that this version does not know.
    ///
    /// ```
    /// use nlring::conntrack::{ProtocolState, tcp_state};
    ///
    /// assert_eq!(ProtocolState::Tcp(tcp_state::SYN_SENT).name(), Some("SYN_SENT"));
    /// assert_eq!(ProtocolState::Tcp(99).name(), None);
    /// ```
    pub fn name(self) -> Option<&'static str> {
        let (names, number): (&[&'static str], u8) = match self {
            Self::Tcp(number) => (&TCP_STATES, number),
            Self::Sctp(number) => (&SCTP_STATES, number),
            Self::Dccp(number) => (&DCCP_STATES, number),
        };
        names.get(usize::from(number)).copied()
    }

    /// The state's number.
    #[inline]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp(number) | Self::Sctp(number) | Self::Dccp(number) => number,
        }
    }

    /// Reads `enum ctattr_protoinfo`, which holds the state of one protocol.
    #[inline]
    pub(super) fn decode(attributes: Attributes<'_>) -> Option<Self> {
        let protocol = { attributes }.next()?;
        let state = || protocol.nested().get(cta_protoinfo::STATE)?.as_u8();
        match protocol.attribute_type() {
            cta_protoinfo::TCP => state().map(Self::Tcp),
            cta_protoinfo::DCCP => state().map(Self::Dccp),
            cta_protoinfo::SCTP => state().map(Self::Sctp),
            _ => None,
        }
    }
}

/// The name, or the number where the name is not known.
impl fmt::Display for ProtocolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => fmt::Display::fmt(&self.number(), f),
        }
    }
}

/// The name of a state, which states of several protocols may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StateName(&'static str);

impl StateName {
    /// The name in upper case, if there is a state of this name in any case.
    pub fn find(name: &str) -> Option<Self> {
        let mut names = TCP_STATES.iter().chain(&SCTP_STATES).chain(&DCCP_STATES);
        let found = names.find(|known| known.eq_ignore_ascii_case(name));
        found.map(|name| Self(name))
    }

    /// The number of the state in TCP, SCTP and DCCP.
    pub fn numbers(self) -> [Option<u8>; 3] {
        [&TCP_STATES, &SCTP_STATES, &DCCP_STATES].map(|names| {
            let index = names.iter().position(|name| *name == self.0);
            index.and_then(|index| u8::try_from(index).ok())
        })
    }

    pub fn is_of(self, state: ProtocolState) -> bool {
        state.name() == Some(self.0)
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

const SCTP_STATES: [&str; 10] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
    "HEARTBEAT_ACKED",
];

const DCCP_STATES: [&str; 10] = [
    "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE",
    "INVALID",
];

/// The packets and bytes of one direction of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

impl Counters {
    /// Reads `enum ctattr_counters`. None unless both counters are present.
    #[inline]
    pub(super) fn decode(attributes: Attributes<'_>) -> Option<Self> {
        let (mut packets, mut bytes) = (None, None);
        for attribute in attributes {
            match attribute.attribute_type() {
                cta_counters::PACKETS => packets = attribute.as_be64(),
                cta_counters::BYTES => bytes = attribute.as_be64(),
                cta_counters::PACKETS_32 => packets = attribute.as_be32().map(u64::from),
                cta_counters::BYTES_32 => bytes = attribute.as_be32().map(u64::from),
                _ => {}
            }
        }
        Some(Self {
            packets: packets?,
            bytes: bytes?,
        })
    }
}

//! What distinguishes a flow from all others that exist at the same time, and its hash.

use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::net::IpAddr;

use super::{Flow, Key, Layer4, Tuple, Zone, ZoneDirection};

/// What distinguishes a flow from all others that exist at the same time: its key and, if it lost a NAT race, its reply
/// tuple.
///
/// Two flows have the same original tuple and zone if two packets of one socket start flows at the same moment, and NAT
/// gives each a different reply tuple. The kernel keeps both, and marks the second with
/// [`NAT_CLASH`](super::status::NAT_CLASH) before any event of it. That bit never changes, and reply tuples are unique
/// (Linux v6.18, net/netfilter/nf_conntrack_core.c, `nf_ct_resolve_clash_harder`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub key: Key,
    /// The reply tuple of a flow that lost a NAT race.
    pub clash_reply: Option<Tuple>,
}

impl Identity {
    #[inline]
    pub(super) fn of(flow: &Flow<'_>) -> Self {
        Self {
            key: flow.key(),
            clash_reply: flow.reply.filter(|_| flow.is_nat_clash()),
        }
    }

    /// The key with which the kernel finds the flow. It finds the loser of a NAT race by the reply tuple only.
    pub(super) fn question(&self) -> Key {
        let zone_of_reply = |Zone { id, direction }| match direction {
            ZoneDirection::Both | ZoneDirection::Reply => Some(Zone::new(id, ZoneDirection::Both)),
            ZoneDirection::Orig => None,
        };
        match self.clash_reply {
            None => self.key,
            Some(reply) => Key {
                orig: reply,
                zone: self.key.zone.and_then(zone_of_reply),
            },
        }
    }

    #[inline]
    pub(super) fn hash(&self, hasher: &RandomState) -> u64 {
        self.state(hasher).finish()
    }

    /// The hash of the identity and the id. Together they identify one lifetime, unless the kernel reuses the id.
    #[inline]
    pub(super) fn hash_with_id(&self, hasher: &RandomState, id: Option<u32>) -> u64 {
        let mut state = self.state(hasher);
        state.write_u64(id.map_or(0, |id| 1 << 32 | u64::from(id)));
        state.finish()
    }

    #[inline]
    fn state(&self, hasher: &RandomState) -> DefaultHasher {
        let mut state = hasher.build_hasher();
        write_tuple(&mut state, &self.key.orig, self.key.zone);
        if let Some(reply) = &self.clash_reply {
            write_tuple(&mut state, reply, None);
        }
        state
    }
}

/// An ordinary flow of this key.
impl From<Key> for Identity {
    fn from(key: Key) -> Self {
        Self {
            key,
            clash_reply: None,
        }
    }
}

/// The hash of a tuple in a zone.
pub(super) fn hash_tuple(hasher: &RandomState, tuple: &Tuple, zone: Option<Zone>) -> u64 {
    let mut state = hasher.build_hasher();
    write_tuple(&mut state, tuple, zone);
    state.finish()
}

#[inline]
fn write_tuple(state: &mut DefaultHasher, tuple: &Tuple, zone: Option<Zone>) {
    match (tuple.src, tuple.dst) {
        // The usual case, in few steps.
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            state.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
        }
        addresses => addresses.hash(state),
    }
    let (kind, layer4) = match tuple.layer4 {
        Layer4::None => (0, 0),
        Layer4::Ports { src, dst } => (1, u32::from(src) << 16 | u32::from(dst)),
        Layer4::Icmp {
            icmp_type,
            code,
            id,
        } => (
            2,
            u32::from_be_bytes([icmp_type, code, 0, 0]) | u32::from(id),
        ),
    };
    let (direction, zone) = match zone {
        None => (0, 0),
        Some(Zone { id, direction }) => match direction {
            ZoneDirection::Both => (4, id),
            ZoneDirection::Orig => (8, id),
            ZoneDirection::Reply => (12, id),
        },
    };
    let [a, b] = zone.to_be_bytes();
    let rest = u32::from_be_bytes([tuple.protocol, kind | direction, a, b]);
    state.write_u64(u64::from(layer4) << 32 | u64::from(rest));
}

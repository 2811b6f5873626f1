//! What is kept of a flow.

use crate::conntrack::identity::Identity;
use crate::conntrack::{EventKind, Flow, Key, ProtocolState, Tuple, Zone, status};
use crate::route::family;

/// Not told, or further away than the clock reaches.
const NEVER: u32 = u32::MAX;

/// A flow as the mirror keeps it: nothing of it is on the heap by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub orig: Tuple,
    pub reply: Option<Tuple>,
    pub zone: Option<Zone>,
    pub id: Option<u32>,
    pub mark: u32,
    pub status: u32,
    pub state: Option<ProtocolState>,
    /// When it ends, if no packet comes, on the mirror's clock.
    pub expires_seconds: u32,
}

impl Entry {
    pub(super) fn of(flow: &Flow<'_>, now_seconds: u32) -> Self {
        Self {
            orig: flow.orig,
            reply: flow.reply,
            zone: flow.zone,
            id: flow.id,
            mark: flow.mark.unwrap_or(0),
            status: flow.status.unwrap_or(0),
            state: flow.state,
            expires_seconds: expiry(flow.timeout_seconds, now_seconds).unwrap_or(NEVER),
        }
    }

    /// Takes over what an event tells. A mark that it leaves out is 0; what else it leaves out has not changed (Linux
    /// v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_conntrack_event`).
    pub(super) fn update(&mut self, flow: &Flow<'_>, now_seconds: u32) {
        self.reply = flow.reply.or(self.reply);
        self.id = flow.id.or(self.id);
        self.mark = flow.mark.unwrap_or(0);
        self.status = flow.status.unwrap_or(self.status);
        self.state = flow.state.or(self.state);
        if let Some(expires_seconds) = expiry(flow.timeout_seconds, now_seconds) {
            self.expires_seconds = expires_seconds;
        }
    }

    pub(super) fn key(&self) -> Key {
        Key {
            orig: self.orig,
            zone: self.zone,
        }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            key: self.key(),
            clash_reply: self.clash_reply(),
        }
    }

    pub(super) fn has_identity(&self, identity: &Identity) -> bool {
        self.orig == identity.key.orig
            && self.zone == identity.key.zone
            && self.clash_reply() == identity.clash_reply
    }

    fn clash_reply(&self) -> Option<Tuple> {
        self.reply.filter(|_| self.status & status::NAT_CLASH != 0)
    }

    pub(super) fn is_dying(&self) -> bool {
        self.status & status::DYING != 0
    }

    /// Whether it may be the same lifetime of the flow.
    pub(super) fn is_id(&self, id: Option<u32>) -> bool {
        self.id == id || self.id.is_none() || id.is_none()
    }

    /// Whether nothing differs but the time that is left, which passes by itself.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let expires_seconds = self.expires_seconds;
        *self
            == Self {
                expires_seconds,
                ..*other
            }
    }

    /// Whether it cannot be what an earlier one has become: the kernel takes back no bit of the status (Linux v6.18,
    /// net/netfilter/nf_conntrack_netlink.c, `ctnetlink_change_status`).
    pub(super) fn lacks_status_of(&self, earlier: &Self) -> bool {
        earlier.status & !self.status != 0
    }

    /// The same by the reply tuple, which never changes.
    pub(super) fn has_other_reply_than(&self, earlier: &Self) -> bool {
        self.reply.is_some() && earlier.reply.is_some() && self.reply != earlier.reply
    }

    /// Whether it has been over for so long that the kernel must be asked about it.
    pub(super) fn is_overdue(&self, now_seconds: u32, grace_seconds: u32) -> bool {
        self.expires_seconds.saturating_add(grace_seconds) < now_seconds
    }

    pub(super) fn to_flow(self, kind: EventKind, now_seconds: u32) -> Flow<'static> {
        let left_seconds = self.expires_seconds.saturating_sub(now_seconds);
        Flow {
            kind,
            port_id: 0,
            family: if self.orig.src.is_ipv4() {
                family::INET
            } else {
                family::INET6
            },
            orig: self.orig,
            reply: self.reply,
            master: None,
            status: Some(self.status),
            state: self.state,
            timeout_seconds: (self.expires_seconds != NEVER).then_some(left_seconds),
            mark: (self.mark != 0).then_some(self.mark),
            secmark: None,
            secctx: None,
            zone: self.zone,
            id: self.id,
            use_count: None,
            counters_orig: None,
            counters_reply: None,
            start_ns: None,
            stop_ns: None,
            event_ns: None,
            labels: None,
            helper: None,
        }
    }
}

fn expiry(timeout_seconds: Option<u32>, now_seconds: u32) -> Option<u32> {
    timeout_seconds.map(|timeout| now_seconds.saturating_add(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small() {
        assert!(size_of::<Entry>() <= 112);
    }
}

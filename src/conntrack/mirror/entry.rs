//! What is kept of a flow.

use super::details::Details;
use super::table::bits;
use crate::conntrack::identity::Identity;
use crate::conntrack::{Flow, Key, ProtocolState, Tuple, Zone, status};
use crate::event_kind::EventKind;
use crate::timestamp::Timestamp;

/// The time is not known, or is later than the clock can represent.
const NEVER: u32 = u32::MAX;

/// When a flow began, if that is known: `CLOCK_REALTIME`, nanoseconds since 1970. The highest bit is set if the kernel
/// did not report it. The time is then when the mirror received the flow's NEW event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start(u64);

impl Start {
    const UNKNOWN: Self = Self(0);
    const OBSERVED: u64 = 1 << 63;

    fn of(flow: &Flow<'_>) -> Self {
        let reported = flow
            .start
            .map(Timestamp::as_ns)
            .filter(|ns| ns & Self::OBSERVED == 0);
        reported.map_or(Self::UNKNOWN, Self)
    }

    fn observed_at(received: Timestamp) -> Self {
        Self(received.as_ns() | Self::OBSERVED)
    }

    /// The better of two starts: the one that the kernel reports, otherwise the earlier observation.
    fn or(self, earlier: Self) -> Self {
        if self.reported_ns().is_some() || earlier == Self::UNKNOWN {
            self
        } else {
            earlier
        }
    }

    fn reported_ns(self) -> Option<u64> {
        (self != Self::UNKNOWN && self.0 & Self::OBSERVED == 0).then_some(self.0)
    }

    /// 0: it is not known.
    pub(super) fn ns(self) -> u64 {
        self.0 & !Self::OBSERVED
    }

    pub(super) fn observed(self) -> Option<Timestamp> {
        (self.0 & Self::OBSERVED != 0).then_some(Timestamp::from_ns(self.0 & !Self::OBSERVED))
    }
}

/// All that the mirror keeps of a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub entry: Entry,
    pub details: Details,
}

impl Known {
    #[inline]
    pub(super) fn of(flow: &Flow<'_>, now_seconds: u32) -> Self {
        Self {
            entry: Entry::of(flow, now_seconds),
            details: Details::of(flow),
        }
    }

    pub(super) fn as_flow(&self, kind: EventKind, now_seconds: u32) -> Flow<'_> {
        let mut flow = self.entry.to_flow(kind, now_seconds);
        self.details.add_to(&mut flow);
        flow
    }

    /// The flow as it begins, with an event that may lack parts of it.
    pub(super) fn begun_with<'a>(&'a self, event: &Flow<'a>, now_seconds: u32) -> Flow<'a> {
        Flow {
            secctx: event.secctx,
            event_time: event.event_time,
            port_id: event.port_id,
            ..self.as_flow(EventKind::New, now_seconds)
        }
    }

    /// Whether both have the same values of everything that events report.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.entry.is_same(&other.entry) && self.details.is_same(&other.details)
    }

    /// Applies what a dump says about the same lifetime, except for what `reported` names: events have reported that
    /// since the dump began.
    pub(super) fn add_unreported(&mut self, dumped: &Self, reported: u8) {
        if !self.entry.is_lifetime_of(&dumped.entry) {
            return;
        }
        let (entry, details) = (&mut self.entry, &mut self.details);
        entry.start = dumped.entry.start.or(entry.start);
        if reported & bits::REPORTED_STATE == 0 {
            entry.state = dumped.entry.state.or(entry.state);
        }
        details.counters = dumped.details.counters.or(details.counters);
        if reported & bits::REPORTED_LABELS == 0 {
            details.labels = dumped.details.labels;
        }
        if reported & bits::REPORTED_HELPER == 0 {
            details.helper = dumped.details.helper;
        }
        details.master = dumped.details.master.or(details.master);
    }
}

/// What the mirror keeps of each flow. No part of it is allocated by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub orig: Tuple,
    pub reply: Option<Tuple>,
    pub zone: Option<Zone>,
    pub id: Option<u32>,
    pub mark: u32,
    pub status: u32,
    pub state: Option<ProtocolState>,
    /// When the flow ends if no packet arrives, on the mirror's clock.
    pub expires_seconds: u32,
    pub start: Start,
}

impl Entry {
    pub(super) fn of(flow: &Flow<'_>, now_seconds: u32) -> Self {
        Self {
            orig: flow.orig,
            reply: flow.reply,
            zone: flow.zone,
            id: flow.id,
            mark: flow.mark.unwrap_or(0),
            status: match flow.reply {
                Some(_) => flow.status.unwrap_or(0),
                None => flow.status.unwrap_or(0) & !status::NAT_CLASH, // no kernel leaves out that reply
            },
            state: flow.state,
            expires_seconds: expiry(flow.timeout_seconds, now_seconds).unwrap_or(NEVER),
            start: Start::of(flow),
        }
    }

    /// Applies what an event of this identity reports. A mark that the event leaves out is 0; everything else that it
    /// leaves out has not changed (Linux v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_conntrack_event`).
    /// Whether the flow lost a NAT race never changes, and is part of its identity.
    pub(super) fn update(&mut self, flow: &Flow<'_>, now_seconds: u32) {
        self.reply = flow.reply.or(self.reply);
        self.id = flow.id.or(self.id);
        self.mark = flow.mark.unwrap_or(0);
        let status = flow.status.unwrap_or(self.status);
        self.status = status & !status::NAT_CLASH | self.status & status::NAT_CLASH;
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

    /// Whether this may be the lifetime with that id. An unknown id fits any lifetime.
    pub(super) fn is_id(&self, id: Option<u32>) -> bool {
        self.id == id || self.id.is_none() || id.is_none()
    }

    /// Whether two entries of one identity may be of the same lifetime, whichever is older. The id and what never
    /// changes must be the same, and so must the starts if the kernel reports them.
    pub(super) fn is_lifetime_of(&self, other: &Self) -> bool {
        let starts = self.start.reported_ns().zip(other.start.reported_ns());
        self.is_id(other.id)
            && !self.has_other_reply_than(other)
            && starts.is_none_or(|(start, other)| start == other)
    }

    /// Whether this may be what an earlier entry of the same identity has become.
    pub(super) fn may_follow(&self, earlier: &Self) -> bool {
        self.is_lifetime_of(earlier) && !self.lacks_status_of(earlier)
    }

    /// Records when the flow's NEW event arrived.
    pub(super) fn observe_start(&mut self, received: Timestamp) {
        self.start = Start::observed_at(received).or(self.start);
    }

    /// Applies what the kernel now says about the same lifetime.
    pub(super) fn correct(&mut self, answer: &Self) {
        let start = answer.start.or(self.start);
        *self = Self { start, ..*answer };
    }

    /// Copies what no event reports from an entry that [is the same](Self::is_same).
    pub(super) fn absorb(&mut self, dumped: &Self) {
        self.expires_seconds = dumped.expires_seconds;
        self.start = dumped.start.or(self.start);
    }

    /// Whether both have the same values of everything that events report. The remaining time is left out, because it
    /// passes by itself.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (expires_seconds, start) = (self.expires_seconds, self.start);
        *self
            == Self {
                expires_seconds,
                start,
                ..*other
            }
    }

    /// Whether a missing status bit proves that this is not what an earlier entry has become: the kernel clears no bit
    /// of the status (Linux v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_change_status`), except when a flow
    /// table releases a flow (net/netfilter/nf_flow_table_core.c, `flow_offload_teardown`).
    pub(super) fn lacks_status_of(&self, earlier: &Self) -> bool {
        const CLEARED: u32 = status::OFFLOAD | status::HW_OFFLOAD;
        earlier.status & !self.status & !CLEARED != 0
    }

    /// Whether the reply tuples prove that this is not what an earlier entry has become: they never change.
    pub(super) fn has_other_reply_than(&self, earlier: &Self) -> bool {
        self.reply.is_some() && earlier.reply.is_some() && self.reply != earlier.reply
    }

    /// Whether the flow's time has been over for more than this, so that the kernel must be asked about the flow.
    pub(super) fn is_overdue(&self, now_seconds: u32, grace_seconds: u32) -> bool {
        self.expires_seconds.saturating_add(grace_seconds) < now_seconds
    }

    pub(super) fn to_flow(self, kind: EventKind, now_seconds: u32) -> Flow<'static> {
        let left_seconds = self.expires_seconds.saturating_sub(now_seconds);
        Flow {
            kind,
            port_id: 0,
            family: self.orig.family(),
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
            start: self.start.reported_ns().map(Timestamp::from_ns),
            observed_start: self.start.observed(),
            stop: None,
            event_time: None,
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
    use crate::conntrack::Layer4;

    /// An event without the reply tuple can neither make its flow the loser of a NAT race nor undo this.
    #[test]
    fn no_update_changes_an_identity() {
        let orig = Tuple::new([10, 0, 0, 1].into(), [9; 4].into(), 6, Layer4::None);
        let mut entry = Entry {
            orig,
            reply: orig.reversed(),
            zone: None,
            id: Some(7),
            mark: 0,
            status: status::CONFIRMED,
            state: None,
            expires_seconds: 600,
            start: Start::UNKNOWN,
        };
        for status in [status::CONFIRMED, status::CONFIRMED | status::NAT_CLASH] {
            entry.status = status;
            let identity = entry.identity();
            let mut event = entry.to_flow(EventKind::Update, 0);
            event.reply = None;
            event.status = Some(status ^ status::NAT_CLASH | status::ASSURED);
            entry.update(&event, 0);
            assert_eq!(entry.identity(), identity);
            assert_eq!(entry.status, status | status::ASSURED);
        }
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 120);
    }
}

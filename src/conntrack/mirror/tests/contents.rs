//! Tests of what a mirror keeps of a flow, and of what a round reports although no event was lost.

use super::super::Change;
use super::super::follow::Follower;
use super::kernel::key_of;
use super::no_resync;
use crate::conntrack::{Counters, Flow, status};
use crate::event_kind::EventKind;
use crate::message::{MessageBuilder, Messages, flags};
use crate::mirror::{Slice, Table as _};
use crate::timestamp::Timestamp;

const ID: u32 = 7;

/// The fields of a message about the flow.
#[derive(Clone, Copy, Default)]
struct Fields {
    id: u32,
    status: u32,
    is_offloaded: bool,
    packets: Option<u64>,
    start_ns: Option<u64>,
    stop_ns: Option<u64>,
    label: Option<u8>,
    helper: Option<&'static str>,
}

const PLAIN: Fields = Fields {
    id: ID,
    status: status::CONFIRMED,
    is_offloaded: false,
    packets: None,
    start_ns: None,
    stop_ns: None,
    label: None,
    helper: None,
};

const WHOLE: Fields = Fields {
    packets: Some(5),
    start_ns: Some(1000),
    label: Some(3),
    helper: Some("ftp"),
    ..PLAIN
};

/// A message about the flow with these labels. `None`: it has no labels.
pub(super) fn message_with_labels(kind: EventKind, label: Option<u8>) -> Vec<u8> {
    message(kind, Fields { label, ..PLAIN })
}

fn message(kind: EventKind, fields: Fields) -> Vec<u8> {
    let (message_type, flags) = match kind {
        EventKind::New => (0x100, flags::CREATE),
        EventKind::Update => (0x100, 0),
        EventKind::Delete => (0x102, 0),
        EventKind::Entry => (0x100, flags::MULTI),
    };
    let (orig, mut bytes) = (key_of(1).orig, Vec::new());
    let reply = orig.reversed().unwrap();
    let mut message = MessageBuilder::new(&mut bytes, message_type, flags)
        .bytes(&[2, 0, 0, 0])
        .nested(1, |tuple| orig.put(tuple, None))
        .nested(2, |tuple| reply.put(tuple, None))
        .attribute_be32(12, fields.id);
    message = if fields.is_offloaded {
        message.attribute_be32(3, fields.status | status::OFFLOAD)
    } else {
        message
            .attribute_be32(3, fields.status)
            .attribute_be32(7, 60)
    };
    if let Some(packets) = fields.packets {
        for direction in [9, 10] {
            message = message.nested(direction, |counters| {
                counters
                    .attribute_be64(1, packets)
                    .attribute_be64(2, 100 * packets)
            });
        }
    }
    if fields.start_ns.is_some() || fields.stop_ns.is_some() {
        message = message.nested(20, |times| {
            let times = match fields.start_ns {
                Some(start_ns) => times.attribute_be64(1, start_ns),
                None => times,
            };
            match fields.stop_ns {
                Some(stop_ns) => times.attribute_be64(2, stop_ns),
                None => times,
            }
        });
    }
    if let Some(label) = fields.label {
        let mut labels = [0; 16];
        labels[0] = label;
        message = message.attribute(22, &labels);
    }
    if let Some(helper) = fields.helper {
        message = message.nested(5, |help| help.attribute_str_nul(1, helper));
    }
    message.finish().unwrap();
    bytes
}

/// A reported event: kind, whether a round made it up, packets, start, observed start, labels, helper.
type Report = (
    EventKind,
    bool,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u8>,
    Option<String>,
);

fn report_of(flow: &Flow<'_>, is_resynced: bool) -> Report {
    let packets = |counters: Option<Counters>| counters.map(|counters| counters.packets);
    assert_eq!(packets(flow.counters_orig), packets(flow.counters_reply));
    (
        flow.kind,
        is_resynced,
        packets(flow.counters_orig),
        flow.start.map(Timestamp::as_ns),
        flow.observed_start.map(Timestamp::as_ns),
        flow.labels.map(|labels| labels[0]),
        flow.helper
            .map(|helper| String::from_utf8(helper.to_vec()).unwrap()),
    )
}

struct Case {
    follower: Follower,
    reported: Vec<Report>,
    /// NEW, UPDATE and DESTROY events that rounds have made up.
    counts: [u64; 3],
}

impl Case {
    fn new() -> Self {
        let mut follower = Follower::new();
        follower.held.end();
        follower.end_holding(&mut Slice::endless(), &mut |_| {});
        Self {
            follower,
            reported: Vec::new(),
            counts: [0; 3],
        }
    }

    fn feed(&mut self, kind: EventKind, fields: Fields) {
        let bytes = message(kind, fields);
        let (follower, all) = (&mut self.follower, &mut self.reported);
        let message = Messages::new(&bytes).next().unwrap();
        follower.feed(&message, true, &mut |change| record(all, &change));
    }

    /// Runs a round although nothing was lost. Its dump has the flow with these fields, or not at all; `events` come
    /// during the dump.
    fn round(&mut self, dumped: Option<Fields>, events: impl FnOnce(&mut Self)) {
        self.follower.clear(&mut Slice::endless());
        self.follower.begin_dump();
        events(self);
        if let Some(fields) = dumped {
            let bytes = message(EventKind::Update, fields);
            let message = Messages::new(&bytes).next().unwrap();
            self.follower.feed_dumped(&message);
        }
        self.follower.begin_merge();
        let all = &mut self.reported;
        while !(self.follower).merge(&mut Slice::endless(), &mut |change| record(all, &change)) {}
        let mut resync = no_resync();
        let found_count = self.follower.finish();
        self.follower.count_in(&mut resync);
        self.counts = [resync.new_count, resync.update_count, resync.destroy_count];
        assert!(found_count <= self.counts.iter().sum()); // events that replace others are not counted as found
    }

    fn take_reported(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reported)
    }

    /// What the mirror keeps of the flow now.
    fn kept(&self) -> Report {
        let slot = self.follower.flows.live_from(0).next().unwrap();
        report_of(&self.follower.flows.flow(slot, EventKind::Update, 0), false)
    }
}

fn record(all: &mut Vec<Report>, change: &Change<'_>) {
    if let Change::Flow {
        flow, is_resynced, ..
    } = change
    {
        all.push(report_of(flow, *is_resynced));
    }
}

fn ftp() -> String {
    "ftp".to_owned()
}

#[test]
fn every_detail_in_a_dump_is_kept_and_reported() {
    use EventKind::{Delete, New, Update};

    let mut case = Case::new();
    case.round(Some(WHOLE), |_| {});
    let (packets, start) = (Some(5), Some(1000));
    let begun = (New, true, packets, start, None, Some(3), Some(ftp()));
    assert_eq!(
        (case.take_reported(), case.counts),
        (vec![begun], [1, 0, 0])
    );
    assert_eq!(
        case.kept(),
        (Update, false, packets, start, None, Some(3), Some(ftp()))
    );
    // Counters change without an event. The mirror keeps the dump's counters, and reports nothing.
    let later = Fields {
        packets: Some(6),
        ..WHOLE
    };
    case.round(Some(later), |_| {});
    assert_eq!((case.take_reported(), case.counts), (vec![], [0; 3]));
    assert_eq!(case.kept().2, Some(6));
    // The flow has ended. Its last counters are unknown.
    case.round(None, |_| {});
    let ended = (Delete, true, None, start, None, Some(3), Some(ftp()));
    assert_eq!(
        (case.take_reported(), case.counts),
        (vec![ended], [0, 0, 1])
    );
}

#[test]
fn a_difference_that_no_event_reported_is_an_update() {
    let mut case = Case::new();
    case.feed(EventKind::New, PLAIN);
    let differences = [
        Fields {
            is_offloaded: true,
            ..PLAIN
        },
        PLAIN, // no longer offloaded
        Fields {
            status: PLAIN.status | status::SEEN_REPLY,
            ..PLAIN
        },
        Fields {
            status: PLAIN.status | status::SEEN_REPLY,
            label: Some(1),
            ..PLAIN
        },
        Fields {
            status: PLAIN.status | status::SEEN_REPLY,
            helper: Some("sip"),
            ..PLAIN
        },
    ];
    for dumped in differences {
        case.reported.clear();
        case.round(Some(dumped), |_| {});
        assert_eq!(case.counts, [0, 1, 0]);
        assert_eq!(case.reported.len(), 1);
        let (kind, is_resynced, .., labels, helper) = &case.reported[0];
        assert_eq!((*kind, *is_resynced), (EventKind::Update, true));
        assert_eq!((*labels, helper.as_deref()), (dumped.label, dumped.helper));
        let flow = case.follower.flows.live().next().unwrap();
        let is_offloaded = flow.status & status::OFFLOAD != 0;
        assert_eq!(is_offloaded, dumped.is_offloaded);
        // An offloaded flow's timeout does not run.
        assert_eq!(flow.is_overdue(1_000_000, 2), !is_offloaded);
        case.round(Some(dumped), |_| {});
        assert_eq!((case.reported.len(), case.counts), (1, [0; 3]), "once");
    }
}

#[test]
fn an_event_during_a_dump_counts_more_than_the_dump() {
    let mut case = Case::new();
    case.feed(EventKind::New, PLAIN);
    case.reported.clear();
    let update = Fields {
        label: Some(8),
        ..PLAIN
    };
    case.round(Some(WHOLE), |case| case.feed(EventKind::Update, update));
    let updated = (EventKind::Update, false, None, None, None, Some(8), None);
    let helped = (
        EventKind::Update,
        true,
        Some(5),
        Some(1000),
        None,
        Some(8),
        Some(ftp()),
    );
    assert_eq!(
        (case.take_reported(), case.counts),
        (vec![updated, helped], [0, 1, 0])
    );
    // An UPDATE of a flow whose NEW was never received. The dump has the other fields.
    let mut case = Case::new();
    case.round(Some(WHOLE), |case| {
        let bytes = message(EventKind::Update, WHOLE);
        let message = Messages::new(&bytes).next().unwrap();
        case.follower.feed_dumped(&message);
        case.feed(EventKind::Update, update);
    });
    let begun = (
        EventKind::New,
        true,
        Some(5),
        Some(1000),
        None,
        Some(8),
        Some(ftp()),
    );
    assert_eq!(
        (case.take_reported(), case.counts),
        (vec![begun], [1, 0, 0])
    );
}

#[test]
fn another_start_is_another_lifetime_even_with_the_same_id() {
    use EventKind::{Delete, New};

    let mut case = Case::new();
    case.round(Some(WHOLE), |_| {});
    case.reported.clear();
    let successor = Fields {
        start_ns: Some(2000),
        ..WHOLE
    };
    case.round(Some(successor), |_| {});
    let kinds: Vec<_> = case
        .reported
        .iter()
        .map(|reported| (reported.0, reported.3))
        .collect();
    assert_eq!(kinds, [(Delete, Some(1000)), (New, Some(2000))]);
    // The kernel never clears SEEN_REPLY, so a flow without it is another lifetime too.
    case.reported.clear();
    let mut plain = Case::new();
    let answered = Fields {
        status: PLAIN.status | status::SEEN_REPLY,
        ..PLAIN
    };
    plain.round(Some(answered), |_| {});
    plain.round(Some(PLAIN), |_| {});
    let kinds: Vec<_> = plain.reported.iter().map(|reported| reported.0).collect();
    assert_eq!(kinds, [New, Delete, New]);
}

#[test]
fn an_end_says_when_the_mirror_saw_the_flow_begin() {
    let mut case = Case::new();
    case.follower.received_at = Timestamp::from_ns(50);
    case.feed(EventKind::New, PLAIN);
    case.follower.received_at = Timestamp::from_ns(60);
    case.feed(EventKind::New, PLAIN); // the kernel sends it again for another program
    case.round(Some(PLAIN), |_| {});
    case.feed(EventKind::Delete, PLAIN);
    assert_eq!(case.reported.last().unwrap().4, Some(50));
    // The kernel's own time replaces the observed one.
    case.feed(EventKind::New, PLAIN);
    let ended = Fields {
        start_ns: Some(40),
        stop_ns: Some(70),
        ..PLAIN
    };
    case.feed(EventKind::Delete, ended);
    let last = case.reported.last().unwrap();
    assert_eq!((last.3, last.4), (Some(40), None));
    // A flow from before the mirror has neither.
    case.round(Some(PLAIN), |_| {});
    case.feed(EventKind::Delete, Fields { id: 9, ..PLAIN });
    case.feed(EventKind::Delete, PLAIN);
    let last = case.reported.last().unwrap();
    assert_eq!((last.0, last.3, last.4), (EventKind::Delete, None, None));
}

#[test]
fn a_held_event_keeps_its_time_of_receipt() {
    let mut case = Case {
        follower: Follower::new(),
        reported: Vec::new(),
        counts: [0; 3],
    };
    case.follower.received_at = Timestamp::from_ns(50);
    case.feed(EventKind::New, PLAIN);
    case.follower.received_at = Timestamp::from_ns(90);
    case.round(Some(PLAIN), |_| {});
    case.feed(EventKind::Delete, PLAIN);
    let reported: Vec<_> = case
        .reported
        .iter()
        .map(|reported| (reported.0, reported.4))
        .collect();
    let both = [(EventKind::New, None), (EventKind::Delete, Some(50))];
    assert_eq!(reported, both);
}

#[test]
fn a_held_event_is_handed_out_with_its_time_of_receipt() {
    let mut follower = Follower::new();
    follower.begin_dump();
    let ended = Fields {
        status: PLAIN.status | status::DYING,
        ..PLAIN
    };
    for (time, kind, fields) in [(50, EventKind::New, PLAIN), (70, EventKind::Delete, ended)] {
        follower.received_at = Timestamp::from_ns(time);
        let bytes = message(kind, fields);
        let message = Messages::new(&bytes).next().unwrap();
        follower.feed(&message, true, &mut |_| panic!("it is held"));
    }
    follower.received_at = Timestamp::from_ns(90);
    follower.begin_merge();
    let mut times = Vec::new();
    let mut note = |change: Change<'_>| {
        if let Change::Flow { received_at, .. } = change {
            times.push(received_at.as_ns());
        }
    };
    while !follower.merge(&mut Slice::endless(), &mut note) {}
    assert_eq!(times, [50, 70]);
}

#[test]
fn an_entry_of_somebodys_dump_counts_as_an_update() {
    let mut case = Case::new();
    case.feed(EventKind::Entry, PLAIN);
    let changed = Fields {
        status: PLAIN.status | status::SEEN_REPLY,
        ..PLAIN
    };
    case.feed(EventKind::Entry, changed);
    let kinds: Vec<_> = case.reported.iter().map(|reported| reported.0).collect();
    assert_eq!(kinds, [EventKind::New, EventKind::Update]);
}

//! Tests of what is kept of a flow, and of what a round reports though no event was lost.

use super::super::Change;
use super::super::follow::Follower;
use super::kernel::key_of;
use super::no_resync;
use crate::conntrack::time::to_ns;
use crate::conntrack::{Counters, Flow, status};
use crate::event_kind::EventKind;
use crate::message::{MessageBuilder, Messages, flags};
use crate::mirror::{Slice, Table as _};

const ID: u32 = 7;

/// What a message says of the flow.
#[derive(Clone, Copy, Default)]
struct Said {
    id: u32,
    status: u32,
    is_offloaded: bool,
    packets: Option<u64>,
    start_ns: Option<u64>,
    stop_ns: Option<u64>,
    label: Option<u8>,
    helper: Option<&'static str>,
}

const PLAIN: Said = Said {
    id: ID,
    status: status::CONFIRMED,
    is_offloaded: false,
    packets: None,
    start_ns: None,
    stop_ns: None,
    label: None,
    helper: None,
};

const WHOLE: Said = Said {
    packets: Some(5),
    start_ns: Some(1000),
    label: Some(3),
    helper: Some("ftp"),
    ..PLAIN
};

fn message(kind: EventKind, said: Said) -> Vec<u8> {
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
        .attribute_be32(12, said.id);
    message = if said.is_offloaded {
        message.attribute_be32(3, said.status | status::OFFLOAD)
    } else {
        message.attribute_be32(3, said.status).attribute_be32(7, 60)
    };
    if let Some(packets) = said.packets {
        for direction in [9, 10] {
            message = message.nested(direction, |counters| {
                counters
                    .attribute_be64(1, packets)
                    .attribute_be64(2, 100 * packets)
            });
        }
    }
    if said.start_ns.is_some() || said.stop_ns.is_some() {
        message = message.nested(20, |times| {
            let times = match said.start_ns {
                Some(start_ns) => times.attribute_be64(1, start_ns),
                None => times,
            };
            match said.stop_ns {
                Some(stop_ns) => times.attribute_be64(2, stop_ns),
                None => times,
            }
        });
    }
    if let Some(label) = said.label {
        let mut labels = [0; 16];
        labels[0] = label;
        message = message.attribute(22, &labels);
    }
    if let Some(helper) = said.helper {
        message = message.nested(5, |help| help.attribute_str_nul(1, helper));
    }
    message.finish().unwrap();
    bytes
}

/// What is handed out of a flow: kind, whether it is made up, packets, when it began, when that was observed, labels, helper.
type Told = (
    EventKind,
    bool,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u8>,
    Option<String>,
);

fn told(flow: &Flow<'_>, is_resynced: bool) -> Told {
    let packets = |counters: Option<Counters>| counters.map(|counters| counters.packets);
    assert_eq!(packets(flow.counters_orig), packets(flow.counters_reply));
    (
        flow.kind,
        is_resynced,
        packets(flow.counters_orig),
        flow.start.map(to_ns),
        flow.observed_start.map(to_ns),
        flow.labels.map(|labels| labels[0]),
        flow.helper
            .map(|helper| String::from_utf8(helper.to_vec()).unwrap()),
    )
}

struct Case {
    follower: Follower,
    told: Vec<Told>,
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
            told: Vec::new(),
            counts: [0; 3],
        }
    }

    fn feed(&mut self, kind: EventKind, said: Said) {
        let bytes = message(kind, said);
        let (follower, all) = (&mut self.follower, &mut self.told);
        let message = Messages::new(&bytes).next().unwrap();
        follower.feed(&message, true, &mut |change| hear(all, &change));
    }

    /// A round, though nothing was lost: a dump that says this, and meanwhile events.
    fn round(&mut self, dumped: Option<Said>, events: impl FnOnce(&mut Self)) {
        self.follower.clear(&mut Slice::endless());
        self.follower.begin_dump();
        events(self);
        if let Some(said) = dumped {
            let bytes = message(EventKind::Update, said);
            let message = Messages::new(&bytes).next().unwrap();
            self.follower.feed_dumped(&message);
        }
        self.follower.begin_merge();
        let all = &mut self.told;
        while !(self.follower).merge(&mut Slice::endless(), &mut |change| hear(all, &change)) {}
        let mut resync = no_resync();
        let found_count = self.follower.finish();
        self.follower.count_in(&mut resync);
        self.counts = [resync.new_count, resync.update_count, resync.destroy_count];
        assert!(found_count <= self.counts.iter().sum()); // what stands in for events is not found by the merge
    }

    fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// What is kept now.
    fn kept(&self) -> Told {
        let slot = self.follower.flows.live_from(0).next().unwrap();
        told(&self.follower.flows.flow(slot, EventKind::Update, 0), false)
    }
}

fn hear(all: &mut Vec<Told>, change: &Change<'_>) {
    if let Change::Flow { flow, is_resynced } = change {
        all.push(told(flow, *is_resynced));
    }
}

fn ftp() -> String {
    "ftp".to_owned()
}

#[test]
fn all_that_a_dump_says_is_kept_and_reported() {
    use EventKind::{Delete, New, Update};

    let mut case = Case::new();
    case.round(Some(WHOLE), |_| {});
    let (packets, start) = (Some(5), Some(1000));
    let begun = (New, true, packets, start, None, Some(3), Some(ftp()));
    assert_eq!((case.take_told(), case.counts), (vec![begun], [1, 0, 0]));
    assert_eq!(
        case.kept(),
        (Update, false, packets, start, None, Some(3), Some(ftp()))
    );
    // Counters change without an event: the dump's are kept, and nothing is reported.
    let later = Said {
        packets: Some(6),
        ..WHOLE
    };
    case.round(Some(later), |_| {});
    assert_eq!((case.take_told(), case.counts), (vec![], [0; 3]));
    assert_eq!(case.kept().2, Some(6));
    // It is not there any more. What it had carried in the end is not known.
    case.round(None, |_| {});
    let ended = (Delete, true, None, start, None, Some(3), Some(ftp()));
    assert_eq!((case.take_told(), case.counts), (vec![ended], [0, 0, 1]));
}

#[test]
fn what_no_event_said_is_reported_as_an_update() {
    let mut case = Case::new();
    case.feed(EventKind::New, PLAIN);
    let differences = [
        Said {
            is_offloaded: true,
            ..PLAIN
        },
        PLAIN, // the flow table has let it go
        Said {
            status: PLAIN.status | status::SEEN_REPLY,
            ..PLAIN
        },
        Said {
            status: PLAIN.status | status::SEEN_REPLY,
            label: Some(1),
            ..PLAIN
        },
        Said {
            status: PLAIN.status | status::SEEN_REPLY,
            helper: Some("sip"),
            ..PLAIN
        },
    ];
    for dumped in differences {
        case.told.clear();
        case.round(Some(dumped), |_| {});
        assert_eq!(case.counts, [0, 1, 0]);
        assert_eq!(case.told.len(), 1);
        let (kind, is_resynced, .., labels, helper) = &case.told[0];
        assert_eq!((*kind, *is_resynced), (EventKind::Update, true));
        assert_eq!((*labels, helper.as_deref()), (dumped.label, dumped.helper));
        let flow = case.follower.flows.live().next().unwrap();
        let is_offloaded = flow.status & status::OFFLOAD != 0;
        assert_eq!(is_offloaded, dumped.is_offloaded);
        // Its time does not pass meanwhile.
        assert_eq!(flow.is_overdue(1_000_000, 2), !is_offloaded);
        case.round(Some(dumped), |_| {});
        assert_eq!((case.told.len(), case.counts), (1, [0; 3]), "once");
    }
}

#[test]
fn what_an_event_says_during_a_dump_is_newer() {
    let mut case = Case::new();
    case.feed(EventKind::New, PLAIN);
    case.told.clear();
    let update = Said {
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
        (case.take_told(), case.counts),
        (vec![updated, helped], [0, 1, 0])
    );
    // An UPDATE of a flow whose NEW was never received: the dump says the rest.
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
    assert_eq!((case.take_told(), case.counts), (vec![begun], [1, 0, 0]));
}

#[test]
fn another_start_is_another_lifetime_though_the_id_is_the_same() {
    use EventKind::{Delete, New};

    let mut case = Case::new();
    case.round(Some(WHOLE), |_| {});
    case.told.clear();
    let successor = Said {
        start_ns: Some(2000),
        ..WHOLE
    };
    case.round(Some(successor), |_| {});
    let kinds: Vec<_> = case.told.iter().map(|told| (told.0, told.3)).collect();
    assert_eq!(kinds, [(Delete, Some(1000)), (New, Some(2000))]);
    // A bit of the status that is never taken back says the same.
    case.told.clear();
    let mut plain = Case::new();
    let answered = Said {
        status: PLAIN.status | status::SEEN_REPLY,
        ..PLAIN
    };
    plain.round(Some(answered), |_| {});
    plain.round(Some(PLAIN), |_| {});
    let kinds: Vec<_> = plain.told.iter().map(|told| told.0).collect();
    assert_eq!(kinds, [New, Delete, New]);
}

#[test]
fn an_end_says_when_the_mirror_saw_the_flow_begin() {
    let mut case = Case::new();
    case.follower.received_ns = 50;
    case.feed(EventKind::New, PLAIN);
    case.follower.received_ns = 60;
    case.feed(EventKind::New, PLAIN); // the kernel sends it again for another program
    case.round(Some(PLAIN), |_| {});
    case.feed(EventKind::Delete, PLAIN);
    assert_eq!(case.told.last().unwrap().4, Some(50));
    // The kernel's own time is better.
    case.feed(EventKind::New, PLAIN);
    let ended = Said {
        start_ns: Some(40),
        stop_ns: Some(70),
        ..PLAIN
    };
    case.feed(EventKind::Delete, ended);
    let last = case.told.last().unwrap();
    assert_eq!((last.3, last.4), (Some(40), None));
    // A flow that was there before has no such time.
    case.round(Some(PLAIN), |_| {});
    case.feed(EventKind::Delete, Said { id: 9, ..PLAIN });
    case.feed(EventKind::Delete, PLAIN);
    let last = case.told.last().unwrap();
    assert_eq!((last.0, last.3, last.4), (EventKind::Delete, None, None));
}

#[test]
fn an_event_that_was_held_has_the_time_when_it_was_received() {
    let mut case = Case {
        follower: Follower::new(),
        told: Vec::new(),
        counts: [0; 3],
    };
    case.follower.received_ns = 50;
    case.feed(EventKind::New, PLAIN);
    case.follower.received_ns = 90;
    case.round(Some(PLAIN), |_| {});
    case.feed(EventKind::Delete, PLAIN);
    let told: Vec<_> = case.told.iter().map(|told| (told.0, told.4)).collect();
    let both = [(EventKind::New, None), (EventKind::Delete, Some(50))];
    assert_eq!(told, both);
}

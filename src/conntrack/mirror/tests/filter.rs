//! Tests of mirrors with a filter.

use std::collections::BTreeMap;

use super::super::Change;
use super::super::follow::Follower;
use super::super::shown::Selection;
use super::contents::message_with_labels;
use super::kernel::{Facts, Resends, Way, key_of, message_of};
use super::no_resync;
use super::random::{ALL, Report, Wanted, run, run_each};
use crate::conntrack::{Filter, ProtocolState, status, tcp_state};
use crate::event_kind::EventKind;
use crate::message::Messages;
use crate::mirror::{Random, Slice, Table as _};

/// What was handed out: the kind, whether a round made it up, the mark and the TCP state.
type Shown = (EventKind, bool, u32, Option<u8>);

struct Case {
    follower: Follower,
    shown: Vec<Shown>,
}

/// A flow of TCP.
fn facts(mark: u32) -> Facts {
    Facts {
        reply: key_of(0).orig.reversed().unwrap(),
        id: 7,
        mark,
        status: status::CONFIRMED,
        state: Some(ProtocolState::Tcp(1)),
    }
}

impl Case {
    fn new(filter: &str) -> Self {
        let mut follower = Follower::new();
        follower.selection = Selection::of(filter.parse().unwrap()).unwrap();
        follower.held.end();
        follower.end_holding(&mut Slice::endless(), &mut |_| {});
        Self {
            follower,
            shown: Vec::new(),
        }
    }

    fn feed_bytes(&mut self, bytes: &[u8]) -> Vec<Shown> {
        let message = Messages::new(bytes).next().unwrap();
        let shown = &mut self.shown;
        self.follower
            .feed(&message, true, &mut |change| record(shown, &change));
        std::mem::take(shown)
    }

    /// Feeds an event without a state.
    fn feed(&mut self, kind: EventKind, facts: &Facts) -> Vec<Shown> {
        self.feed_bytes(&message_of(&key_of(0), kind, facts, false))
    }

    /// Feeds an event with a state.
    fn feed_with_state(&mut self, kind: EventKind, facts: &Facts) -> Vec<Shown> {
        self.feed_bytes(&message_of(&key_of(0), kind, facts, true))
    }

    /// Runs a round whose dump has the flow like this, or not at all. Returns what it hands out, and how many changes
    /// it counts.
    fn round(&mut self, dumped: Option<&Facts>) -> (Vec<Shown>, u64) {
        self.follower.clear(&mut Slice::endless());
        self.follower.begin_dump();
        if let Some(facts) = dumped {
            let bytes = message_of(&key_of(0), EventKind::Update, facts, true);
            self.follower
                .feed_dumped(&Messages::new(&bytes).next().unwrap());
        }
        self.follower.begin_merge();
        let shown = &mut self.shown;
        let mut f = |change: Change<'_>| record(shown, &change);
        assert!(self.follower.merge(&mut Slice::endless(), &mut f));
        let found_count = self.follower.finish();
        self.follower.count_in(&mut no_resync());
        (std::mem::take(shown), found_count)
    }

    /// How many flows are kept, and how many of them are shown.
    fn counts(&self) -> (usize, usize) {
        (
            self.follower.flows.live_count(),
            self.follower.shown_count(),
        )
    }
}

fn record(shown: &mut Vec<Shown>, change: &Change<'_>) {
    if let Change::Flow {
        flow, is_resynced, ..
    } = change
    {
        let state = match flow.state {
            Some(ProtocolState::Tcp(state)) => Some(state),
            _ => None,
        };
        shown.push((flow.kind, *is_resynced, flow.mark.unwrap_or(0), state));
    }
}

#[test]
fn a_mark_that_is_set_and_cleared_begins_and_ends_a_flow() {
    use EventKind::{Delete, New, Update};

    let mut case = Case::new("proto tcp and mark 5");
    assert_eq!(case.feed_with_state(New, &facts(0)), []);
    assert_eq!(case.counts(), (1, 0));
    // The event has no state, and the flow that begins has the state that is kept.
    assert_eq!(case.feed(Update, &facts(5)), [(New, false, 5, Some(1))]);
    assert_eq!(case.counts(), (1, 1));
    assert_eq!(case.feed(Update, &facts(5)), [(Update, false, 5, None)]);
    assert_eq!(case.feed(Update, &facts(6)), [(Delete, false, 6, None)]);
    assert_eq!(case.counts(), (1, 0));
    assert_eq!(case.feed(Update, &facts(0)), []);
    assert_eq!(case.feed(Delete, &facts(0)), []);
    assert_eq!(case.counts(), (0, 0));
    // The same flow again is another one.
    assert_eq!(case.feed(New, &facts(5)), [(New, false, 5, None)]);
    assert_eq!(case.feed(Delete, &facts(0)), [(Delete, false, 0, None)]);
}

#[test]
fn the_status_is_that_of_the_flow() {
    use EventKind::{Delete, New, Update};

    let mut case = Case::new("not status assured");
    let assured = Facts {
        status: status::CONFIRMED | status::ASSURED,
        ..facts(0)
    };
    assert_eq!(case.feed(New, &facts(0)).len(), 1);
    assert_eq!(case.feed(Update, &assured), [(Delete, false, 0, None)]);
    assert_eq!(case.feed(Delete, &assured), []);
}

#[test]
fn a_state_that_an_event_leaves_out_still_counts() {
    use EventKind::{Delete, New, Update};

    let mut case = Case::new("state ESTABLISHED");
    let established = |mark| Facts {
        state: Some(ProtocolState::Tcp(tcp_state::ESTABLISHED)),
        ..facts(mark)
    };
    assert_eq!(case.feed_with_state(New, &facts(0)), []);
    let begun = (New, false, 0, Some(tcp_state::ESTABLISHED));
    assert_eq!(case.feed_with_state(Update, &established(0)), [begun]);
    assert_eq!(case.feed(Update, &facts(3)), [(Update, false, 3, None)]);
    let ended = (Delete, false, 3, Some(1));
    assert_eq!(case.feed_with_state(Update, &facts(3)), [ended]);
}

#[test]
fn labels_that_an_event_leaves_out_still_count() {
    use EventKind::{Delete, New, Update};

    let mut case = Case::new("label 1");
    let mut feed = |kind, label| {
        let shown = case.feed_bytes(&message_with_labels(kind, label));
        shown.into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>()
    };
    assert_eq!(feed(New, None), []);
    assert_eq!(feed(Update, Some(0b10)), [New]);
    assert_eq!(feed(Update, None), [Update]);
    assert_eq!(feed(Update, Some(0b100)), [Delete]);
    assert_eq!(feed(Update, Some(0b110)), [New]);
    assert_eq!(feed(Delete, None), [Delete]);
}

#[test]
fn a_flow_that_matches_only_at_its_end_begins_right_before() {
    use EventKind::{Delete, New};

    let both = [(New, true, 5, Some(1)), (Delete, false, 5, None)];
    let mut case = Case::new("mark 5");
    case.feed_with_state(New, &facts(0));
    assert_eq!(case.feed(Delete, &facts(5)), both);
    // Such a flow may be unknown.
    let mut case = Case::new("mark 5");
    let both = [(New, true, 5, None), (Delete, false, 5, None)];
    assert_eq!(case.feed(Delete, &facts(5)), both);
    assert_eq!(case.feed(Delete, &facts(5)), [], "it is a repeat");
    let mut case = Case::new("mark 5");
    assert_eq!(case.feed(Delete, &facts(4)), []);
    // No flow in a table is dying.
    let mut case = Case::new("status dying");
    case.feed(New, &facts(0));
    let dying = Facts {
        status: status::CONFIRMED | status::DYING,
        ..facts(0)
    };
    assert_eq!(case.feed(Delete, &dying), []);
}

#[test]
fn a_round_hands_out_and_counts_what_is_shown() {
    use EventKind::{Delete, New, Update};

    let mut case = Case::new("mark 5/0xf");
    assert_eq!(case.round(Some(&facts(0))), (vec![], 0));
    assert_eq!(case.counts(), (1, 0));
    let begun = (New, true, 5, Some(1));
    assert_eq!(case.round(Some(&facts(5))), (vec![begun], 1));
    let changed = (Update, true, 0x15, Some(1));
    assert_eq!(case.round(Some(&facts(0x15))), (vec![changed], 1));
    assert_eq!(case.round(Some(&facts(0x15))), (vec![], 0));
    let ended = (Delete, true, 6, Some(1));
    assert_eq!(case.round(Some(&facts(6))), (vec![ended], 1));
    assert_eq!(case.round(None), (vec![], 0));
    assert_eq!(case.counts(), (0, 0));
    assert_eq!(case.round(Some(&facts(5))), (vec![begun], 1));
    let ended = (Delete, true, 5, Some(1));
    assert_eq!(case.round(None), (vec![ended], 1));
}

#[test]
fn flows_that_can_never_match_are_not_kept() {
    use EventKind::New;

    for filter in [
        "proto udp and mark 0",
        "not (proto tcp or mark 9)",
        "reply dst 192.0.2.0/24",
        "id 8",
        "zone 5 or (mark 0 and zone 6)",
    ] {
        let mut case = Case::new(filter);
        assert_eq!(case.feed(New, &facts(0)), []);
        assert_eq!(case.round(Some(&facts(0))), (vec![], 0));
        assert_eq!(case.counts(), (0, 0), "{filter}");
    }
}

/// The flow that has taken the place of one that matches may be one that can never match.
#[test]
fn a_successor_that_can_never_match_is_not_kept() {
    use super::super::entry::Known;
    use crate::conntrack::Flow;
    use crate::conntrack::identity::Identity;

    let mut case = Case::new("id 7");
    case.feed(EventKind::New, &facts(0));
    let other = Facts { id: 8, ..facts(0) };
    let bytes = message_of(&key_of(0), EventKind::Update, &other, true);
    let flow = Flow::decode(&Messages::new(&bytes).next().unwrap()).unwrap();
    let (successor, shown) = (Known::of(&flow, 0), &mut case.shown);
    case.follower
        .note_answer(&Identity::from(key_of(0)), Some(successor));
    case.follower
        .settle_answers(&mut |change| record(shown, &change));
    assert_eq!(case.shown, [(EventKind::Delete, true, 0, None)]);
    assert_eq!(case.counts(), (0, 0));
}

#[test]
fn without_room_the_events_that_match_by_themselves_are_handed_out() {
    use EventKind::{Delete, New, Update};

    let mut case = Case::new("mark 5");
    case.follower.budget = crate::mirror::Budget::new(0);
    assert_eq!(case.feed(New, &facts(0)), []);
    assert_eq!(case.feed(Update, &facts(5)), [(Update, false, 5, None)]);
    assert_eq!(case.feed(Delete, &facts(5)), [(Delete, false, 5, None)]);
    assert_eq!(case.counts(), (0, 0));
}

#[test]
fn the_dump_asks_only_for_what_cannot_change() {
    let dump_filter = |text: &str| {
        let selection = Selection::of(text.parse().unwrap()).unwrap();
        selection.map(|selection| selection.dump_filter().to_string())
    };
    let of = dump_filter("src 10.0.0.1 and mark 5 and not status assured and state ESTABLISHED");
    assert_eq!(of.as_deref(), Some("family ipv4, src 10.0.0.1"));
    assert_eq!(dump_filter("mark 5").as_deref(), Some("all flows"));
    assert_eq!(dump_filter("all"), None);
    let refused: Filter = "mark 5 or not event new".parse().unwrap();
    let error = Selection::of(refused).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`event new`"), "{error}");
}

const SEEN_REPLY: u32 = status::SEEN_REPLY;

/// Filters whose terms can all change, so that the mirror keeps all flows.
const CHANGING: [Wanted; 4] = [
    Wanted {
        text: "mark 1",
        is_wanted: |_, facts| facts.mark == 1,
    },
    Wanted {
        text: "not mark 1",
        is_wanted: |_, facts| facts.mark != 1,
    },
    Wanted {
        text: "status seen-reply and not mark 2",
        is_wanted: |_, facts| facts.status & SEEN_REPLY != 0 && facts.mark != 2,
    },
    Wanted {
        text: "state ESTABLISHED or state FIN_WAIT or status seen-reply",
        is_wanted: |_, facts| {
            let is_wanted_state = matches!(facts.state, Some(ProtocolState::Tcp(3 | 4)));
            is_wanted_state || facts.status & SEEN_REPLY != 0
        },
    },
];

/// Filters with terms that cannot change.
const CONSTANT: [Wanted; 4] = [
    Wanted {
        text: "proto tcp",
        is_wanted: |number, _| key_of(number).orig.protocol == 6,
    },
    Wanted {
        text: "orig zone 5 and not mark 0",
        is_wanted: |number, facts| key_of(number).zone.is_some() && facts.mark != 0,
    },
    Wanted {
        text: "reply dst 192.0.2.0/24 and (mark 1 or status seen-reply)",
        is_wanted: |_, facts| {
            let is_translated = facts.reply.dst.to_string().starts_with("192.0.2.");
            is_translated && (facts.mark == 1 || facts.status & SEEN_REPLY != 0)
        },
    },
    Wanted {
        text: "not id 1 and not (proto udp and mark 1)",
        is_wanted: |number, facts| {
            let is_udp = key_of(number).orig.protocol == 17;
            facts.id != 1 && !(is_udp && facts.mark == 1)
        },
    },
];

const WAYS: [Way; 4] = {
    let plain = Way {
        loss: 0,
        holds_bytes: None,
        resends: Resends::Never,
        only_reports_ends: false,
        has_late_updates: false,
        has_late_news: false,
        silent: 0,
        has_unique_ids: false,
        frees_keys_late: false,
        has_unique_replies: false,
    };
    [
        plain,
        Way { loss: 5, ..plain },
        Way {
            loss: 20,
            holds_bytes: Some(600),
            resends: Resends::OfOthers,
            has_late_updates: true,
            has_late_news: true,
            ..plain
        },
        Way {
            loss: 10,
            silent: 5,
            ..plain
        },
    ]
};

/// What a filtered mirror must hand out where a mirror without a filter hands out `reports`.
fn filtered(reports: &[Report], wanted: &Wanted) -> Vec<Report> {
    let mut flows: BTreeMap<&str, (Facts, bool)> = BTreeMap::new();
    let mut expected = Vec::new();
    for report in reports {
        let known = flows.get(&*report.name).copied();
        let mut facts = report.facts;
        if report.kind == EventKind::Delete {
            facts.status &= !status::DYING;
        }
        facts.state = facts.state.or(known.and_then(|(facts, _)| facts.state));
        let was_shown = known.is_some_and(|(_, is_shown)| is_shown);
        let is_shown = (wanted.is_wanted)(0, &facts); // the number does not matter to these filters
        let mut hand_out = |kind, facts, is_resynced| {
            let name = report.name.clone();
            expected.push(Report {
                kind,
                name,
                facts,
                is_resynced,
            });
        };
        let is_end = report.kind == EventKind::Delete;
        match (was_shown, is_shown) {
            (false, false) => {}
            (false, true) if is_end => {
                hand_out(EventKind::New, facts, true);
                hand_out(EventKind::Delete, report.facts, report.is_resynced);
            }
            (false, true) => hand_out(EventKind::New, facts, report.is_resynced),
            (true, false) => hand_out(EventKind::Delete, report.facts, report.is_resynced),
            (true, true) => hand_out(report.kind, report.facts, report.is_resynced),
        }
        if is_end {
            flows.remove(&*report.name);
        } else {
            flows.insert(&report.name, (facts, is_shown));
        }
    }
    expected
}

/// Fails with the first difference.
fn assert_same(reports: &[Report], expected: &[Report], wanted: &Wanted) {
    for (index, (report, expected)) in reports.iter().zip(expected).enumerate() {
        assert_eq!(report, expected, "change {index}, {}", wanted.text);
    }
    assert_eq!(reports.len(), expected.len(), "{}", wanted.text);
}

#[test]
fn a_filtered_mirror_hands_out_what_a_filter_leaves_of_all_changes() {
    for way in WAYS {
        run_each(0..200, way, |seed| {
            let (_, all) = run(Random::new(seed), way, &ALL);
            for wanted in &CHANGING {
                let (_, mirrored) = run(Random::new(seed), way, wanted);
                let expected = filtered(&all.listener.reports, wanted);
                assert_same(&mirrored.listener.reports, &expected, wanted);
            }
        });
    }
}

#[test]
fn the_filtered_table_equals_what_matches_in_the_kernels() {
    for way in WAYS {
        run_each(0..200, way, |seed| {
            for wanted in &CONSTANT {
                run(Random::new(seed), way, wanted);
            }
        });
    }
}

//! Tests of mirrors with a filter.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::Change;
use super::super::fib::Fib;
use super::super::shown::Selection;
use super::kernel::{Entry, Kernel, View, one};
use super::random::{ALL, Report, Wanted, World};
use super::{crowd, with_flags};
use crate::event_kind::EventKind;
use crate::filter::interpreter;
use crate::message::flags;
use crate::mirror::{Budget, Random, Slice, Table as _};
use crate::route::{Filter, Route, table};
use crate::{Family, MessageBuilder};

/// What was handed out: the kind, whether a round made it up, and the protocol.
type Shown = (EventKind, bool, u8);

struct Case {
    fib: Fib,
    shown: Vec<Shown>,
}

/// The message of fd00:100::/64 with these gateways, all by device 1.
fn multipath(kind: EventKind, flags: u16, protocol: u8, gateways: &[u8]) -> Vec<u8> {
    let entry = Entry {
        prefix_len: 64,
        priority: 1024,
        protocol,
        hops: gateways.iter().map(|gateway| (1, Some(*gateway))).collect(),
        made_at: 0,
    };
    Kernel::default().message(Family::INET6, 1, &entry, kind, flags)
}

/// The message of an IPv4 route.
fn ipv4(kind: EventKind, table: u32, dst: [u8; 4], prefix_len: u8, metric: u32) -> Vec<u8> {
    let message_type = if kind == EventKind::New { 24 } else { 25 };
    let mut bytes = Vec::new();
    let fixed = [
        Family::INET.into(),
        prefix_len,
        0,
        0,
        254,
        3,
        0,
        1,
        0,
        0,
        0,
        0,
    ];
    MessageBuilder::new(&mut bytes, message_type, flags::CREATE)
        .bytes(&fixed)
        .attribute_u32(15, table)
        .attribute(1, &dst)
        .attribute_u32(6, metric)
        .attribute_u32(4, 1)
        .finish()
        .unwrap();
    bytes
}

impl Case {
    /// After an empty first dump.
    fn new(filter: &str) -> Self {
        let mut fib = Fib::new();
        fib.selection = Selection::of(filter.parse().unwrap()).unwrap();
        let shown = Vec::new();
        let mut case = Self { fib, shown };
        assert_eq!(case.round(&[]), (vec![], 0, false));
        case
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<Shown> {
        let shown = &mut self.shown;
        self.fib
            .feed(&one(bytes), &mut |change| record(shown, &change));
        std::mem::take(shown)
    }

    fn dump(&mut self, dumped: &[Vec<u8>]) {
        self.fib.begin_dump();
        for bytes in dumped {
            self.fib.feed_dumped(&one(bytes));
        }
    }

    /// Merges a dump. Returns what that hands out, how many changes it counts, and whether something is left open.
    fn merge(&mut self) -> (Vec<Shown>, u64, bool) {
        self.fib.begin_merge();
        let shown = &mut self.shown;
        let mut f = |change: Change<'_>| record(shown, &change);
        assert!(self.fib.merge(&mut Slice::endless(), &mut f));
        let (found_count, is_open) = self.fib.finish();
        assert_eq!(self.fib.take_counts().sum(), found_count);
        (std::mem::take(shown), found_count, is_open)
    }

    fn round(&mut self, dumped: &[Vec<u8>]) -> (Vec<Shown>, u64, bool) {
        self.dump(dumped);
        self.merge()
    }

    /// How many routes are kept, and how many of them are shown.
    fn counts(&self) -> (usize, usize) {
        assert_eq!(self.fib.iter().count(), self.fib.len());
        (self.fib.slots.handed_out_count(), self.fib.len())
    }
}

fn record(shown: &mut Vec<Shown>, change: &Change<'_>) {
    if let Change::Route { route, is_resynced } = change {
        shown.push((route.kind, *is_resynced, route.protocol));
    }
}

#[test]
fn a_route_whose_protocol_or_hops_change_begins_and_stops_to_match() {
    use EventKind::{Delete, New};

    let mut case = Case::new("proto static or via fd00:c800::7");
    assert_eq!(case.feed(&multipath(New, flags::CREATE, 3, &[1])), []);
    assert_eq!(case.counts(), (1, 0));
    let event = multipath(New, flags::REPLACE, 4, &[1]);
    assert_eq!(case.feed(&event), [(New, false, 4)]);
    assert_eq!(case.counts(), (1, 1));
    let event = multipath(New, flags::REPLACE, 4, &[1, 2]);
    assert_eq!(case.feed(&event), [(New, false, 4)]);
    let event = multipath(New, flags::REPLACE, 3, &[1, 2]);
    assert_eq!(case.feed(&event), [(Delete, false, 3)]);
    assert_eq!(case.counts(), (1, 0));
    let event = multipath(New, flags::CREATE, 3, &[1, 2, 7]);
    assert_eq!(case.feed(&event), [(New, false, 3)]);
    // The event is about the one hop, and what is left no longer matches.
    let event = multipath(Delete, 0, 3, &[7]);
    assert_eq!(case.feed(&event), [(Delete, true, 3)]);
    assert_eq!(case.feed(&multipath(Delete, 0, 3, &[1, 2])), []);
    assert_eq!(case.counts(), (0, 0));
}

#[test]
fn a_route_that_is_replaced_by_one_that_does_not_match_is_gone() {
    use EventKind::{Delete, New};

    let mut case = Case::new("dev 7");
    let [one, other] = [7, 8].map(|device| {
        let crowd = crowd(Family::INET, 8).nth(device - 1).unwrap();
        with_flags(crowd, 24, flags::REPLACE)
    });
    assert_eq!(case.feed(&one), [(New, false, 2)]);
    assert_eq!(case.feed(&other), [(Delete, true, 2)]);
    assert_eq!(case.counts(), (1, 0));
    assert_eq!(case.feed(&one), [(New, false, 2)]);
    assert_eq!(case.counts(), (1, 1));
}

#[test]
fn a_round_hands_out_and_counts_what_is_shown() {
    use EventKind::{Delete, New};

    let mut case = Case::new("proto static");
    let dumped = |protocol, gateways: &[u8]| [multipath(New, 0, protocol, gateways)];
    assert_eq!(case.round(&dumped(3, &[1])), (vec![], 0, false));
    assert_eq!(case.counts(), (1, 0));
    let new = vec![(New, true, 4)];
    assert_eq!(case.round(&dumped(4, &[1])), (new.clone(), 1, false));
    assert_eq!(case.round(&dumped(4, &[1, 2])), (new.clone(), 1, false));
    assert_eq!(case.round(&dumped(4, &[1, 2])), (vec![], 0, false));
    let gone = vec![(Delete, true, 3)];
    assert_eq!(case.round(&dumped(3, &[1])), (gone, 1, false));
    assert_eq!(case.round(&[]), (vec![], 0, false));
    assert_eq!(case.round(&dumped(4, &[1])), (new, 1, false));
    let gone = vec![(Delete, true, 4)];
    assert_eq!(case.round(&[]), (gone, 1, false));
    assert_eq!(case.counts(), (0, 0));
}

#[test]
fn routes_whose_place_or_metric_cannot_match_are_not_kept() {
    use EventKind::New;

    for filter in [
        "table 5",
        "family ipv6 and proto boot",
        "dst 10.2.0.0/16 or-longer or metric 7",
        "not dst 10.1.0.0/16",
        "not (table main and proto boot) and not table main",
    ] {
        let mut case = Case::new(filter);
        let route = ipv4(New, table::MAIN, [10, 1, 0, 0], 16, 0);
        assert_eq!(case.feed(&route), []);
        assert_eq!(case.round(&[route]), (vec![], 0, false));
        assert_eq!(case.counts(), (0, 0), "{filter}");
    }
}

/// The kernel's dump goes on at an index among the routes to an address, so the end of one may make it skip another.
#[test]
fn the_end_of_a_route_that_is_not_kept_may_make_a_dump_skip_one_that_is() {
    use EventKind::{Delete, New};

    let kept = ipv4(New, table::MAIN, [10, 1, 0, 0], 16, 7);
    for (filter, prefix_len, table, metric) in [
        ("metric 7", 16, table::MAIN, 8),
        ("dst 10.1.0.0/16", 24, table::MAIN, 7),
        ("dst 10.1.0.0/16 or-shorter", 24, table::MAIN, 7),
        ("table main", 16, table::LOCAL, 7),
        ("not table local", 16, table::LOCAL, 7),
    ] {
        let filter: Filter = filter.parse().unwrap();
        let program = filter.program_for_mirror().unwrap();
        let is_accepted = |bytes: &[u8]| interpreter::run(&program, bytes) != Some(0);
        let mut case = Case::new(&filter.to_string());
        assert_eq!(case.feed(&kept).len(), 1, "{filter}");
        let end = |table, dst| ipv4(Delete, table, dst, prefix_len, metric);
        // The dump has no route to the address any more.
        for (other, is_open) in [
            (end(table, [10, 1, 0, 0]), true),
            (end(9, [10, 1, 0, 0]), false),
        ] {
            let is_seen = is_accepted(&other);
            assert!(is_seen || !is_open, "{filter}");
            case.dump(&[]);
            if is_seen {
                case.feed(&other);
            }
            let (shown, _, is_left_open) = case.merge();
            assert_eq!(
                (shown.is_empty(), is_left_open),
                (is_open, is_open),
                "{filter}"
            );
            case.feed(&kept);
        }
        let begin = ipv4(New, table, [10, 1, 0, 0], prefix_len, metric);
        assert!(!is_accepted(&begin), "{filter}: a route that cannot match");
    }
}

/// IPv6: any route of the table.
#[test]
fn the_end_of_an_ipv6_route_that_is_not_kept_leaves_a_round_open() {
    use EventKind::{Delete, New};

    let filter: Filter = "dst fd00:900::/64".parse().unwrap();
    let program = filter.program_for_mirror().unwrap();
    let end = multipath(Delete, 0, 3, &[1]);
    assert_ne!(interpreter::run(&program, &end), Some(0));
    let begin = multipath(New, flags::CREATE, 3, &[1]);
    assert_eq!(interpreter::run(&program, &begin), Some(0));
    let mut case = Case::new(&filter.to_string());
    case.dump(&[]);
    assert_eq!(case.feed(&end), []);
    assert_eq!(case.merge(), (vec![], 0, true));
    assert_eq!(case.feed(&end), [], "no dump is read");
    assert_eq!(case.round(&[]), (vec![], 0, false));
}

#[test]
fn without_room_the_events_that_match_by_themselves_are_handed_out() {
    use EventKind::{Delete, New};

    let mut case = Case::new("proto static");
    case.fib.budget = Budget::new(0);
    assert_eq!(case.feed(&multipath(New, flags::CREATE, 3, &[1])), []);
    let event = multipath(New, flags::REPLACE, 4, &[1]);
    assert_eq!(case.feed(&event), [(New, false, 4)]);
    assert_eq!(case.feed(&multipath(Delete, 0, 3, &[1])), []);
    let event = multipath(Delete, 0, 4, &[1]);
    assert_eq!(case.feed(&event), [(Delete, false, 4)]);
    assert_eq!(case.counts(), (0, 0));
}

#[test]
fn the_dump_asks_for_the_table_and_for_nothing_that_a_replaced_route_may_lack() {
    let dump_filter = |text: &str| {
        let selection = Selection::of(text.parse().unwrap()).unwrap();
        selection.map(|selection| selection.dump_filter().to_string())
    };
    let of = dump_filter("table 7 and dst 10.0.0.0/8 and proto bgp and type unicast and dev 3");
    assert_eq!(of.as_deref(), Some("table 7"));
    assert_eq!(dump_filter("family ipv4").as_deref(), Some("all routes"));
    assert_eq!(dump_filter("all"), None);
    for text in ["table 7 or not event new", "portid 0"] {
        let error = Selection::of(text.parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{text}");
    }
}

fn is_to(view: &View, dst: &str) -> bool {
    view.dst.is_some_and(|found| found.to_string() == dst)
}

fn has_device(view: &View, device: u32) -> bool {
    view.hops.iter().any(|hop| hop.0 == device)
}

fn has_gateway(view: &View, is_it: impl Fn(IpAddr) -> bool) -> bool {
    view.hops.iter().filter_map(|hop| hop.1).any(is_it)
}

/// Filters whose terms can all change, so that the mirror keeps all routes.
const CHANGING: [Wanted; 4] = [
    Wanted {
        text: "proto boot",
        matches: |view| view.protocol == 3,
        is_constant: false,
    },
    Wanted {
        text: "not proto boot",
        matches: |view| view.protocol != 3,
        is_constant: false,
    },
    Wanted {
        text: "dev 2 and not via 10.200.0.1",
        matches: |view| {
            has_device(view, 2) && !has_gateway(view, |ip| ip.to_string() == "10.200.0.1")
        },
        is_constant: false,
    },
    Wanted {
        text: "via fd00:c800::/32 or dev 1 and proto static",
        matches: |view| {
            has_gateway(view, |ip| ip.is_ipv6()) || has_device(view, 1) && view.protocol == 4
        },
        is_constant: false,
    },
];

/// Filters with terms that cannot change.
const CONSTANT: [Wanted; 6] = [
    Wanted {
        text: "family ipv4",
        matches: |view| view.family == Family::INET,
        is_constant: true,
    },
    Wanted {
        text: "metric 1",
        matches: |view| view.priority == 1,
        is_constant: true,
    },
    Wanted {
        text: "dst 10.0.0.0/16 or dst 10.1.0.0/16 or-longer or dst fd00:100::/64",
        matches: |view| {
            is_to(view, "10.0.0.0") && view.prefix_len == 16
                || is_to(view, "10.1.0.0")
                || is_to(view, "fd00:100::")
        },
        is_constant: true,
    },
    Wanted {
        text: "dst 10.1.0.0/20 or-shorter or dst fd00:200::7 or-shorter",
        matches: |view| {
            is_to(view, "10.1.0.0") && view.prefix_len == 16 || is_to(view, "fd00:200::")
        },
        is_constant: true,
    },
    Wanted {
        text: "not (dst 10.0.0.0/8 or-longer and metric 0) and not dst fd00:100::/64",
        matches: |view| {
            let is_left_out = view.family == Family::INET && view.priority == 0;
            !is_left_out && !is_to(view, "fd00:100::")
        },
        is_constant: true,
    },
    Wanted {
        text: "metric {0, 1024} and proto static",
        matches: |view| matches!(view.priority, 0 | 1024) && view.protocol == 4,
        is_constant: false,
    },
];

/// What a mirror with a filter must hand out where one without a filter hands out `reports`.
fn filtered(reports: &[Report], is_wanted: fn(&View) -> bool) -> Vec<Report> {
    let mut shown: BTreeMap<View, bool> = BTreeMap::new();
    let mut expected = Vec::new();
    for report in reports {
        let is_end = report.kind == EventKind::Delete;
        let is_shown = !is_end && is_wanted(&report.view);
        let was_shown = shown.insert(report.view.identity(), is_shown) == Some(true);
        let kind = match (was_shown, is_shown) {
            (false, false) => continue,
            (true, false) => EventKind::Delete,
            (_, true) => EventKind::New,
        };
        expected.push(Report {
            kind,
            ..report.clone()
        });
    }
    expected
}

fn run(seed: u64, wanted: &Wanted) -> World<'_> {
    let ran = std::panic::catch_unwind(|| {
        let mut world = World::new(Random::new(seed), wanted);
        world.run_to_the_end();
        world
    });
    ran.unwrap_or_else(|_| panic!("with seed {seed}, {}", wanted.text))
}

#[test]
fn a_filtered_mirror_hands_out_what_a_filter_leaves_of_all_changes() {
    let mut count = 0;
    for seed in 0..60 {
        let all = run(seed, &ALL);
        for wanted in &CHANGING {
            let mirrored = run(seed, wanted);
            let expected = filtered(&all.follower.reports, wanted.matches);
            for (index, report) in mirrored.follower.reports.iter().enumerate() {
                let text = wanted.text;
                assert_eq!(
                    Some(report),
                    expected.get(index),
                    "change {index}, seed {seed}, {text}"
                );
            }
            assert_eq!(mirrored.follower.reports.len(), expected.len());
            count += expected.len();
        }
    }
    assert!(count > 20_000, "{count}");
}

#[test]
fn the_filtered_table_equals_what_matches_in_the_kernels() {
    for seed in 0..200 {
        for wanted in &CONSTANT {
            run(seed, wanted);
        }
    }
}

/// The text and the function of each case agree, so that a mistake in a case is not taken for one of the mirror.
#[test]
fn the_functions_of_the_cases_decide_what_their_texts_say() {
    for wanted in CHANGING.iter().chain(&CONSTANT) {
        let filter: Filter = wanted.text.parse().unwrap();
        for family in [Family::INET, Family::INET6] {
            for number in 0..512u32 {
                let bit = |index: u32| u8::from(number >> index & 1 != 0);
                let is_ipv6 = family == Family::INET6;
                let entry = Entry {
                    prefix_len: if is_ipv6 {
                        64
                    } else {
                        [16, 24][usize::from(bit(0))]
                    },
                    priority: u32::from(bit(1)) + if is_ipv6 { 1024 } else { 0 },
                    protocol: 3 + bit(2),
                    hops: vec![(1 + bit(3), (!is_ipv6 || bit(4) == 1).then_some(bit(5)))],
                    made_at: 0,
                };
                let dst = bit(6) + 2 * bit(7);
                let bytes = Kernel::default().message(family, dst, &entry, EventKind::New, 0);
                let message = one(&bytes);
                let route = Route::decode(&message).unwrap();
                let is_wanted = (wanted.matches)(&View::of(&route));
                assert_eq!(
                    filter.matches(&route),
                    is_wanted,
                    "{}: {route:?}",
                    wanted.text
                );
            }
        }
    }
}

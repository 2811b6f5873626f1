//! Tests of the lifetimes of flows: each begins and ends once, in whatever order its events come.

use super::super::Change;
use super::super::follow::{Follower, HELD_PER_EVENT, MOST_CONTRADICTED};
use super::super::table::FLOW_BYTES;
use super::kernel::{Facts, key_of, message_of};
use crate::conntrack::identity::Identity;
use crate::conntrack::{Key, ProtocolState, Tuple, Zone, ZoneDirection, status};
use crate::event_kind::EventKind;
use crate::message::Messages;
use crate::mirror::{Budget, Slice, Table as _, step_count};

const NEW: EventKind = EventKind::New;
const UPDATE: EventKind = EventKind::Update;
const DESTROY: EventKind = EventKind::Delete;
/// A round made the event up.
const RESYNCED: bool = true;

fn facts(id: u32, status: u32) -> Facts {
    Facts {
        reply: key_of(0).orig.reversed().unwrap(),
        id,
        mark: 0,
        status: status::CONFIRMED | status,
        state: Some(ProtocolState::Tcp(1)),
    }
}

/// A table in which the flows of one key come and go.
struct Case {
    follower: Follower,
    is_synced: bool,
    reported: Vec<(EventKind, u32, bool)>,
}

impl Case {
    /// A table after an empty first dump.
    fn new() -> Self {
        let mut follower = Follower::new();
        follower.held.end();
        follower.end_holding(&mut Slice::endless(), &mut |_| {});
        follower.clear(&mut Slice::endless());
        Self {
            follower,
            is_synced: true,
            reported: Vec::new(),
        }
    }

    fn feed(&mut self, kind: EventKind, id: u32, status: u32) {
        let bytes = message_of(&key_of(0), kind, &facts(id, status), true);
        let message = Messages::new(&bytes).next().unwrap();
        let (reported, is_synced) = (&mut self.reported, self.is_synced);
        self.follower
            .feed(&message, is_synced, &mut record(reported));
    }

    fn lose(&mut self) {
        self.follower.note_loss();
        self.is_synced = false;
    }

    /// Runs a round whose dump has the flow with this id, or no flow.
    fn dump(&mut self, id: Option<u32>) {
        self.follower.clear(&mut Slice::endless());
        self.follower.begin_dump();
        if let Some(id) = id {
            let bytes = message_of(&key_of(0), UPDATE, &facts(id, 0), true);
            let message = Messages::new(&bytes).next().unwrap();
            self.follower.feed_dumped(&message);
        }
        self.follower.begin_merge();
        let mut f = record(&mut self.reported);
        while !self.follower.merge(&mut Slice::endless(), &mut f) {}
        self.follower.finish();
        self.follower.clear(&mut Slice::endless());
        self.is_synced = true;
    }

    /// Asserts what was reported since the last call, and how many events were left out in total: repeated, late.
    #[track_caller]
    fn assert_reported(&mut self, reported: &[(EventKind, u32, bool)], left_out: (u64, u64)) {
        assert_eq!(std::mem::take(&mut self.reported), reported);
        let follower = &self.follower;
        let counts = (follower.repeated_count, follower.late_count);
        assert_eq!(counts, left_out);
    }

    fn live_id(&self) -> Option<u32> {
        let live = self.follower.flows.live().next();
        live.and_then(|entry| entry.id)
    }
}

fn record(reported: &mut Vec<(EventKind, u32, bool)>) -> impl FnMut(Change<'_>) {
    |change| {
        if let Change::Flow {
            flow, is_resynced, ..
        } = change
        {
            reported.push((flow.kind, flow.id.unwrap(), is_resynced));
        }
    }
}

/// Feeds an event of the flow with this number.
fn feed(case: &mut Case, number: usize, kind: EventKind) {
    let bytes = message_of(&key_of(number), kind, &facts(7, 0), true);
    let message = Messages::new(&bytes).next().unwrap();
    let reported = &mut case.reported;
    case.follower.feed(&message, true, &mut record(reported));
}

#[test]
fn flows_that_find_no_room_are_reported_and_not_kept() {
    let mut case = Case::new();
    case.follower.budget = Budget::new(2 * FLOW_BYTES);
    for number in 0..4 {
        feed(&mut case, number, NEW);
    }
    case.assert_reported(&[(NEW, 7, false); 4], (0, 0));
    assert_eq!(case.follower.flows.live_count(), 2);
    assert_eq!(case.follower.budget.left_out_count, 2);
    assert_eq!(case.follower.short_since(), None, "no room yet");
    feed(&mut case, 3, UPDATE);
    feed(&mut case, 3, DESTROY);
    feed(&mut case, 3, DESTROY);
    case.assert_reported(&[(UPDATE, 7, false), (DESTROY, 7, false)], (1, 0));
    // Now there is room for another flow, and a dump has one.
    feed(&mut case, 0, DESTROY);
    assert!(case.follower.short_since().is_some());
    feed(&mut case, 1, DESTROY);
    case.reported.clear();
    let follower = &mut case.follower;
    follower.begin_dump();
    let bytes = message_of(&key_of(2), UPDATE, &facts(7, 0), true);
    follower.feed_dumped(&Messages::new(&bytes).next().unwrap());
    follower.begin_merge();
    assert!(follower.merge(&mut Slice::endless(), &mut record(&mut case.reported)));
    follower.finish();
    assert!(!follower.budget.is_short());
    case.assert_reported(&[(NEW, 7, RESYNCED)], (1, 0));
}

#[test]
fn a_dump_that_finds_no_room_ends_nothing() {
    let mut case = Case::new();
    case.follower.budget = Budget::new(2 * FLOW_BYTES);
    feed(&mut case, 0, NEW);
    feed(&mut case, 1, NEW);
    case.reported.clear();
    let follower = &mut case.follower;
    follower.begin_dump();
    for number in 0..4 {
        let dumped = Facts {
            mark: 5,
            ..facts(7, 0)
        };
        let bytes = message_of(&key_of(number), UPDATE, &dumped, true);
        follower.feed_dumped(&Messages::new(&bytes).next().unwrap());
    }
    follower.begin_merge();
    assert!(follower.merge(&mut Slice::endless(), &mut record(&mut case.reported)));
    follower.finish();
    assert!(follower.budget.is_short());
    assert_eq!(follower.flows.live_count(), 2);
    case.assert_reported(&[], (0, 0));
}

#[test]
fn a_made_up_end_is_not_reported_again() {
    let mut case = Case::new();
    case.feed(NEW, 7, 0);
    case.lose();
    case.dump(None);
    case.assert_reported(&[(NEW, 7, false), (DESTROY, 7, RESYNCED)], (0, 0));
    case.lose();
    case.feed(DESTROY, 7, status::DYING);
    case.feed(DESTROY, 7, status::DYING);
    case.assert_reported(&[], (2, 0));
    // A NEW with the same id begins another flow.
    case.feed(NEW, 7, 0);
    case.feed(DESTROY, 7, status::DYING);
    case.assert_reported(&[(NEW, 7, false), (DESTROY, 7, false)], (2, 0));
}

#[test]
fn the_end_of_an_unknown_flow_is_reported_even_if_nothing_is_known_to_be_missing() {
    let mut case = Case::new();
    case.feed(DESTROY, 7, status::DYING);
    case.feed(DESTROY, 8, status::DYING);
    case.feed(DESTROY, 7, status::DYING);
    let reported = [
        (NEW, 7, RESYNCED),
        (DESTROY, 7, false),
        (NEW, 8, RESYNCED),
        (DESTROY, 8, false),
    ];
    case.assert_reported(&reported, (1, 0));
}

#[test]
fn the_end_of_an_earlier_flow_does_not_end_its_successor() {
    let mut case = Case::new();
    case.feed(NEW, 8, 0);
    case.feed(DESTROY, 7, status::DYING); // of a flow from before the mirror, sent again
    case.assert_reported(&[(NEW, 8, false)], (1, 0));
    assert_eq!(case.live_id(), Some(8));
    // After a loss the DESTROY may belong to a later flow. If flow 8 still lives, the dump has it.
    case.lose();
    case.feed(DESTROY, 6, status::DYING);
    case.dump(Some(8));
    let reported = [
        (DESTROY, 8, RESYNCED),
        (NEW, 6, RESYNCED),
        (DESTROY, 6, false),
        (NEW, 8, RESYNCED),
    ];
    case.assert_reported(&reported, (1, 0));
}

#[test]
fn an_update_behind_the_end_changes_nothing() {
    for late_status in [0, status::DYING] {
        let mut case = Case::new();
        case.feed(NEW, 7, 0);
        case.feed(DESTROY, 7, status::DYING);
        case.feed(UPDATE, 7, late_status);
        case.assert_reported(&[(NEW, 7, false), (DESTROY, 7, false)], (0, 1));
        case.feed(NEW, 8, 0);
        case.feed(UPDATE, 7, late_status);
        case.assert_reported(&[(NEW, 8, false)], (0, 2));
        assert_eq!(case.live_id(), Some(8));
    }
}

#[test]
fn a_dying_flow_does_not_begin() {
    let mut case = Case::new();
    case.feed(NEW, 8, 0);
    case.feed(UPDATE, 7, status::DYING);
    case.feed(NEW, 6, status::DYING);
    case.assert_reported(&[(NEW, 8, false)], (0, 2));
    assert_eq!(case.live_id(), Some(8));
}

#[test]
fn the_kernel_is_asked_about_what_comes_behind_an_end() {
    let identity = Identity::from(key_of(0));
    let mut case = Case::new();
    case.feed(NEW, 7, 0);
    case.feed(DESTROY, 7, status::DYING);
    assert_eq!(case.follower.contradicted, []);
    case.feed(UPDATE, 7, 0);
    assert_eq!(case.follower.contradicted, [identity]);
    case.feed(NEW, 7, 0);
    case.feed(DESTROY, 7, status::DYING);
    case.feed(NEW, 8, 0);
    case.feed(DESTROY, 8, status::DYING);
    case.feed(UPDATE, 8, 0);
    // The mirror asks once about each flow, however many events contradict, and the list is bounded.
    assert_eq!(case.follower.contradicted, [identity]);
    for number in 1..=2 * MOST_CONTRADICTED {
        let zone = Zone::new(u16::try_from(number).unwrap(), ZoneDirection::Both);
        let key = Key {
            zone: Some(zone),
            ..key_of(0)
        };
        case.follower.note_contradiction(&key.into());
    }
    assert_eq!(case.follower.contradicted.len(), MOST_CONTRADICTED);
}

#[test]
fn a_second_new_is_another_lifetime_if_it_takes_something_back() {
    let mut case = Case::new();
    case.feed(NEW, 7, 0);
    // The kernel sends the NEW with each packet if another program's reliable socket missed it.
    case.feed(NEW, 7, 0);
    case.feed(NEW, 7, status::SEEN_REPLY);
    case.feed(NEW, 7, status::SEEN_REPLY);
    case.assert_reported(&[(NEW, 7, false), (UPDATE, 7, false)], (0, 0));
    let again = [(DESTROY, 7, RESYNCED), (NEW, 7, false)];
    case.feed(NEW, 7, 0);
    case.assert_reported(&again, (0, 0));
    // The same holds after a merge.
    case.lose();
    case.dump(Some(7));
    case.reported.clear();
    case.feed(UPDATE, 7, status::ASSURED);
    case.feed(NEW, 7, 0);
    case.assert_reported(&[&[(UPDATE, 7, false)], &again[..]].concat(), (0, 0));
}

#[test]
fn a_new_of_a_flow_that_a_dump_or_an_update_has_shown_is_its_own() {
    let mut case = Case::new();
    case.lose();
    case.dump(Some(7));
    case.feed(UPDATE, 7, status::SEEN_REPLY);
    case.reported.clear();
    case.feed(NEW, 7, 0);
    case.assert_reported(&[(UPDATE, 7, false)], (0, 0));
    case.feed(UPDATE, 8, status::SEEN_REPLY);
    case.feed(NEW, 8, 0);
    let reported = [
        (DESTROY, 7, RESYNCED),
        (NEW, 8, RESYNCED),
        (UPDATE, 8, false),
    ];
    case.assert_reported(&reported, (0, 0));
}

#[test]
fn held_events_are_handed_out_a_few_at_a_time_and_in_order() {
    const HELD: u32 = 1000;

    let mut case = Case {
        follower: Follower::new(),
        is_synced: false,
        reported: Vec::new(),
    };
    case.feed(NEW, 7, 0);
    for _ in 1..HELD {
        case.feed(UPDATE, 7, 0);
    }
    case.lose();
    case.assert_reported(&[], (0, 0));
    case.feed(DESTROY, 7, status::DYING);
    let few = HELD_PER_EVENT as usize;
    assert_eq!(case.reported.len(), few);
    assert_eq!(case.reported[..2], [(NEW, 7, false), (UPDATE, 7, false)]);
    let mut calls = 1;
    while !case
        .follower
        .end_holding(&mut Slice::of_steps(1), &mut record(&mut case.reported))
    {
        calls += 1;
        assert!(case.reported.len() <= few + calls);
    }
    assert!(calls > HELD as usize / 2, "{calls}");
    assert_eq!(case.reported.len(), HELD as usize + 1);
    assert_eq!(case.reported.last(), Some(&(DESTROY, 7, false)));
    case.feed(NEW, 8, 0);
    assert_eq!(
        case.reported.last(),
        Some(&(NEW, 8, false)),
        "it is reported at once"
    );
}

/// The steps of the indexes per lifetime, after 3000 lifetimes. `key` and `id` give those of each lifetime.
fn steps_per_lifetime(case: &mut Case, key: fn(u16) -> Key, id: fn(u16) -> u32) -> u64 {
    let mut live = |number: u16| {
        let key = key(number);
        for kind in [NEW, UPDATE, DESTROY, DESTROY] {
            let bytes = message_of(&key, kind, &facts(id(number), 0), true);
            let message = Messages::new(&bytes).next().unwrap();
            let (reported, is_synced) = (&mut case.reported, case.is_synced);
            case.follower
                .feed(&message, is_synced, &mut record(reported));
        }
    };
    (0..3000).for_each(&mut live);
    let before = step_count();
    (3000..3100).for_each(live);
    (step_count() - before) / 100
}

#[test]
fn a_tuple_that_is_used_often_costs_no_more_than_many_tuples() {
    let one_key: fn(u16) -> Key = |_| key_of(0);
    let many_keys: fn(u16) -> Key = |number| Key {
        zone: Some(Zone::new(number, ZoneDirection::Both)),
        ..key_of(0)
    };
    let one_id: fn(u16) -> u32 = |_| 7;
    let many_ids: fn(u16) -> u32 = u32::from;
    let holding: fn() -> Case = || Case {
        follower: Follower::new(),
        is_synced: false,
        reported: Vec::new(),
    };
    let dumping: fn() -> Case = || {
        let mut case = Case::new();
        case.lose();
        case.follower.begin_dump();
        case
    };
    for case in [Case::new, holding, dumping] {
        let many = steps_per_lifetime(&mut case(), many_keys, many_ids);
        for ids in [one_id, many_ids] {
            let one = steps_per_lifetime(&mut case(), one_key, ids);
            assert!(one <= many + 8, "{one} and {many} steps");
        }
    }
    // One tuple takes no memory per lifetime either.
    let mut case = dumping();
    steps_per_lifetime(&mut case, one_key, one_id);
    assert_eq!(case.follower.flows.tomb_count(), 1);
    assert!(case.follower.flows.slot_count() <= 2);
}

#[test]
fn flows_whose_ends_were_lost_do_not_pile_up_under_one_reply_tuple() {
    let reply = &facts(0, 0).reply;
    let zone = Some(Zone::new(5, ZoneDirection::Both));
    for is_indexed in [true, false] {
        let mut case = Case::new();
        if is_indexed {
            assert_eq!(case.follower.flows.find_by_reply(reply, zone), None);
        }
        let mut begin = |number: u16| {
            let [a, b] = number.to_be_bytes();
            let orig = Tuple {
                src: [10, 1, a, b].into(),
                ..key_of(0).orig
            };
            let bytes = message_of(&Key { orig, zone }, NEW, &facts(u32::from(number), 0), true);
            let message = Messages::new(&bytes).next().unwrap();
            case.follower
                .feed(&message, true, &mut record(&mut case.reported));
        };
        (0..3000).for_each(&mut begin);
        let before = step_count();
        (3000..3100).for_each(begin);
        assert!(step_count() - before < 100 * 8);
        let found = case.follower.flows.find_by_reply(reply, zone);
        let found = case.follower.flows.entry(found.unwrap());
        assert_eq!(found.id, Some(3099), "the last that began");
    }
}

#[test]
fn held_events_are_not_held_for_ever_while_others_come() {
    let mut case = Case {
        follower: Follower::new(),
        is_synced: false,
        reported: Vec::new(),
    };
    for id in 0..300 {
        case.feed(NEW, id, 0);
    }
    case.lose();
    for id in 300..410 {
        case.feed(NEW, id, 0);
    }
    assert!(!case.follower.held.is_ending());
    let begun = case.reported.iter().filter(|reported| reported.0 == NEW);
    assert!(begun.map(|reported| reported.1).eq(0..410));
}

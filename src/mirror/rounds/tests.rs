//! Rounds over a table of the host's devices.

use super::notes::{CALM, LONGEST_STORM};
use super::*;
use crate::engine::Loss;
use crate::message::flags;
use crate::mirror::barrier::PATIENCE;
use crate::mirror::schedule::INTERVAL;
use crate::socket::{Protocol, RecvFlags};

/// A table that only counts the host's devices.
#[derive(Default)]
struct Links {
    count: usize,
    abandoned_count: u32,
    change_count: u32,
}

impl Table for Links {
    type Group = u32;

    const PROTOCOL: Protocol = Protocol::ROUTE;
    const GROUPS: &'static [u32] = &[];

    fn request_dump(&self, requester: &mut Requester) -> Result<Exchange> {
        requester.begin(18, flags::DUMP, |message| message.bytes(&[0; 16])) // RTM_GETLINK
    }

    fn begin_dump(&mut self) {
        self.count = 0;
    }

    fn feed_dumped(&mut self, _message: &Message<'_>) {
        self.count += 1;
    }

    fn abandon_dump(&mut self) {
        self.abandoned_count += 1;
    }

    fn note_silent_change(&mut self) {
        self.change_count += 1;
    }
}

const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

struct Round {
    rounds: Rounds,
    links: Links,
    events: Socket,
    now: Instant,
}

impl Round {
    fn new(interval: Duration) -> Self {
        let now = Instant::now();
        let events = Socket::builder(Protocol::ROUTE).nonblocking(true).open();
        Self {
            rounds: Rounds::new(Intervals::new(interval, CHANGE_INTERVAL), now),
            links: Links::default(),
            events: events.unwrap(),
            now,
        }
    }

    fn advance(&mut self) -> Progress {
        let Self {
            rounds,
            links,
            events,
            now,
        } = self;
        rounds.advance(links, events, *now).unwrap()
    }

    /// Feeds the next acknowledgement.
    fn acknowledge(&mut self) {
        let mut buffer = [0; 4096];
        let list = self.events.recv(&mut buffer, RecvFlags::NONE).unwrap();
        for message in &list {
            self.rounds.feed_barrier(&message);
        }
    }

    fn lose(&mut self) {
        let since = Timestamp::now();
        let loss = Loss::new(3, since, since);
        self.rounds.note_loss(&loss, &mut self.links, self.now);
    }

    /// Runs a round to its end.
    fn complete(&mut self) -> Resync {
        self.merge(0).expect("it repairs something")
    }

    /// Runs a round whose merge finds this many differences.
    fn merge(&mut self, found_count: u64) -> Option<Resync> {
        self.advance();
        for _ in 0..2 {
            self.acknowledge();
            self.advance();
            assert!(self.links.count > 0, "there is a loopback device");
        }
        assert!(self.rounds.is_merging());
        self.finish(found_count)
    }

    fn finish(&mut self, found_count: u64) -> Option<Resync> {
        let merged = Merged {
            entry_count: self.links.count,
            found_count,
            is_open: false,
        };
        self.rounds.finish(merged, &mut self.links, self.now)
    }

    fn change(&mut self) {
        self.rounds.note_change(&mut self.links, self.now);
    }
}

#[test]
fn a_round_has_a_barrier_before_and_behind_its_dump() {
    let mut round = Round::new(INTERVAL);
    assert_eq!(round.advance(), Progress::Waits);
    assert!(
        !round.rounds.is_under_way(),
        "no dump before the first barrier"
    );
    round.acknowledge();
    assert_eq!(round.advance(), Progress::Waits);
    assert!(round.links.count > 0 && !round.rounds.is_merging());
    round.acknowledge();
    assert_eq!(round.advance(), Progress::Merges);
    let resync = round.finish(0).unwrap();
    assert_eq!(
        (resync.reason, resync.lost_count),
        (ResyncReason::Snapshot, 0)
    );
    assert!(round.rounds.is_synced());
    let audit = round.now + Duration::from_secs(15);
    assert_eq!(round.rounds.due(round.now), Some(audit));
}

#[test]
fn a_late_acknowledgement_meets_the_barrier() {
    let mut round = Round::new(INTERVAL);
    round.advance();
    for _ in 0..3 {
        round.now += PATIENCE;
        round.advance();
    }
    assert_eq!(round.rounds.request_count(), 4);
    round.acknowledge();
    round.advance();
    assert!(round.rounds.is_under_way(), "the first of four");
    // The other three acknowledgements do not meet the barrier at the dump's end.
    for _ in 0..3 {
        round.acknowledge();
        round.advance();
        assert!(!round.rounds.is_merging());
    }
    round.acknowledge();
    assert_eq!(round.advance(), Progress::Merges);
}

#[test]
fn a_change_before_the_dump_begins_is_in_the_dump() {
    let mut round = Round::new(INTERVAL);
    round.complete();
    round.now += INTERVAL;
    round.lose();
    round.now += CALM;
    round.advance();
    round.change();
    round.acknowledge();
    round.advance();
    assert!(round.rounds.is_under_way());
    // A later change needs another round, and does not end this one.
    let begun_at = round.now;
    round.change();
    assert!(round.rounds.is_under_way() && !round.rounds.is_synced());
    assert_eq!(
        (round.links.abandoned_count, round.links.change_count),
        (0, 1)
    );
    round.acknowledge();
    assert_eq!(round.advance(), Progress::Merges);
    let resync = round.finish(0).unwrap();
    assert_eq!(
        (resync.reason, resync.is_interrupted),
        (ResyncReason::Loss, true)
    );
    assert!(!round.rounds.is_synced());
    assert_eq!(
        round.rounds.due(round.now),
        Some(begun_at + CHANGE_INTERVAL)
    );
}

#[test]
fn an_audit_reports_only_what_it_finds() {
    let mut round = Round::new(INTERVAL);
    round.complete();
    for found_count in [0, 3] {
        round.now = round.rounds.due(round.now).unwrap();
        round.advance();
        assert!(round.rounds.is_synced(), "nothing is known to be wrong");
        let resync = round.merge(found_count);
        assert_eq!(
            resync.map(|resync| (resync.reason, resync.lost_count)),
            (found_count > 0).then_some((ResyncReason::Audit, 0))
        );
    }
    let health = round.rounds.health();
    assert_eq!((health.audit_count, health.audit_difference_count), (2, 3));
    assert_eq!(health.wrong_since, None);
}

#[test]
fn an_audit_that_a_loss_disturbs_becomes_a_repair_at_once() {
    let mut round = Round::new(INTERVAL);
    round.complete();
    round.now = round.rounds.due(round.now).unwrap();
    round.advance();
    round.acknowledge();
    round.advance();
    assert!(round.rounds.is_under_way());
    round.lose();
    assert!(!round.rounds.is_under_way() && !round.rounds.is_synced());
    assert_eq!(round.links.abandoned_count, 1);
    assert_eq!(round.rounds.due(round.now), Some(round.now + CALM));
    // The acknowledgement at the dump's end is no longer awaited.
    round.acknowledge();
    round.now += CALM;
    assert_eq!(round.complete().reason, ResyncReason::Loss);
}

#[test]
fn losses_beyond_counting_stay_at_the_largest_number() {
    let mut round = Round::new(INTERVAL);
    let since = Timestamp::now();
    for _ in 0..2 {
        let loss = Loss::new(u64::MAX, since, since);
        round.rounds.note_loss(&loss, &mut round.links, round.now);
        round.rounds.note_unreadable(&mut round.links, round.now);
    }
    round.now += LONGEST_STORM;
    assert_eq!(round.complete().lost_count, u64::MAX);
}

#[test]
fn a_failing_round_is_tried_again_later_and_reported_until_it_works() {
    let mut round = Round::new(INTERVAL);
    round.complete();
    round.now += INTERVAL;
    round.lose();
    for count in 1..=3 {
        round.now = round.rounds.due(round.now).unwrap();
        let Round {
            rounds, links, now, ..
        } = &mut round;
        let mute = Socket::open(Protocol::USERSOCK).unwrap(); // the kernel refuses what it is sent
        rounds.advance(links, &mute, *now).unwrap_err();
        let health = rounds.health();
        assert_eq!(health.failed_count, count);
        assert!(health.failing_since.is_some() && health.error.is_some());
        let wait = rounds.due(*now).unwrap() - *now;
        assert_eq!(wait, INTERVAL * 2u32.pow(count - 1));
    }
    round.now = round.rounds.due(round.now).unwrap();
    round.complete();
    let health = round.rounds.health();
    assert_eq!((health.failed_count, health.error), (0, None));
    assert_eq!((health.failing_since, health.failed_total_count), (None, 3));
}

#[test]
fn a_round_waits_for_calm_but_not_for_ever() {
    let mut round = Round::new(INTERVAL);
    round.complete();
    round.now += INTERVAL;
    let storm_began_at = round.now;
    while round.now + CALM < storm_began_at + LONGEST_STORM {
        round.lose();
        assert_eq!(round.rounds.due(round.now), Some(round.now + CALM));
        round.now += CALM / 2;
    }
    // Less than CALM is left until LONGEST_STORM ends.
    round.lose();
    assert_eq!(
        round.rounds.due(round.now),
        Some(storm_began_at + LONGEST_STORM)
    );
}

#[test]
fn rounds_keep_their_interval_once_a_dump_has_begun() {
    let mut round = Round::new(INTERVAL);
    round.complete();
    let begun_at = round.now;
    round.lose();
    assert_eq!(round.rounds.due(round.now), Some(begun_at + INTERVAL));
    round.now = begun_at + INTERVAL;
    let resync = round.complete();
    assert_eq!((resync.reason, resync.lost_count), (ResyncReason::Loss, 3));
}

#[test]
fn an_interval_beyond_the_clock_means_never() {
    let mut round = Round::new(Duration::MAX);
    round.complete();
    round.lose();
    assert_eq!(round.rounds.due(round.now), None);
    assert!(!round.rounds.is_synced());
}

#[test]
fn an_end_dumps_without_events() {
    let mut round = Round::new(INTERVAL);
    round.complete();
    round.lose();
    round.rounds.dump_at_end(&mut round.links, None).unwrap();
    assert!(round.links.count > 0 && round.rounds.is_merging());
}

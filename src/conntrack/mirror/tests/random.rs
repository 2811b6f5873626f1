//! Compares the table with a model of the kernel's. Events come in order, and some are lost. Dumps begin at any time,
//! and some are abandoned. The kernel is asked about single flows at any time, and most answers are ahead of events.

use std::collections::{BTreeMap, BTreeSet};
#[cfg(test)]
use std::ops::Range;
#[cfg(test)]
use std::time::Duration;

#[cfg(test)]
use nlring_testing::cpu_time;

use super::super::Change;
use super::super::entry::{Entry, Known};
use super::super::follow::Follower;
use super::super::shown::Selection;
#[cfg(test)]
use super::kernel::Resends;
use super::kernel::{CLASHES, FLOWS, Facts, Kernel, Queued, Way, is_clash, key_of, message_of};
use super::no_resync;
use crate::conntrack::Flow;
use crate::conntrack::identity::Identity;
use crate::event_kind::EventKind;
use crate::message::Messages;
use crate::mirror::{Random, Resync, Slice, Table as _};

/// The most CPU time for the seeds of one way. Without emulation they need about 1 s.
#[cfg(test)]
const MOST_CPU_TIME: Duration = Duration::from_secs(4);

/// A filter as text, and the same in code.
pub(super) struct Wanted {
    pub text: &'static str,
    /// Whether the flow with this number matches.
    pub is_wanted: fn(usize, &Facts) -> bool,
}

pub(super) const ALL: Wanted = Wanted {
    text: "all",
    is_wanted: |_, _| true,
};

/// A change that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub kind: EventKind,
    pub name: String,
    pub facts: Facts,
    pub is_resynced: bool,
}

/// Follows the changes, and fails if one does not fit the others.
#[derive(Default)]
pub(super) struct Listener {
    flows: BTreeMap<String, Facts>,
    pub reports: Vec<Report>,
    /// The flows that have begun, if ids are unique.
    begun: Option<BTreeSet<(String, u32)>>,
    pub new_count: u64,
    /// UPDATE events that the kernel sent.
    pub update_count: u64,
    pub destroy_count: u64,
    resyncs: Vec<Resync>,
}

/// A name that distinguishes a flow from all others.
pub(super) fn name(flow: &Flow<'_>) -> String {
    format!("{:?}", Identity::of(flow))
}

/// The kernel's answer to a question about a flow.
fn known_of(number: usize, facts: &Facts) -> Known {
    let bytes = message_of(&key_of(number), EventKind::Update, facts, true);
    let message = Messages::new(&bytes).next().unwrap();
    Known::of(&Flow::decode(&message).unwrap(), 0)
}

fn answer_of(kernel: &Kernel, identity: &Identity) -> Option<Known> {
    let flows = kernel.flows.iter().enumerate();
    let mut known = flows.filter_map(|(number, flow)| Some(known_of(number, &(*flow)?.facts)));
    known.find(|known| known.entry.has_identity(identity))
}

impl Listener {
    fn record(&mut self, change: &Change<'_>) {
        let (flow, is_resynced) = match change {
            Change::Flow {
                flow, is_resynced, ..
            } => (flow, *is_resynced),
            Change::Resynced(resync) => return self.resyncs.push(*resync),
        };
        self.reports.push(Report {
            kind: flow.kind,
            name: name(flow),
            facts: Facts::of(flow),
            is_resynced,
        });
        let known = self.flows.get_mut(&name(flow));
        match (flow.kind, known) {
            (EventKind::New, None) => {
                if let Some(begun) = &mut self.begun {
                    let is_first = begun.insert((name(flow), flow.id.unwrap()));
                    assert!(is_first, "it begins again: {flow:?}");
                }
                self.new_count += 1;
                self.flows.insert(name(flow), Facts::of(flow));
            }
            (EventKind::Update, Some(known)) => {
                assert_eq!(known.id, flow.id.unwrap());
                self.update_count += u64::from(!is_resynced);
                let state = flow.state.or(known.state);
                *known = Facts {
                    state,
                    ..Facts::of(flow)
                };
            }
            (EventKind::Delete, Some(known)) => {
                assert_eq!(known.id, flow.id.unwrap());
                self.destroy_count += 1;
                self.flows.remove(&name(flow));
            }
            (kind, known) => panic!("{kind:?} of {known:?}: {flow:?}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Opening,
    Opened,
    Dumping(Vec<usize>),
    Barrier,
    Acknowledged,
    Merging,
}

/// The mirror's rounds, without a socket.
pub(super) struct Mirrored {
    follower: Follower,
    pub listener: Listener,
    stage: Stage,
    is_synced: bool,
    drops_at_begin: u64,
    sequence: u64,
    /// Awaited behind the kernel's answers.
    awaited: Option<u64>,
    pub reported_drops: u64,
    /// How many NEW events were received.
    pub new_event_count: u64,
    /// Events may never have been sent.
    may_miss: bool,
}

impl Mirrored {
    fn new(wanted: &Wanted) -> Self {
        let mut follower = Follower::new();
        follower.selection = Selection::of(wanted.text.parse().unwrap()).unwrap();
        Self {
            follower,
            listener: Listener::default(),
            stage: Stage::Idle,
            is_synced: false,
            drops_at_begin: 0,
            sequence: 0,
            awaited: None,
            reported_drops: 0,
            new_event_count: 0,
            may_miss: false,
        }
    }

    fn abandon(&mut self) {
        if !matches!(self.stage, Stage::Idle | Stage::Opening | Stage::Opened) {
            self.follower.abandon_dump();
        }
        self.stage = Stage::Idle;
    }

    /// Feeds the next datagram. False: the queue is empty.
    fn receive(&mut self, kernel: &mut Kernel) -> bool {
        match kernel.queue.pop_front() {
            None => return false,
            Some(Queued::Barrier(sequence)) => {
                if sequence == self.sequence {
                    match self.stage {
                        Stage::Opening => self.stage = Stage::Opened,
                        Stage::Barrier => self.stage = Stage::Acknowledged,
                        _ => {}
                    }
                }
            }
            Some(Queued::Answered(sequence)) => {
                if self.awaited == Some(sequence) {
                    self.awaited = None;
                    let listener = &mut self.listener;
                    let mut f = |change: Change<'_>| listener.record(&change);
                    self.follower.settle_answers(&mut f);
                }
            }
            Some(Queued::Event(bytes)) => {
                let message = Messages::new(&bytes).next().unwrap();
                let kind = Flow::decode(&message).unwrap().kind;
                self.new_event_count += u64::from(kind == EventKind::New);
                let listener = &mut self.listener;
                let mut f = |change: Change<'_>| listener.record(&change);
                self.follower.feed(&message, self.is_synced, &mut f);
            }
        }
        true
    }

    fn note_loss(&mut self, kernel: &Kernel) {
        if self.reported_drops < kernel.drops {
            self.reported_drops = kernel.drops;
            self.follower.note_loss();
            self.abandon();
            self.is_synced = false;
        }
    }

    fn advance(&mut self, kernel: &mut Kernel, random: &mut Random) {
        let listener = &mut self.listener;
        let mut f = |change: Change<'_>| listener.record(&change);
        if !self.follower.end_holding(&mut some_steps(random), &mut f)
            || !self.follower.clear(&mut some_steps(random))
        {
            return;
        }
        match &mut self.stage {
            Stage::Idle => {
                self.drops_at_begin = kernel.drops;
                self.stage = Stage::Opening;
                self.ask_for_barrier(kernel, random);
            }
            Stage::Opened => {
                self.follower.begin_dump();
                let mut order: Vec<usize> = (0..FLOWS).collect();
                for _ in 0..FLOWS {
                    order.swap(random.index(FLOWS), random.index(FLOWS));
                }
                self.stage = Stage::Dumping(order);
            }
            Stage::Dumping(left) => {
                if let Some(number) = left.pop() {
                    if random.one_in(8) {
                        left.push(number); // the dump shows it twice
                    }
                    self.feed_dumped(number, kernel);
                } else {
                    self.stage = Stage::Barrier;
                    self.ask_for_barrier(kernel, random);
                }
            }
            Stage::Opening | Stage::Barrier => {
                if random.one_in(8) {
                    self.ask_for_barrier(kernel, random); // as after a time-out
                }
            }
            Stage::Acknowledged if kernel.drops == self.drops_at_begin => {
                self.follower.begin_merge();
                self.stage = Stage::Merging;
            }
            Stage::Acknowledged => self.abandon(),
            Stage::Merging => self.merge(random),
        }
    }

    fn ask_for_barrier(&mut self, kernel: &mut Kernel, random: &mut Random) {
        self.sequence += 1;
        kernel.queue(Queued::Barrier(self.sequence), random);
    }

    fn feed_dumped(&mut self, number: usize, kernel: &Kernel) {
        if let Some(flow) = kernel.flows[number].filter(|_| !is_clash(number)) {
            let bytes = message_of(&key_of(number), EventKind::Update, &flow.facts, true);
            self.follower
                .feed_dumped(&Messages::new(&bytes).next().unwrap());
        }
    }

    fn merge(&mut self, random: &mut Random) {
        let listener = &mut self.listener;
        let is_done = self.follower.merge(&mut some_steps(random), &mut |change| {
            listener.record(&change);
        });
        if is_done {
            self.is_synced = true;
            self.stage = Stage::Idle;
            let mut resync = no_resync();
            self.follower.finish();
            self.follower.count_in(&mut resync);
            assert_eq!(self.follower.shown_count(), self.listener.flows.len());
            self.listener.record(&Change::Resynced(resync));
        }
    }

    fn is_at_rest(&self) -> bool {
        let is_idle = matches!(self.stage, Stage::Idle | Stage::Opening | Stage::Opened);
        self.is_synced && is_idle && self.follower.is_cleared()
    }

    /// Asks about the flows whose events contradict the table, and about one that may be overdue.
    fn ask(&mut self, kernel: &mut Kernel, random: &mut Random) {
        if !self.is_at_rest() || self.awaited.is_some() && !random.one_in(8) {
            return;
        }
        if self.awaited.is_none() {
            let live = self.follower.flows.live().map(Entry::identity);
            let live = live.skip(random.index(FLOWS)).take(1);
            let contradicted = self.follower.contradicted.iter().copied();
            for identity in contradicted.chain(live).collect::<Vec<_>>() {
                self.follower
                    .note_answer(&identity, answer_of(kernel, &identity));
            }
            self.follower.contradicted.clear();
        }
        self.sequence += 1;
        self.awaited = Some(self.sequence);
        kernel.queue(Queued::Answered(self.sequence), random);
    }

    /// Asks about the flows whose events contradict the table, until none is left.
    fn resolve(&mut self, kernel: &mut Kernel, random: &mut Random) {
        while self.awaited.is_some() || !self.follower.contradicted.is_empty() {
            self.ask(kernel, random);
            self.receive(kernel);
        }
    }

    /// Notes the losers of NAT races that began with an answer.
    fn announce(&self, kernel: &mut Kernel) {
        for number in CLASHES..FLOWS {
            let Some(flow) = &mut kernel.flows[number] else {
                continue;
            };
            let known = known_of(number, &flow.facts).entry;
            let live = self.follower.flows.find(&known.identity()).live;
            if !flow.is_announced && live.is_some() {
                flow.is_announced = true;
                kernel.begun += 1;
            }
        }
    }

    fn assert_is(&self, kernel: &Kernel, wanted: &Wanted) {
        let flows = &self.follower.flows;
        let named = |entry: &Entry| {
            let flow = entry.to_flow(EventKind::Update, 0);
            (name(&flow), Facts::of(&flow))
        };
        let live = flows.live_from(0);
        let shown = live.filter(|slot| self.follower.is_shown(*slot));
        let mirrored: BTreeMap<_, _> = shown.map(|slot| named(flows.entry(slot))).collect();
        let truth = (0..FLOWS).filter_map(|number| {
            let flow = kernel.flows[number]?;
            if !(wanted.is_wanted)(number, &flow.facts) {
                return None;
            }
            let (name, facts) = named(&known_of(number, &flow.facts).entry);
            // No dump has a flow that lost a NAT race. The mirror lacks it before its first event, and may lack it
            // after a loss.
            let is_known = match (is_clash(number), kernel.drops) {
                (false, _) => true,
                (true, 0) if !self.may_miss => flow.is_announced,
                (true, _) => mirrored.contains_key(&name),
            };
            is_known.then_some((name, facts))
        });
        let truth: BTreeMap<_, _> = truth.collect();
        assert_eq!(mirrored, truth, "the table, {}", wanted.text);
        assert_eq!(self.listener.flows, truth, "what the listener knows");
        assert_eq!(self.follower.shown_count(), truth.len());
        assert_eq!(flows.tomb_count(), 0);
        for entry in flows.live() {
            self.assert_is_found(entry);
        }
    }

    fn assert_is_found(&self, entry: &Entry) {
        let flows = &self.follower.flows;
        let found = flows.find(&entry.identity());
        assert!(found.live.is_some() && found.pending.is_none());
        let by_reply = flows.find_by_reply(&entry.reply.unwrap(), entry.zone);
        assert_eq!(by_reply.map(|slot| flows.entry(slot)), Some(entry));
        let by_id: Vec<_> = flows.find_by_id(entry.id.unwrap()).collect();
        let by_id: Vec<_> = by_id.iter().map(|slot| flows.entry(*slot)).collect();
        assert!(by_id.contains(&entry) && by_id.iter().all(|found| found.id == entry.id));
    }
}

pub(super) fn some_steps(random: &mut Random) -> Slice {
    Slice::of_steps(random.below(6))
}

/// Four times, random steps run, then everything becomes quiet, and the table is compared.
pub(super) fn run(mut random: Random, way: Way, wanted: &Wanted) -> (Kernel, Mirrored) {
    let mut kernel = Kernel::default();
    kernel.way.has_unique_ids = way.has_unique_ids;
    kernel.live_before(&mut random);
    let mut mirrored = Mirrored::new(wanted);
    mirrored.may_miss = way.silent > 0;
    mirrored.listener.begun = way.has_unique_ids.then(BTreeSet::new);
    if let Some(bytes) = way.holds_bytes {
        mirrored.follower.held.set_most_bytes(bytes);
    }
    let is_whole = way.loss == 0 && way.holds_bytes.is_none();
    for _ in 0..4 {
        kernel.way = way;
        for _ in 0..40 + random.below(80) {
            match random.below(17) {
                0..6 => kernel.act(&mut random),
                6..11 => _ = mirrored.receive(&mut kernel),
                11 => mirrored.note_loss(&kernel),
                16 => mirrored.ask(&mut kernel, &mut random),
                // If nothing is lost, nothing interrupts the first round.
                12 if !is_whole && random.one_in(12) => mirrored.abandon(),
                // Rarely, a round begins without a reason.
                _ if mirrored.is_synced && !random.one_in(20) && mirrored.stage == Stage::Idle => {}
                _ => mirrored.advance(&mut kernel, &mut random),
            }
        }
        make_quiet(&mut kernel, &mut mirrored, &mut random);
        if !way.only_reports_ends {
            mirrored.assert_is(&kernel, wanted);
        }
    }
    (kernel, mirrored)
}

fn make_quiet(kernel: &mut Kernel, mirrored: &mut Mirrored, random: &mut Random) {
    let is_silent = kernel.way.silent > 0;
    (kernel.way.loss, kernel.way.silent) = (0, 0);
    kernel.settle(random);
    while mirrored.receive(kernel) {}
    mirrored.note_loss(kernel);
    let mut more_rounds = u32::from(is_silent); // a round that begins now repairs what was never sent
    while !mirrored.is_synced || mirrored.stage != Stage::Idle || more_rounds > 0 {
        let was_at_rest = mirrored.is_synced && mirrored.stage == Stage::Idle;
        mirrored.advance(kernel, random);
        if was_at_rest && mirrored.stage == Stage::Opening {
            more_rounds = more_rounds.saturating_sub(1);
        }
        mirrored.receive(kernel);
    }
    while !mirrored.follower.clear(&mut some_steps(random)) {}
    mirrored.resolve(kernel, random);
    mirrored.announce(kernel);
}

/// Runs each seed, and prints the one that failed.
#[cfg(test)]
fn run_all(seeds: Range<u64>, way: Way, check: fn(Kernel, Mirrored)) {
    run_each(seeds, way, |seed| {
        let (kernel, mirrored) = run(Random::new(seed), way, &ALL);
        check(kernel, mirrored);
    });
}

/// Runs each seed, and prints the one that failed. An emulated machine runs the first ones only.
#[cfg(test)]
pub(super) fn run_each(seeds: Range<u64>, way: Way, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let start = cpu_time();
    for seed in seeds.clone() {
        if cpu_time().saturating_sub(start) > MOST_CPU_TIME {
            return println!(
                "{seed} of {} seeds, because this machine is slow",
                seeds.end
            );
        }
        if let Err(failure) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("seed {seed}, {way:?}");
            std::panic::resume_unwind(failure);
        }
    }
}

#[test]
fn the_table_equals_the_kernels_whenever_all_is_quiet() {
    for loss in [3, 10, 40] {
        let way = Way {
            loss,
            ..Way::default()
        };
        run_all(0..3000, way, |kernel, mirrored| {
            assert_eq!(mirrored.reported_drops, kernel.drops);
        });
    }
}

#[test]
fn the_table_equals_the_kernels_if_few_events_can_be_held() {
    for loss in [0, 10] {
        let way = Way {
            loss,
            holds_bytes: Some(600),
            ..Way::default()
        };
        run_all(0..2000, way, |_, _| {});
    }
}

#[test]
fn the_table_equals_the_kernels_if_ends_are_repeated_and_events_follow_them() {
    for loss in [0, 3, 10] {
        for resends in [Resends::Never, Resends::OfOthers, Resends::Own] {
            let way = Way {
                loss,
                resends,
                has_late_updates: true,
                has_late_news: true,
                ..Way::default()
            };
            run_all(0..1500, way, |_, _| {});
        }
    }
}

#[test]
fn a_round_repairs_what_was_never_sent() {
    for (silent, loss) in [(3, 0), (10, 0), (5, 10)] {
        let way = Way {
            loss,
            silent,
            ..Way::default()
        };
        run_all(0..1500, way, |_, _| {});
    }
}

/// No event is lost, so no round may make one up.
#[test]
fn without_loss_each_lifetime_is_reported_once() {
    for resends in [Resends::Never, Resends::OfOthers] {
        let way = Way {
            resends,
            has_late_updates: true,
            ..Way::default()
        };
        run_all(0..4000, way, |kernel, mirrored| {
            assert_eq!(mirrored.listener.new_count, kernel.begun);
            assert_eq!(mirrored.listener.destroy_count, kernel.ended);
            assert!(mirrored.listener.update_count <= kernel.updated);
        });
    }
}

#[test]
fn a_reliable_mirror_reports_each_end_once_and_no_beginning_twice() {
    for loss in [2, 4, 12] {
        let way = Way {
            loss,
            resends: Resends::Own,
            has_late_updates: true,
            has_unique_ids: true,
            frees_keys_late: true,
            ..Way::default()
        };
        run_all(0..2000, way, |kernel, mirrored| {
            assert_eq!(mirrored.listener.destroy_count, kernel.ended);
            let alive = mirrored.listener.flows.len() as u64;
            assert_eq!(mirrored.listener.new_count, kernel.ended + alive);
        });
    }
}

#[test]
fn each_end_is_reported_once_if_only_ends_have_events() {
    for resends in [Resends::Never, Resends::OfOthers] {
        let way = Way {
            resends,
            only_reports_ends: true,
            has_unique_ids: true,
            ..Way::default()
        };
        run_all(0..3000, way, |kernel, mirrored| {
            assert_eq!(mirrored.listener.destroy_count, kernel.ended);
        });
    }
}

/// A flow often has the tuple and the id of an earlier flow whose end was lost.
#[test]
fn each_flow_that_begins_is_reported() {
    for loss in [3, 10] {
        let way = Way {
            loss,
            has_unique_replies: true,
            ..Way::default()
        };
        run_all(0..3000, way, |_, mirrored| {
            assert!(mirrored.listener.new_count >= mirrored.new_event_count);
        });
    }
}

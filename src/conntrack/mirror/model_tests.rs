//! The table against a model of the kernel's: events in order, some of them lost, dumps at any time, some of them abandoned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::time::SystemTime;

use super::Change;
use super::entry::{Entry, Known};
use super::follow::Follower;
use crate::conntrack::identity::Identity;
use crate::conntrack::{Flow, Key, Layer4, ProtocolState, Tuple, Zone, ZoneDirection, status};
use crate::event_kind::EventKind;
use crate::message::{MessageBuilder, Messages, flags};
use crate::mirror::{Resync, ResyncReason, Table as _};

/// Flows there may be at a time.
const FLOWS: usize = 9;
/// Those from this number on have lost a NAT race: they have the keys of others, no NEW event, and no place in a dump.
const CLASHES: usize = 7;
/// A flow's id is one of so few that lifetimes often share it.
const IDS: u64 = 3;

/// A xorshift generator: the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn key(&mut self) -> usize {
        usize::try_from(self.below(FLOWS as u64)).unwrap()
    }
}

/// What kernel, mirror and listener must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub reply: Tuple,
    pub id: u32,
    pub mark: u32,
    pub status: u32,
    pub state: Option<ProtocolState>,
}

impl Facts {
    fn of(flow: &Flow<'_>) -> Self {
        Self {
            reply: flow.reply.unwrap(),
            id: flow.id.unwrap(),
            mark: flow.mark.unwrap_or(0),
            status: flow.status.unwrap(),
            state: flow.state,
        }
    }
}

fn is_clash(number: usize) -> bool {
    number >= CLASHES
}

/// Keys with the same tuple in several zones, TCP and UDP.
pub(super) fn key_of(number: usize) -> Key {
    let number = if is_clash(number) {
        2 * (number - CLASHES) + 1 // one of UDP
    } else {
        number
    };
    let address = |host: usize| IpAddr::from([10, 0, 0, u8::try_from(host).unwrap()]);
    let protocol = if number.is_multiple_of(2) { 6 } else { 17 };
    let layer4 = Layer4::Ports { src: 1000, dst: 80 };
    let zone = |id, direction| Some(Zone { id, direction });
    Key {
        orig: Tuple::new(address(number / 4), address(9), protocol, layer4),
        zone: match number / 2 % 2 {
            0 => None,
            _ if number.is_multiple_of(2) => zone(5, ZoneDirection::Both),
            _ => zone(5, ZoneDirection::Orig),
        },
    }
}

pub(super) fn message_of(key: &Key, kind: EventKind, facts: &Facts, has_state: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (message_type, flags) = match kind {
        EventKind::New => (0x100, flags::CREATE | flags::EXCL),
        EventKind::Update => (0x100, 0),
        EventKind::Delete => (0x102, 0),
        EventKind::Entry => (0x100, flags::MULTI),
    };
    let orig_zone = key
        .zone
        .filter(|zone| zone.direction == ZoneDirection::Orig);
    let mut message = MessageBuilder::new(&mut bytes, message_type, flags)
        .bytes(&[2, 0, 0, 0])
        .nested(1, |orig| key.orig.put(orig, orig_zone.map(|zone| zone.id)))
        .nested(2, |reply| facts.reply.put(reply, None))
        .attribute_be32(3, facts.status)
        .attribute_be32(7, 60)
        .attribute_be32(12, facts.id);
    if let (true, Some(ProtocolState::Tcp(state))) = (has_state, facts.state) {
        message = message.nested(4, |info| info.nested(1, |tcp| tcp.attribute_u8(1, state)));
    }
    if facts.mark != 0 {
        message = message.attribute_be32(8, facts.mark);
    }
    if let (Some(zone), None) = (key.zone, orig_zone) {
        message = message.attribute_be16(18, zone.id);
    }
    message.finish().unwrap();
    bytes
}

/// Whose reliable socket misses DESTROY events, so that the kernel sends them again to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Resends {
    #[default]
    Never,
    /// Another program's.
    OfOthers,
    /// The mirror's own: it misses no end.
    Own,
}

/// What the kernel does.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// Of so many events one is lost; 0: none.
    loss: u64,
    /// None: as many as there are.
    holds_bytes: Option<usize>,
    resends: Resends,
    /// As a rule `ct event set destroy` has it.
    only_tells_ends: bool,
    /// An UPDATE may be sent behind its flow's DESTROY.
    has_late_updates: bool,
    /// So may a NEW.
    has_late_news: bool,
    /// Of so many events one is never sent, and not counted as lost; 0: none.
    silent: u64,
    /// No id is used again.
    has_unique_ids: bool,
    /// A key is used again only when the end of the flow that had it has been delivered.
    spares_keys: bool,
    /// No two flows have the same reply tuple.
    has_unique_replies: bool,
}

#[derive(Clone, Copy, Debug)]
struct KernelFlow {
    facts: Facts,
    /// Its NEW is queued; before, a dump shows it already.
    is_told: bool,
    /// Of one that lost a NAT race: an event of it is queued, which is its beginning to those who listen.
    is_heard: bool,
    /// It began before anybody listened. Should it be ending, and its DESTROY not be queued, when the first dump meets it, then
    /// it is never told.
    is_old: bool,
    /// It is ending; a dump shows it still.
    is_dying: bool,
    /// Its DESTROY is queued.
    is_end_told: bool,
}

enum Queued {
    Event(Vec<u8>),
    /// The acknowledgement with this sequence number.
    Barrier(u64),
}

#[derive(Default)]
struct Kernel {
    flows: [Option<KernelFlow>; FLOWS],
    queue: VecDeque<Queued>,
    way: Way,
    /// Flows that have left the table, and whose DESTROY is to be sent again.
    undelivered: Vec<(usize, Facts)>,
    /// Events that are made and not sent yet. Each holds its flow, so that its memory, and the id, is not used again.
    late: Vec<(usize, EventKind, Facts)>,
    next_id: u32,
    drops: u64,
    /// Lifetimes that began, and those that ended.
    begun: u64,
    ended: u64,
    /// UPDATE events.
    updated: u64,
    /// Reply tuples that are like no other.
    made: u16,
}

impl Kernel {
    /// False: it is lost.
    fn queue(&mut self, queued: Queued, random: &mut Random) -> bool {
        let is_lost = self.way.loss > 0 && random.one_in(self.way.loss);
        if is_lost {
            self.drops += 1;
        } else {
            self.queue.push_back(queued);
        }
        !is_lost
    }

    fn queue_event(
        &mut self,
        number: usize,
        kind: EventKind,
        has_state: bool,
        random: &mut Random,
    ) -> bool {
        let facts = self.flows[number].unwrap().facts;
        self.send(number, kind, &facts, has_state, random)
    }

    fn send(
        &mut self,
        number: usize,
        kind: EventKind,
        facts: &Facts,
        has_state: bool,
        random: &mut Random,
    ) -> bool {
        if self.way.only_tells_ends && kind != EventKind::Delete {
            return true;
        }
        if self.way.silent > 0 && random.one_in(self.way.silent) {
            return true;
        }
        if let Some(flow) = &mut self.flows[number]
            && is_clash(number)
            && !flow.is_heard
            && flow.facts.id == facts.id
            && (kind == EventKind::Delete || facts.status & status::DYING == 0)
        {
            flow.is_heard = true;
            self.begun += 1;
        }
        let bytes = message_of(&key_of(number), kind, facts, has_state);
        self.queue(Queued::Event(bytes), random)
    }

    fn new_id(&mut self, number: usize, random: &mut Random) -> u32 {
        if self.way.has_unique_ids || is_clash(number) {
            // Without a NEW, another lifetime of the same id would be taken for the one before.
            self.next_id += 1;
            return 100 + self.next_id;
        }
        let first = u32::try_from(random.below(IDS)).unwrap();
        let is_held = |id: u32| {
            let is_it = |other: usize, facts: &Facts| other == number && facts.id == id;
            let (mut undelivered, mut late) = (self.undelivered.iter(), self.late.iter());
            undelivered.any(|(other, facts)| is_it(*other, facts))
                || late.any(|(other, _, facts)| is_it(*other, facts))
        };
        (first..=u32::MAX).find(|id| !is_held(*id)).unwrap()
    }

    /// Sends what is late, or what was not delivered, once more.
    fn send_behind(&mut self, random: &mut Random) {
        if let Some((number, kind, facts)) = self.late.pop() {
            self.send(number, kind, &facts, true, random);
        }
        if !self.undelivered.is_empty() {
            let index = random.below(self.undelivered.len() as u64);
            let (number, facts) = self
                .undelivered
                .swap_remove(usize::try_from(index).unwrap());
            let is_delivered = self.send(number, EventKind::Delete, &facts, true, random);
            let is_missed = match self.way.resends {
                Resends::Own => !is_delivered,
                _ => random.one_in(3),
            };
            if is_missed {
                self.undelivered.push((number, facts));
            }
        }
    }

    fn create(&mut self, number: usize, random: &mut Random) {
        let key = key_of(number);
        let mut reply = key.orig.reversed().unwrap();
        if is_clash(number) || random.one_in(3) {
            // Of each flow with another port: reply tuples are unique.
            reply.dst = IpAddr::from([192, 0, 2, u8::try_from(random.below(3)).unwrap()]);
            let dst = u16::try_from(1000 + number).unwrap();
            reply.layer4 = Layer4::Ports { src: 80, dst };
        }
        let is_tcp = key.orig.protocol == 6;
        let id = self.new_id(number, random);
        let mark = u32::try_from(random.below(2)).unwrap();
        if self.way.has_unique_replies {
            self.made += 1;
            let dst = self.made;
            reply.layer4 = Layer4::Ports { src: 80, dst };
        }
        self.flows[number] = Some(KernelFlow {
            facts: Facts {
                reply,
                id,
                mark,
                status: if is_clash(number) {
                    status::CONFIRMED | status::NAT_CLASH
                } else {
                    status::CONFIRMED
                },
                state: is_tcp.then_some(ProtocolState::Tcp(1)),
            },
            is_told: is_clash(number),
            is_heard: false,
            is_old: false,
            is_dying: false,
            is_end_told: false,
        });
        self.begun += u64::from(!is_clash(number));
        if !random.one_in(4) {
            self.tell(number, random);
        }
    }

    fn tell(&mut self, number: usize, random: &mut Random) {
        if let Some(flow) = &mut self.flows[number]
            && !flow.is_told
        {
            flow.is_told = true;
            self.queue_event(number, EventKind::New, true, random);
        }
    }

    fn change(&mut self, number: usize, random: &mut Random) {
        self.tell(number, random);
        let what = random.below(3);
        let flow = self.flows[number].as_mut().unwrap();
        let facts = &mut flow.facts;
        let old = *facts;
        match what {
            0 => facts.mark = u32::try_from(random.below(3)).unwrap(),
            1 => facts.status |= status::SEEN_REPLY << random.below(2),
            _ => {
                let state = u8::try_from(2 + random.below(6)).unwrap();
                facts.state = facts.state.map(|_| ProtocolState::Tcp(state));
            }
        }
        let has_state = facts.state != old.state;
        // Another program's reliable socket missed its NEW, so that comes again, though nothing may be new.
        let is_new_again = !self.way.has_unique_replies && !is_clash(number) && random.one_in(8);
        let kind = if is_new_again {
            EventKind::New
        } else {
            EventKind::Update
        };
        self.updated += 1;
        self.queue_event(number, kind, has_state || is_new_again, random);
    }

    fn kill(&mut self, number: usize, random: &mut Random) {
        let flow = self.flows[number].as_mut().unwrap();
        let is_unsent = !flow.is_told && self.way.has_late_news;
        flow.is_told |= is_unsent;
        if is_unsent {
            self.make_late(number, EventKind::New, random);
        }
        self.tell(number, random);
        if self.way.has_late_updates && random.one_in(2) {
            self.make_late(number, EventKind::Update, random);
        }
        let flow = self.flows[number].as_mut().unwrap();
        flow.is_dying = true;
        let is_old = flow.is_old;
        flow.facts.status |= status::DYING;
        self.ended += 1;
        if is_old || !random.one_in(4) {
            self.end(number, random);
        }
    }

    /// Makes an event that is sent behind the DESTROY that follows.
    fn make_late(&mut self, number: usize, kind: EventKind, random: &mut Random) {
        let mut facts = self.flows[number].unwrap().facts;
        if random.one_in(2) {
            facts.status |= status::DYING;
        }
        self.updated += u64::from(kind == EventKind::Update); // it may be sent in front of it, too
        self.late.push((number, kind, facts));
    }

    /// Tells the end of one that is dying, if that is still to be done; then it may be gone.
    fn end(&mut self, number: usize, random: &mut Random) {
        let flow = self.flows[number].as_mut().unwrap();
        let facts = flow.facts;
        if !flow.is_end_told {
            flow.is_end_told = true;
            let is_delivered = self.queue_event(number, EventKind::Delete, true, random);
            let is_missed = match self.way.resends {
                Resends::Never => false,
                Resends::OfOthers => random.one_in(2),
                Resends::Own => !is_delivered,
            };
            if is_missed {
                self.undelivered.push((number, facts));
                self.flows[number] = None;
                self.send_late(number, random);
                return;
            }
            // Another program's reliable socket could not take it, so it is sent again.
            if self.way.resends != Resends::Own && random.one_in(10) {
                self.queue_event(number, EventKind::Delete, true, random);
            }
        }
        self.send_late(number, random);
        if !random.one_in(4) {
            self.flows[number] = None;
        }
    }

    /// Where events are lost, none is so late that a dump comes between: whoever misses the end could not tell.
    fn send_late(&mut self, number: usize, random: &mut Random) {
        while self.way.loss > 0
            && let Some(index) = self.late.iter().position(|(other, ..)| *other == number)
        {
            let (_, kind, facts) = self.late.remove(index);
            self.send(number, kind, &facts, true, random);
        }
    }

    fn act(&mut self, random: &mut Random) {
        let number = random.key();
        if random.one_in(4) {
            self.send_behind(random);
        }
        let is_spared =
            self.way.spares_keys && self.undelivered.iter().any(|(other, _)| *other == number);
        match self.flows[number] {
            None if is_spared => {}
            None => self.create(number, random),
            Some(flow) if flow.is_dying => self.end(number, random),
            Some(flow) if !flow.is_told && random.one_in(2) => self.tell(number, random),
            Some(_) if random.one_in(3) => self.kill(number, random),
            Some(_) => self.change(number, random),
        }
    }

    /// What happened before anybody listened.
    fn live_before(&mut self, random: &mut Random) {
        for _ in 0..random.below(60) {
            self.act(random);
        }
        let way = std::mem::take(&mut self.way);
        self.settle(random);
        self.way = way;
        self.queue.clear();
        for flow in self.flows.iter_mut().flatten() {
            (flow.is_old, flow.is_heard) = (true, false);
        }
        self.begun = self.flows[..CLASHES].iter().flatten().count() as u64;
        self.ended = 0;
        self.updated = 0;
    }

    fn settle(&mut self, random: &mut Random) {
        for number in 0..FLOWS {
            self.tell(number, random);
            while self.flows[number].is_some_and(|flow| flow.is_dying) {
                self.end(number, random);
            }
        }
        while !self.late.is_empty() || !self.undelivered.is_empty() {
            self.send_behind(random);
        }
    }
}

/// One who follows the changes, and believes nothing that does not fit.
#[derive(Default)]
struct Listener {
    flows: BTreeMap<String, Facts>,
    /// Of flows whose ids are unique, those that have begun.
    begun: Option<BTreeSet<(String, u32)>>,
    new_count: u64,
    /// Those that the kernel sent.
    update_count: u64,
    destroy_count: u64,
    resyncs: Vec<Resync>,
}

/// Of what tells a flow from all others.
fn name(flow: &Flow<'_>) -> String {
    format!("{:?}", Identity::of(flow))
}

/// What the kernel says of a flow.
fn known_of(number: usize, facts: &Facts) -> Known {
    let bytes = message_of(&key_of(number), EventKind::Update, facts, true);
    let message = Messages::new(&bytes).next().unwrap();
    Known::of(&Flow::decode(&message).unwrap(), 0)
}

impl Listener {
    fn hear(&mut self, change: &Change<'_>) {
        let (flow, is_resynced) = match change {
            Change::Flow { flow, is_resynced } => (flow, *is_resynced),
            Change::Resynced(resync) => return self.resyncs.push(*resync),
        };
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
enum Phase {
    Idle,
    Opening,
    Opened,
    Dumping(Vec<usize>),
    Barrier,
    Acknowledged,
    Merging,
}

/// The mirror's rounds, without a socket.
struct Mirrored {
    follower: Follower,
    listener: Listener,
    phase: Phase,
    is_synced: bool,
    drops_at_begin: u64,
    sequence: u64,
    told_drops: u64,
    /// NEW events that were received.
    new_event_count: u64,
    /// Events may never have been sent.
    may_miss: bool,
}

impl Mirrored {
    fn new() -> Self {
        Self {
            follower: Follower::new(),
            listener: Listener::default(),
            phase: Phase::Idle,
            is_synced: false,
            drops_at_begin: 0,
            sequence: 0,
            told_drops: 0,
            new_event_count: 0,
            may_miss: false,
        }
    }

    fn abandon(&mut self) {
        if !matches!(self.phase, Phase::Idle | Phase::Opening | Phase::Opened) {
            self.follower.abandon();
        }
        self.phase = Phase::Idle;
    }

    /// Takes what comes next. False: nothing.
    fn receive(&mut self, kernel: &mut Kernel) -> bool {
        match kernel.queue.pop_front() {
            None => return false,
            Some(Queued::Barrier(sequence)) => {
                if sequence == self.sequence {
                    match self.phase {
                        Phase::Opening => self.phase = Phase::Opened,
                        Phase::Barrier => self.phase = Phase::Acknowledged,
                        _ => {}
                    }
                }
            }
            Some(Queued::Event(bytes)) => {
                let message = Messages::new(&bytes).next().unwrap();
                let kind = Flow::decode(&message).unwrap().kind;
                self.new_event_count += u64::from(kind == EventKind::New);
                let listener = &mut self.listener;
                let mut f = |change: Change<'_>| listener.hear(&change);
                self.follower.take(&message, self.is_synced, &mut f);
            }
        }
        true
    }

    fn hear_of_loss(&mut self, kernel: &Kernel) {
        if self.told_drops < kernel.drops {
            self.told_drops = kernel.drops;
            self.follower.note_loss();
            self.abandon();
            self.is_synced = false;
        }
    }

    fn advance(&mut self, kernel: &mut Kernel, random: &mut Random) {
        let listener = &mut self.listener;
        let mut f = |change: Change<'_>| listener.hear(&change);
        if !self.follower.end_holding_until(&some_steps(random), &mut f)
            || !self.follower.clear(&some_steps(random))
        {
            return;
        }
        match &mut self.phase {
            Phase::Idle => {
                self.drops_at_begin = kernel.drops;
                self.phase = Phase::Opening;
                self.ask_for_barrier(kernel, random);
            }
            Phase::Opened => {
                self.follower.begin();
                let mut order: Vec<usize> = (0..FLOWS).collect();
                for _ in 0..FLOWS {
                    order.swap(random.key(), random.key());
                }
                self.phase = Phase::Dumping(order);
            }
            Phase::Dumping(left) => {
                if let Some(number) = left.pop() {
                    if random.one_in(8) {
                        left.push(number); // met twice
                    }
                    self.take_dumped(number, kernel);
                } else {
                    self.phase = Phase::Barrier;
                    self.ask_for_barrier(kernel, random);
                }
            }
            Phase::Opening | Phase::Barrier => {
                if random.one_in(8) {
                    self.ask_for_barrier(kernel, random); // patience is over
                }
            }
            Phase::Acknowledged if kernel.drops == self.drops_at_begin => {
                self.follower.begin_merge();
                self.phase = Phase::Merging;
            }
            Phase::Acknowledged => self.abandon(),
            Phase::Merging => self.merge(random),
        }
    }

    fn ask_for_barrier(&mut self, kernel: &mut Kernel, random: &mut Random) {
        self.sequence += 1;
        kernel.queue(Queued::Barrier(self.sequence), random);
    }

    fn take_dumped(&mut self, number: usize, kernel: &Kernel) {
        if let Some(flow) = kernel.flows[number].filter(|_| !is_clash(number)) {
            let bytes = message_of(&key_of(number), EventKind::Update, &flow.facts, true);
            self.follower
                .take_dumped(&Messages::new(&bytes).next().unwrap());
        }
    }

    fn merge(&mut self, random: &mut Random) {
        let listener = &mut self.listener;
        let is_done = self
            .follower
            .merge(&some_steps(random), &mut |change| listener.hear(&change));
        if is_done {
            self.is_synced = true;
            self.phase = Phase::Idle;
            let mut resync = no_resync();
            self.follower.finish();
            self.follower.count_in(&mut resync);
            assert_eq!(self.follower.flows.live_count(), self.listener.flows.len());
            self.listener.hear(&Change::Resynced(resync));
        }
    }

    /// What the kernel answers, when it is asked about the flows whose events contradict what is known; and the events are ahead.
    fn resolve(&mut self, kernel: &Kernel) {
        assert!(kernel.queue.is_empty());
        let listener = &mut self.listener;
        let mut f = |change: Change<'_>| listener.hear(&change);
        for (identity, id) in std::mem::take(&mut self.follower.doubted) {
            let told = (0..FLOWS).find_map(|number| {
                let told = known_of(number, &kernel.flows[number]?.facts);
                told.entry.has_identity(&identity).then_some(told)
            });
            match (self.follower.flows.find(&identity).live, told) {
                (Some(slot), told) => {
                    let live = self.follower.flows.entry(slot);
                    match told {
                        Some(told) if told.entry.may_follow(live) => {
                            self.follower.take_answer(slot, &told, &mut f);
                        }
                        successor => self.follower.take_end(slot, successor.as_ref(), &mut f),
                    }
                }
                (None, Some(told)) if told.entry.is_id(id) => {
                    self.follower.take_revived(&told, &mut f);
                }
                (None, _) => {}
            }
        }
    }

    fn assert_is(&self, kernel: &Kernel) {
        let flows = &self.follower.flows;
        let named = |entry: &Entry| {
            let flow = entry.to_flow(EventKind::Update, 0);
            (name(&flow), Facts::of(&flow))
        };
        let mirrored: BTreeMap<_, _> = flows.live().map(named).collect();
        let truth = (0..FLOWS).filter_map(|number| {
            let flow = kernel.flows[number]?;
            let (name, facts) = named(&known_of(number, &flow.facts).entry);
            // What has no place in a dump may be missing if an event was lost, and is if it had none.
            let is_known = match (is_clash(number), kernel.drops) {
                (false, _) => true,
                (true, 0) if !self.may_miss => flow.is_heard,
                (true, _) => mirrored.contains_key(&name),
            };
            is_known.then_some((name, facts))
        });
        let truth: BTreeMap<_, _> = truth.collect();
        assert_eq!(mirrored, truth, "the table");
        assert_eq!(self.listener.flows, truth, "whoever follows the changes");
        assert_eq!((flows.live_count(), flows.tomb_count()), (truth.len(), 0));
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

/// Time is over after some steps.
fn some_steps(random: &mut Random) -> impl Fn() -> bool {
    let steps = std::cell::Cell::new(random.below(6));
    move || {
        steps.set(steps.get().saturating_sub(1));
        steps.get() == 0
    }
}

pub(super) fn no_resync() -> Resync {
    Resync {
        reason: ResyncReason::Loss,
        lost_count: 0,
        since: SystemTime::UNIX_EPOCH,
        until: SystemTime::UNIX_EPOCH,
        entry_count: 0,
        new_count: 0,
        update_count: 0,
        destroy_count: 0,
        is_interrupted: false,
    }
}

/// A case: things happen for a while in any order, then all becomes quiet; and again.
fn run(seed: u64, way: Way) -> (Kernel, Mirrored) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut kernel = Kernel::default();
    kernel.way.has_unique_ids = way.has_unique_ids;
    kernel.live_before(&mut random);
    let mut mirrored = Mirrored::new();
    mirrored.may_miss = way.silent > 0;
    mirrored.listener.begun = way.has_unique_ids.then(BTreeSet::new);
    if let Some(bytes) = way.holds_bytes {
        mirrored.follower.held.set_most_bytes(bytes);
    }
    let is_whole = way.loss == 0 && way.holds_bytes.is_none();
    for _ in 0..4 {
        kernel.way = way;
        for _ in 0..40 + random.below(80) {
            match random.below(16) {
                0..6 => kernel.act(&mut random),
                6..11 => _ = mirrored.receive(&mut kernel),
                11 => mirrored.hear_of_loss(&kernel),
                // Where nothing is lost, nothing interrupts the first round.
                12 if !is_whole && random.one_in(12) => mirrored.abandon(),
                // No round begins without a reason, but for these.
                _ if mirrored.is_synced && !random.one_in(20) && mirrored.phase == Phase::Idle => {}
                _ => mirrored.advance(&mut kernel, &mut random),
            }
        }
        make_quiet(&mut kernel, &mut mirrored, &mut random);
        if !way.only_tells_ends {
            mirrored.assert_is(&kernel);
        }
    }
    (kernel, mirrored)
}

fn make_quiet(kernel: &mut Kernel, mirrored: &mut Mirrored, random: &mut Random) {
    let is_silent = kernel.way.silent > 0;
    (kernel.way.loss, kernel.way.silent) = (0, 0);
    kernel.settle(random);
    while mirrored.receive(kernel) {}
    mirrored.hear_of_loss(kernel);
    let mut more_rounds = u32::from(is_silent); // what was never sent, a round that begins now mends
    while !mirrored.is_synced || mirrored.phase != Phase::Idle || more_rounds > 0 {
        let was_at_rest = mirrored.is_synced && mirrored.phase == Phase::Idle;
        mirrored.advance(kernel, random);
        if was_at_rest && mirrored.phase == Phase::Opening {
            more_rounds = more_rounds.saturating_sub(1);
        }
        mirrored.receive(kernel);
    }
    while !mirrored.follower.clear(&some_steps(random)) {}
    mirrored.resolve(kernel);
}

/// Says which case failed.
fn run_all(seeds: Range<u64>, way: Way, check: fn(Kernel, Mirrored)) {
    for seed in seeds {
        let case = || {
            let (kernel, mirrored) = run(seed, way);
            check(kernel, mirrored);
        };
        if let Err(failure) = std::panic::catch_unwind(case) {
            eprintln!("seed {seed}, {way:?}");
            std::panic::resume_unwind(failure);
        }
    }
}

#[test]
fn it_is_the_kernels_table_whenever_it_is_quiet() {
    for loss in [3, 10, 40] {
        let way = Way {
            loss,
            ..Way::default()
        };
        run_all(0..3000, way, |kernel, mirrored| {
            assert_eq!(mirrored.told_drops, kernel.drops);
        });
    }
}

#[test]
fn it_is_also_where_few_events_can_be_held() {
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
fn it_is_also_where_ends_are_told_again_and_events_come_behind_them() {
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
fn a_round_mends_what_was_never_sent() {
    for (silent, loss) in [(3, 0), (10, 0), (5, 10)] {
        let way = Way {
            loss,
            silent,
            ..Way::default()
        };
        run_all(0..1500, way, |_, _| {});
    }
}

/// Nothing is missing then, so nothing may be made up either.
#[test]
fn without_loss_each_lifetime_is_told_once() {
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
fn a_reliable_mirror_tells_each_end_once_and_no_beginning_twice() {
    for loss in [2, 4, 12] {
        let way = Way {
            loss,
            resends: Resends::Own,
            has_late_updates: true,
            has_unique_ids: true,
            spares_keys: true,
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
fn where_only_ends_are_told_each_is_told_once() {
    for resends in [Resends::Never, Resends::OfOthers] {
        let way = Way {
            resends,
            only_tells_ends: true,
            has_unique_ids: true,
            ..Way::default()
        };
        run_all(0..3000, way, |kernel, mirrored| {
            assert_eq!(mirrored.listener.destroy_count, kernel.ended);
        });
    }
}

/// Of the same tuple and the same id, often, and the end of the one before was lost.
#[test]
fn whoever_begins_is_told() {
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

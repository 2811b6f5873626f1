//! A model of the kernel: its table of flows, and the events that it sends, loses, repeats and delays.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::conntrack::{Flow, Key, Layer4, ProtocolState, Tuple, Zone, ZoneDirection, status};
use crate::event_kind::EventKind;
use crate::message::{MessageBuilder, flags};
use crate::mirror::Random;

/// How many flows there may be at a time.
pub(super) const FLOWS: usize = 9;
/// Flows from this number on have lost a NAT race: they have the keys of others, no NEW event, and no place in a dump.
pub(super) const CLASHES: usize = 7;
/// A flow's id is one of a few, so that lifetimes often share it.
const IDS: u32 = 3;

/// What the kernel, the mirror and the listener must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Facts {
    pub reply: Tuple,
    pub id: u32,
    pub mark: u32,
    pub status: u32,
    pub state: Option<ProtocolState>,
}

impl Facts {
    pub(super) fn of(flow: &Flow<'_>) -> Self {
        Self {
            reply: flow.reply.unwrap(),
            id: flow.id.unwrap(),
            mark: flow.mark.unwrap_or(0),
            status: flow.status.unwrap(),
            state: flow.state,
        }
    }
}

pub(super) fn is_clash(number: usize) -> bool {
    number >= CLASHES
}

/// Keys with the same tuple in several zones, TCP and UDP.
pub(in super::super) fn key_of(number: usize) -> Key {
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

pub(in super::super) fn message_of(
    key: &Key,
    kind: EventKind,
    facts: &Facts,
    has_state: bool,
) -> Vec<u8> {
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

/// Whose reliable socket misses DESTROY events. The kernel sends these again, to all listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Resends {
    #[default]
    Never,
    /// Another program's socket.
    OfOthers,
    /// The mirror's own socket, so the mirror misses no end.
    Own,
}

/// How the kernel behaves in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    /// One event in this many is lost. 0: none.
    pub loss: u32,
    /// How many bytes of events the mirror may hold. `None`: no limit.
    pub holds_bytes: Option<usize>,
    pub resends: Resends,
    /// Only ends have events, as with a rule `ct event set destroy`.
    pub only_reports_ends: bool,
    /// An UPDATE may be sent behind its flow's DESTROY.
    pub has_late_updates: bool,
    /// A NEW may be sent behind its flow's DESTROY.
    pub has_late_news: bool,
    /// One event in this many is never sent, and not counted as lost. 0: none.
    pub silent: u32,
    /// No id is used again.
    pub has_unique_ids: bool,
    /// A key is used again only after the end of its earlier flow was delivered.
    pub frees_keys_late: bool,
    /// No two flows have the same reply tuple.
    pub has_unique_replies: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct KernelFlow {
    pub facts: Facts,
    /// Its NEW is queued. A dump shows the flow even before.
    pub is_reported: bool,
    /// It lost a NAT race, and its first event is queued. For a listener the flow begins with this event, or with an
    /// answer about the flow.
    pub is_announced: bool,
    /// It began before anybody listened. If it is dying when the first dump meets it, and its DESTROY is not yet
    /// queued, it is never reported.
    pub is_old: bool,
    /// It is dying. A dump still shows it.
    pub is_dying: bool,
    /// Its DESTROY is queued.
    pub is_end_reported: bool,
}

pub(super) enum Queued {
    Event(Vec<u8>),
    /// The acknowledgement with this sequence number, for a round.
    Barrier(u64),
    /// The same behind the kernel's answers about single flows.
    Answered(u64),
}

#[derive(Default)]
pub(super) struct Kernel {
    pub flows: [Option<KernelFlow>; FLOWS],
    pub queue: VecDeque<Queued>,
    pub way: Way,
    /// Flows that have left the table and whose DESTROY is to be sent again.
    pub undelivered: Vec<(usize, Facts)>,
    /// Events that are made but not sent. Each keeps its flow in memory, so the flow's id is not used again.
    pub late: Vec<(usize, EventKind, Facts)>,
    pub next_id: u32,
    pub drops: u64,
    /// Lifetimes that began, and those that ended.
    pub begun: u64,
    pub ended: u64,
    /// UPDATE events.
    pub updated: u64,
    /// How many unique reply tuples were made.
    pub made: u16,
}

impl Kernel {
    /// Queues it, or loses it and returns false.
    pub(super) fn queue(&mut self, queued: Queued, random: &mut Random) -> bool {
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
        if self.way.only_reports_ends && kind != EventKind::Delete {
            return true;
        }
        if self.way.silent > 0 && random.one_in(self.way.silent) {
            return true;
        }
        if let Some(flow) = &mut self.flows[number]
            && is_clash(number)
            && !flow.is_announced
            && flow.facts.id == facts.id
            && (kind == EventKind::Delete || facts.status & status::DYING == 0)
        {
            flow.is_announced = true;
            self.begun += 1;
        }
        let bytes = message_of(&key_of(number), kind, facts, has_state);
        self.queue(Queued::Event(bytes), random)
    }

    fn new_id(&mut self, number: usize, random: &mut Random) -> u32 {
        if self.way.has_unique_ids || is_clash(number) {
            // Without a NEW, a later lifetime with the same id would be taken for the earlier one.
            self.next_id += 1;
            return 100 + self.next_id;
        }
        let first = random.below(IDS);
        let is_held = |id: u32| {
            let is_it = |other: usize, facts: &Facts| other == number && facts.id == id;
            let (mut undelivered, mut late) = (self.undelivered.iter(), self.late.iter());
            undelivered.any(|(other, facts)| is_it(*other, facts))
                || late.any(|(other, _, facts)| is_it(*other, facts))
        };
        (first..=u32::MAX).find(|id| !is_held(*id)).unwrap()
    }

    /// Sends a late event, and sends an undelivered DESTROY again.
    fn send_behind(&mut self, random: &mut Random) {
        if let Some((number, kind, facts)) = self.late.pop() {
            self.send(number, kind, &facts, true, random);
        }
        if !self.undelivered.is_empty() {
            let index = random.index(self.undelivered.len());
            let (number, facts) = self.undelivered.swap_remove(index);
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
            // Each flow has another port, because the reply tuples of the kernel are unique.
            reply.dst = IpAddr::from([192, 0, 2, u8::try_from(random.below(3)).unwrap()]);
            let dst = u16::try_from(1000 + number).unwrap();
            reply.layer4 = Layer4::Ports { src: 80, dst };
        }
        let is_tcp = key.orig.protocol == 6;
        let id = self.new_id(number, random);
        let mark = random.below(2);
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
            is_reported: is_clash(number),
            is_announced: false,
            is_old: false,
            is_dying: false,
            is_end_reported: false,
        });
        self.begun += u64::from(!is_clash(number));
        if !random.one_in(4) {
            self.report(number, random);
        }
    }

    fn report(&mut self, number: usize, random: &mut Random) {
        if let Some(flow) = &mut self.flows[number]
            && !flow.is_reported
        {
            flow.is_reported = true;
            self.queue_event(number, EventKind::New, true, random);
        }
    }

    fn change(&mut self, number: usize, random: &mut Random) {
        self.report(number, random);
        let what = random.below(3);
        let flow = self.flows[number].as_mut().unwrap();
        let facts = &mut flow.facts;
        let old = *facts;
        match what {
            0 => facts.mark = random.below(3),
            1 => facts.status |= status::SEEN_REPLY << random.below(2),
            _ => {
                let state = u8::try_from(2 + random.below(6)).unwrap();
                facts.state = facts.state.map(|_| ProtocolState::Tcp(state));
            }
        }
        let has_state = facts.state != old.state;
        // If another program's reliable socket missed the NEW, the kernel sends it again in place of an UPDATE.
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
        let is_unsent = !flow.is_reported && self.way.has_late_news;
        flow.is_reported |= is_unsent;
        if is_unsent {
            self.make_late(number, EventKind::New, random);
        }
        self.report(number, random);
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

    /// Makes an event that is sent after the next DESTROY.
    fn make_late(&mut self, number: usize, kind: EventKind, random: &mut Random) {
        let mut facts = self.flows[number].unwrap().facts;
        if random.one_in(2) {
            facts.status |= status::DYING;
        }
        self.updated += u64::from(kind == EventKind::Update); // it may also be sent before the DESTROY
        self.late.push((number, kind, facts));
    }

    /// Reports the end of a dying flow once. After that the flow may leave the table.
    fn end(&mut self, number: usize, random: &mut Random) {
        let flow = self.flows[number].as_mut().unwrap();
        let facts = flow.facts;
        if !flow.is_end_reported {
            flow.is_end_reported = true;
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
            // If another program's reliable socket missed the DESTROY, the kernel sends it again.
            if self.way.resends != Resends::Own && random.one_in(10) {
                self.queue_event(number, EventKind::Delete, true, random);
            }
        }
        self.send_late(number, random);
        if !random.one_in(4) {
            self.flows[number] = None;
        }
    }

    /// Sends the late events of a flow, if events may be lost. Otherwise a dump could come between, and a listener that
    /// missed the end could not recognise the event as late.
    fn send_late(&mut self, number: usize, random: &mut Random) {
        while self.way.loss > 0
            && let Some(index) = self.late.iter().position(|(other, ..)| *other == number)
        {
            let (_, kind, facts) = self.late.remove(index);
            self.send(number, kind, &facts, true, random);
        }
    }

    pub(super) fn act(&mut self, random: &mut Random) {
        let number = random.index(FLOWS);
        if random.one_in(4) {
            self.send_behind(random);
        }
        let is_taken =
            self.way.frees_keys_late && self.undelivered.iter().any(|(other, _)| *other == number);
        match self.flows[number] {
            None if is_taken => {}
            None => self.create(number, random),
            Some(flow) if flow.is_dying => self.end(number, random),
            Some(flow) if !flow.is_reported && random.one_in(2) => self.report(number, random),
            Some(_) if random.one_in(3) => self.kill(number, random),
            Some(_) => self.change(number, random),
        }
    }

    /// Lets flows come and go before anybody listens.
    pub(super) fn live_before(&mut self, random: &mut Random) {
        for _ in 0..random.below(60) {
            self.act(random);
        }
        let way = std::mem::take(&mut self.way);
        self.settle(random);
        self.way = way;
        self.queue.clear();
        for flow in self.flows.iter_mut().flatten() {
            (flow.is_old, flow.is_announced) = (true, false);
        }
        self.begun = self.flows[..CLASHES].iter().flatten().count() as u64;
        self.ended = 0;
        self.updated = 0;
    }

    pub(super) fn settle(&mut self, random: &mut Random) {
        for number in 0..FLOWS {
            self.report(number, random);
            while self.flows[number].is_some_and(|flow| flow.is_dying) {
                self.end(number, random);
            }
        }
        while !self.late.is_empty() || !self.undelivered.is_empty() {
            self.send_behind(random);
        }
    }
}

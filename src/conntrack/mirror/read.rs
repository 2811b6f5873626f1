//! Reading a mirror of flows: looking flows up, and iterating over all of them.

use std::time::Instant;

use super::Mirror;
use super::follow::Follower;
use crate::conntrack::identity::Identity;
use crate::conntrack::{DumpFilter, Flow, Key, Tuple, Zone};
use crate::event_kind::EventKind;
use crate::mirror::Slot;

impl Mirror {
    /// How many flows the mirror has, not counting those that do not match its filter.
    pub fn len(&self) -> usize {
        self.follower.shown_count()
    }

    /// Whether the mirror has no flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the mirror requests from the kernel to compare itself with it: all flows, or with a filter those that may
    /// match now or later, as far as the kernel can select them.
    pub fn dump_filter(&self) -> DumpFilter {
        self.follower.dump_filter()
    }

    /// The flow with this key, as an [`EventKind::Entry`].
    pub fn get(&self, key: &Key) -> Option<Flow<'_>> {
        let slot = self.follower.flows.find(&Identity::from(*key)).live?;
        self.shown_flow(slot, Instant::now())
    }

    /// The flow with this reply tuple in this zone.
    ///
    /// The first call builds an index, which takes about half a second for a million flows. From then on each flow that
    /// begins or ends takes a little longer.
    pub fn get_by_reply(&self, reply: &Tuple, zone: Option<Zone>) -> Option<Flow<'_>> {
        let slot = self.follower.flows.find_by_reply(reply, zone)?;
        self.shown_flow(slot, Instant::now())
    }

    /// The flows with this id: nearly always at most one. The first call builds an index, like that of
    /// [`get_by_reply`](Self::get_by_reply) does.
    pub fn find_by_id(&self, id: u32) -> impl Iterator<Item = Flow<'_>> {
        let (slots, now) = (self.follower.flows.find_by_id(id), Instant::now());
        slots.filter_map(move |slot| self.shown_flow(slot, now))
    }

    /// All flows, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Flow<'_>> {
        self.iter_from(0).map(|(_, flow)| flow)
    }

    /// All flows from a position on, each with the position after it. 0 is the first position.
    ///
    /// Going through a large table at once would delay the events. With positions it can be done in parts, and the
    /// mirror can be fed between two parts. A flow that exists all the time is in exactly one part. A flow that begins,
    /// ends or changes between two parts appears as it was before or as it is after. A flow that takes over the key of
    /// another is a separate flow.
    ///
    /// # Example
    ///
    /// ```
    /// use nlring::MirrorOptions;
    /// use nlring::conntrack::Mirror;
    ///
    /// let mirror = Mirror::new(MirrorOptions::default());
    /// let mut position = 0;
    /// loop {
    ///     let before = position;
    ///     for (next, flow) in mirror.iter_from(position).take(1000) {
    ///         println!("{} -> {}", flow.orig.src, flow.orig.dst);
    ///         position = next;
    ///     }
    ///     if position == before {
    ///         break; // there are no more
    ///     }
    ///     // Here events are fed, and the mirror advances.
    /// }
    /// ```
    pub fn iter_from(&self, position: usize) -> impl Iterator<Item = (usize, Flow<'_>)> {
        let (slots, now) = (self.follower.flows.live_from(position), Instant::now());
        slots.filter_map(move |slot| Some((slot as usize + 1, self.shown_flow(slot, now)?)))
    }

    fn shown_flow(&self, slot: Slot, now: Instant) -> Option<Flow<'_>> {
        let Follower { flows, .. } = &self.follower;
        let is_shown = self.follower.is_shown(slot);
        is_shown.then(|| flows.flow(slot, EventKind::Entry, self.seconds(now)))
    }

    /// How many acknowledgements the mirror has requested through the events' socket. Each is a datagram that the
    /// socket receives or drops in addition to the events.
    pub fn request_count(&self) -> u64 {
        self.rounds.request_count() + self.sweep.request_count()
    }

    /// How many DESTROY events were left out because the flow's end had been handed out, or because another flow of the
    /// same tuple had begun. The kernel sends such events again to all listeners if another program's reliable socket
    /// missed them.
    pub fn repeated_count(&self) -> u64 {
        self.follower.repeated_count
    }

    /// How many NEW and UPDATE events were left out because they arrived after their flow's DESTROY, or said that the
    /// flow was dying.
    pub fn late_count(&self) -> u64 {
        self.follower.late_count
    }
}

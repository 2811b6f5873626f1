//! Events are decoded a few at a time, and the parts of a large table that they need are prefetched for all of them at
//! once.
//!
//! In a large table little of what an event needs is in a cache: its place in the index, its entry and its mark, each
//! found through the one before. The processor waits for each in turn, whereas it waits for independent loads together.

use std::array;

use super::follow::Follower;
use crate::conntrack::Flow;
use crate::conntrack::identity::Identity;
use crate::event_kind::EventKind;
use crate::message::Message;

/// How many events are decoded at a time.
const FEW: usize = 16;
/// From this many slots on, a table does not fit into a processor's own cache.
const LARGE: u32 = 16_384;

/// The next messages, and the flows in them. `None`: there are no more messages, or a message has no flow.
pub(super) struct Ahead<'a> {
    messages: [Option<Message<'a>>; FEW],
    flows: [Option<Flow<'a>>; FEW],
}

impl<'a> Ahead<'a> {
    pub(super) const NONE: Self = Self {
        messages: [None; FEW],
        flows: [None; FEW],
    };

    /// Decodes the next messages, at most as many as are decoded at a time. False: there are none.
    pub(super) fn decode(&mut self, messages: &mut impl Iterator<Item = Message<'a>>) -> bool {
        for (place, flow) in self.messages.iter_mut().zip(&mut self.flows) {
            *place = messages.next();
            *flow = place.as_ref().and_then(Flow::decode);
        }
        self.messages[0].is_some()
    }

    /// The messages, and the flows in them.
    pub(super) fn iter_mut(
        &mut self,
    ) -> impl Iterator<Item = (&Message<'a>, &mut Option<Flow<'a>>)> {
        self.messages.iter().flatten().zip(&mut self.flows)
    }
}

impl Follower {
    /// Whether the table is so large that prefetching pays off.
    pub(super) fn is_large(&self) -> bool {
        self.flows.slot_count() >= LARGE
    }

    /// Prefetches what these events will need. It changes nothing.
    pub(super) fn load(&self, ahead: &Ahead<'_>) {
        let identities = array::from_fn(|index| ahead.flows[index].as_ref().map(Identity::of));
        self.flows.load::<FEW>(&identities);
        let ends = array::from_fn(|index| {
            let flow = ahead.flows[index].as_ref()?;
            let is_needed = matches!(flow.kind, EventKind::New | EventKind::Delete);
            is_needed.then_some((identities[index]?, flow.id))
        });
        self.ended.load::<FEW>(&ends);
    }
}

//! Leaves out the ends of flows that the kernel sends again.

use nlring::conntrack::{Flow, Repeats};

/// Recognises ends of flows that were received before. The kernel sends a DESTROY event again, to every listener, when
/// a reliable socket missed it.
pub struct RepeatedEnds {
    repeats: Repeats,
    /// Whether the events say when a flow begins.
    receives_new: bool,
    left_out_count: u64,
}

impl RepeatedEnds {
    pub fn new(receives_new: bool) -> Self {
        Self {
            repeats: Repeats::default(),
            receives_new,
            left_out_count: 0,
        }
    }

    /// Whether the flow's event repeats an end, which is then counted as left out.
    pub fn leaves_out(&mut self, flow: &Flow<'_>) -> bool {
        // Without NEW events and without times, the end of a later flow with the same tuple looks like a repetition.
        let can_tell = self.receives_new || flow.stop.is_some();
        let is_repeated = can_tell && self.repeats.is_repeated(flow);
        self.left_out_count += u64::from(is_repeated);
        is_repeated
    }

    /// How many events were left out.
    pub fn left_out_count(&self) -> u64 {
        self.left_out_count
    }
}

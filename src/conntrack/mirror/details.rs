//! Details that few flows have or few hosts record: counters, labels, helper and master. They are kept apart from the
//! entries, so they take no memory for flows without them.

use crate::conntrack::{Counters, Flow, Tuple};
use crate::mirror::Slot;

/// The details of this many slots are allocated together.
const CHUNK: usize = 1024;
/// `NF_CT_HELPER_NAME_LEN` (Linux v6.18, include/net/netfilter/nf_conntrack_helper.h).
const HELPER_BYTES: usize = 16;
/// `XT_CONNLABEL_MAXBIT` + 1 bits (Linux v6.18, include/uapi/linux/netfilter/xt_connlabel.h).
const LABEL_BYTES: usize = 16;

/// A helper's name, filled up with zeros.
type Helper = [u8; HELPER_BYTES];
type Labels = [u8; LABEL_BYTES];

/// Details that few flows have, or few hosts record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Details {
    /// The counters of the original and the reply direction, from the last dump or answer that had the flow. Events do
    /// not report counters until the flow ends.
    pub counters: Option<(Counters, Counters)>,
    /// `None`: no label is set, as far as is known.
    pub labels: Option<Labels>,
    pub helper: Option<Helper>,
    pub master: Option<Tuple>,
}

impl Details {
    #[inline]
    pub(super) fn of(flow: &Flow<'_>) -> Self {
        Self {
            counters: flow.counters_orig.zip(flow.counters_reply),
            labels: flow.labels.and_then(padded).filter(is_set),
            helper: flow.helper.and_then(padded).filter(is_set),
            master: flow.master,
        }
    }

    /// Applies what an event reports. What it leaves out has not changed.
    pub(super) fn update(&mut self, flow: &Flow<'_>) {
        let reported = Self::of(flow);
        if flow.labels.is_some() {
            self.labels = reported.labels;
        }
        self.helper = reported.helper.or(self.helper);
        self.master = reported.master.or(self.master);
    }

    /// Adds the details to their flow.
    pub(super) fn add_to<'a>(&'a self, flow: &mut Flow<'a>) {
        (flow.counters_orig, flow.counters_reply) = self.counters.unzip();
        flow.labels = self.labels.as_ref().map(<[u8; LABEL_BYTES]>::as_slice);
        flow.helper = self.helper.as_ref().map(name_of);
        flow.master = self.master;
    }

    /// Whether both have the same values of everything that events report.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.labels, self.helper, self.master) == (other.labels, other.helper, other.master)
    }
}

fn name_of(helper: &Helper) -> &[u8] {
    let length = helper.iter().position(|byte| *byte == 0);
    &helper[..length.unwrap_or(helper.len())]
}

/// The bytes, filled up with zeros. `None`: there are too many.
fn padded<const COUNT: usize>(bytes: &[u8]) -> Option<[u8; COUNT]> {
    let mut padded = [0; COUNT];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(padded)
}

fn is_set<const COUNT: usize>(bytes: &[u8; COUNT]) -> bool {
    *bytes != [0; COUNT]
}

/// The details of all slots.
#[derive(Debug, Default)]
pub(super) struct Beside {
    counters: Column<(Counters, Counters)>,
    labels: Column<Labels>,
    helpers: Column<Helper>,
    masters: Column<Tuple>,
}

impl Beside {
    pub(super) fn get(&self, slot: Slot) -> Details {
        Details {
            counters: self.counters.get(slot).copied(),
            labels: self.labels.get(slot).copied(),
            helper: self.helpers.get(slot).copied(),
            master: self.masters.get(slot).copied(),
        }
    }

    #[inline]
    pub(super) fn set(&mut self, slot: Slot, details: &Details) {
        self.counters.set(slot, details.counters);
        self.labels.set(slot, details.labels);
        self.helpers.set(slot, details.helper);
        self.masters.set(slot, details.master);
    }

    /// Whether a slot has these details, except for the counters, which events do not report.
    pub(super) fn is_same(&self, slot: Slot, other: &Details) -> bool {
        self.labels.get(slot) == other.labels.as_ref()
            && self.helpers.get(slot) == other.helper.as_ref()
            && self.masters.get(slot) == other.master.as_ref()
    }

    pub(super) fn set_counters(&mut self, slot: Slot, counters: Option<(Counters, Counters)>) {
        self.counters.set(slot, counters);
    }

    /// The memory that is allocated.
    pub(super) fn bytes(&self) -> usize {
        self.counters.bytes + self.labels.bytes + self.helpers.bytes + self.masters.bytes
    }

    /// Adds a slot's details to its flow.
    pub(super) fn add_to<'a>(&'a self, slot: Slot, flow: &mut Flow<'a>) {
        (flow.counters_orig, flow.counters_reply) = self.counters.get(slot).copied().unzip();
        flow.labels = self.labels.get(slot).map(<[u8; LABEL_BYTES]>::as_slice);
        flow.helper = self.helpers.get(slot).map(name_of);
        flow.master = self.masters.get(slot).copied();
    }
}

/// A value that few slots have: only the chunks with a value are allocated.
#[derive(Debug)]
struct Column<T> {
    chunks: Vec<Option<Box<[Option<T>]>>>,
    /// The memory of the allocated chunks.
    bytes: usize,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            bytes: 0,
        }
    }
}

impl<T: Copy> Column<T> {
    fn get(&self, slot: Slot) -> Option<&T> {
        let place = slot as usize;
        self.chunks.get(place / CHUNK)?.as_ref()?[place % CHUNK].as_ref()
    }

    #[inline]
    fn set(&mut self, slot: Slot, value: Option<T>) {
        let place = slot as usize;
        if let Some(Some(chunk)) = self.chunks.get_mut(place / CHUNK) {
            chunk[place % CHUNK] = value;
        } else if value.is_some() {
            self.add_chunk(place / CHUNK)[place % CHUNK] = value;
        }
    }

    #[cold]
    fn add_chunk(&mut self, index: usize) -> &mut [Option<T>] {
        if self.chunks.len() <= index {
            self.chunks.resize_with(index + 1, || None);
        }
        self.bytes += CHUNK * size_of::<Option<T>>();
        self.chunks[index].get_or_insert_with(|| vec![None; CHUNK].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::Layer4;
    use crate::message::Messages;

    #[test]
    fn all_details_of_a_slot_come_back() {
        let ports = Layer4::Ports { src: 1, dst: 2 };
        let master = Tuple::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, ports);
        let counters = |packets| Counters {
            packets,
            bytes: 100 * packets,
        };
        let details = Details {
            counters: Some((counters(5), counters(6))),
            labels: padded(&[1, 2]),
            helper: padded(b"ftp"),
            master: Some(master),
        };
        let mut beside = Beside::default();
        beside.set(3, &details);
        assert_eq!(beside.get(3), details);
        let bytes = nlring_testing::events::flow_begins();
        let message = Messages::new(&bytes).next().unwrap();
        let mut flow = Flow::decode(&message).unwrap();
        beside.add_to(3, &mut flow);
        assert_eq!(Details::of(&flow), details);
        beside.add_to(2, &mut flow);
        assert_eq!(Details::of(&flow), Details::default());
    }

    #[test]
    fn memory_is_taken_where_there_is_a_value() {
        let mut column = Column::default();
        column.set(5000, None);
        assert!(column.chunks.is_empty() && column.get(5000).is_none());
        column.set(5000, Some(7));
        column.set(5001, None);
        assert_eq!((column.get(5000), column.get(5001)), (Some(&7), None));
        assert_eq!(column.chunks.iter().flatten().count(), 1);
        assert_eq!(column.bytes, CHUNK * size_of::<Option<i32>>());
        column.set(5000, None);
        assert_eq!((column.get(5000), column.get(0)), (None, None));
    }

    #[test]
    fn labels_that_are_not_set_are_none() {
        assert_eq!(padded::<4>(&[0; 4]).filter(is_set), None);
        assert_eq!(padded::<4>(&[1, 2]).filter(is_set), Some([1, 2, 0, 0]));
        assert_eq!(padded::<4>(&[1; 5]), None);
    }
}

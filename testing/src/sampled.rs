//! Whether a sampled stream of flow events contains exactly the events that the filters pass.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use nlring::MessageList;
use nlring::conntrack::{Filter, Flow, Layer4};

/// An event that a flow has once: `new`, `update` or `destroy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowEvent {
    /// The ends of the original tuple.
    pub flow: [(IpAddr, u16); 2],
    /// What happened, as in the JSON.
    pub kind: String,
}

/// The events that arrived between two changes of the ratio.
#[derive(Debug)]
pub struct Segment {
    /// The filter of the first of these two changes.
    pub filter: Filter,
    /// In the order of the stream.
    pub events: Vec<FlowEvent>,
}

impl FlowEvent {
    /// The event of a TCP or UDP flow.
    ///
    /// # Panics
    ///
    /// If the flow has no ports.
    #[must_use]
    pub fn of(flow: &Flow<'_>) -> Self {
        let Layer4::Ports { src, dst } = flow.orig.layer4 else {
            panic!("ports: {flow:?}");
        };
        let kind = match flow.kind {
            nlring::EventKind::Delete => "destroy".to_owned(),
            kind => kind.to_string(),
        };
        Self {
            flow: [(flow.orig.src, src), (flow.orig.dst, dst)],
            kind,
        }
    }
}

/// Asserts that the segments are all events, in the same order, without those that the filters reject, if the kernel
/// replaces the first filter with the second at some moment, and so on. `all` has the bytes of each message.
///
/// # Panics
///
/// If they are not.
pub fn assert_sampled(all: &[(FlowEvent, Vec<u8>)], segments: &[Segment]) {
    let sampled: Vec<&FlowEvent> = segments
        .iter()
        .flat_map(|segment| &segment.events)
        .collect();
    let set: HashSet<&FlowEvent> = sampled.iter().copied().collect();
    assert_eq!(sampled.len(), set.len(), "no event comes twice");
    let mut passing = Vec::new();
    let mut place = 0;
    for (event, bytes) in all {
        let list = MessageList::new(bytes);
        let message = list.iter().next().expect("a message");
        let flow = Flow::decode(&message).expect("a flow");
        let has_passed = set.contains(event);
        while segments[place].filter.matches(&flow) != has_passed {
            place += 1; // the filter was replaced before
            assert!(place < segments.len(), "{event:?} has passed: {has_passed}");
        }
        if has_passed {
            passing.push(event);
        }
    }
    assert_eq!(passing, sampled, "the order is the kernel's");
    assert_places(all, segments);
}

/// Asserts that no event is in a segment whose filter rejects it.
fn assert_places(all: &[(FlowEvent, Vec<u8>)], segments: &[Segment]) {
    let bytes: HashMap<&FlowEvent, &[u8]> = all
        .iter()
        .map(|(event, bytes)| (event, &bytes[..]))
        .collect();
    for segment in segments {
        for event in &segment.events {
            let list = MessageList::new(bytes[event]);
            let message = list.iter().next().expect("a message");
            let flow = Flow::decode(&message).expect("a flow");
            assert!(segment.filter.matches(&flow), "{event:?}: {segment:?}");
        }
    }
}

/// Asserts that each flow that began and ended between two changes is complete or absent, and that every other one is
/// cut at a change. Returns how many flows are cut.
///
/// # Panics
///
/// If there is another flow that is cut.
#[must_use]
pub fn assert_whole(all: &[(FlowEvent, Vec<u8>)], segments: &[Segment]) -> usize {
    let mut wanted: HashMap<_, Vec<&str>> = HashMap::new();
    for (event, _) in all {
        wanted.entry(event.flow).or_default().push(&event.kind);
    }
    let mut found: HashMap<_, Vec<(&str, usize)>> = HashMap::new();
    for (place, segment) in segments.iter().enumerate() {
        for event in &segment.events {
            let kinds = found.entry(event.flow).or_default();
            kinds.push((&event.kind, place));
        }
    }
    let mut cut_count = 0;
    for (flow, found) in found {
        let kinds: Vec<&str> = found.iter().map(|(kind, _)| *kind).collect();
        if kinds == wanted[&flow] {
            continue;
        }
        cut_count += 1;
        let (first, last) = (found[0], found[found.len() - 1]);
        let lacks_beginning = kinds[0] != "new" && first.1 > 0;
        let lacks_end = last.0 != "destroy" && last.1 + 1 < segments.len();
        let lacks_middle = first.1 < last.1;
        assert!(
            lacks_beginning || lacks_end || lacks_middle,
            "{flow:?}: {found:?} of {:?}",
            wanted[&flow]
        );
    }
    cut_count
}

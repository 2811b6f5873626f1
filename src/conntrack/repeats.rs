//! Recognises ends of flows that were reported before.

use std::array;
use std::hash::RandomState;
use std::hint::black_box;

use super::identity::Identity;
use super::{Flow, status};
use crate::event_kind::EventKind;
use crate::mirror::{Index, Slot, fold};
use crate::timestamp::Timestamp;

/// Remembers recent DESTROY events, to recognise those that the kernel sends again.
///
/// When a reliable socket ([`SocketBuilder::reliable`](crate::SocketBuilder::reliable)) cannot take a DESTROY, the
/// kernel sends the event to the whole group again. All other listeners receive it twice or more (Linux v6.18,
/// net/netfilter/nf_conntrack_ecache.c, `ecache_work_evict_list`).
///
/// Two DESTROY events are the same if their original tuple, zone, id and stop timestamp are the same, and for flows
/// that lost a NAT race also the reply tuple ([`Flow::is_nat_clash`]). With `net.netfilter.nf_conntrack_timestamp` = 1
/// this is exact. Without it there is no stop timestamp, and a later flow of the same tuple has the id of an earlier
/// one if the kernel gives it the same memory. Then only the later flow's NEW or UPDATE shows that it is another flow.
/// (An UPDATE that says that the flow is dying shows nothing, because it may arrive after the DESTROY.) So pass in
/// every event of a socket that is also in [`Group::New`](super::Group::New), or ask only about flows that have a stop
/// timestamp. One case remains: if a flow's NEW was not delivered and it has no UPDATE, its end may count as a repeat
/// of an earlier flow's end.
///
/// Only the last end of each tuple, zone and id is kept. That is enough, because the id comes from the flow's address
/// in memory, and the kernel keeps that memory until it has sent the DESTROY for the last time.
///
/// The cost of an event does not depend on how often a tuple was used. Memory is bounded: each end takes 64 bits of
/// hash, its stop timestamp and a place in an index. That is about 9 MiB for the [default](Self::DEFAULT_CAPACITY),
/// allocated as it fills. The oldest end is forgotten first. If its DESTROY is sent again, it counts as the first one.
/// The hashes have a random key, so an outsider cannot choose flows that collide.
///
/// # Example
///
/// ```
/// use nlring::conntrack::{Flow, Repeats};
/// use nlring::{MessageBuilder, MessageList};
///
/// // A DESTROY: message type 0x102, struct nfgenmsg, the original tuple's addresses, and the id.
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 0x102, 0)
///     .bytes(&[2 /* AF_INET */, 0, 0, 0])
///     .nested(1 /* CTA_TUPLE_ORIG */, |tuple| {
///         tuple.nested(1 /* CTA_TUPLE_IP */, |ip| {
///             ip.attribute(1, &[10, 0, 0, 1]).attribute(2, &[9, 9, 9, 9])
///         })
///     })
///     .attribute_be32(12 /* CTA_ID */, 7)
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let flow = list.iter().find_map(|message| Flow::decode(&message)).expect("it is a flow");
///
/// let mut repeats = Repeats::default();
/// assert!(!repeats.is_repeated(&flow));
/// assert!(repeats.is_repeated(&flow));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Repeats {
    capacity: usize,
    /// With a random key, because outsiders choose the flows.
    hasher: RandomState,
    /// In the order of the events. When the ring is full, `oldest` is overwritten next.
    ring: Vec<End>,
    oldest: usize,
    /// Where in the ring the last end of an identity is. An end that was forgotten, or that is no longer the last one,
    /// is not found, and stays in the ring until it is overwritten.
    places: Index,
}

/// The end of a flow.
#[derive(Clone, Copy, Debug)]
struct End {
    /// The hash of the flow's identity and id. Only the hash is compared.
    identity: u64,
    stop: Stop,
}

/// When a flow ended: the stop timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stop(u64);

impl Stop {
    /// There is no stop timestamp.
    const NONE: Self = Self(0);
    /// The event of this end has not arrived yet, so any timestamp fits.
    const ANY: Self = Self(u64::MAX);

    fn of(stop: Option<Timestamp>) -> Self {
        stop.map_or(Self::NONE, |stop| Self(stop.as_ns()))
    }
}

impl Repeats {
    /// How many events [`default`](Self::default) remembers: the number of flows in a full table on a host with more
    /// than 4 GiB, as the kernel sizes it (net/netfilter/nf_conntrack_core.c, `nf_conntrack_init_start`).
    pub const DEFAULT_CAPACITY: usize = 262_144;

    /// Remembers up to `capacity` events, at most 4,294,967,295. With 0 no event is ever a repeat.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.min(Slot::MAX as usize), // more memory than there is
            hasher: RandomState::new(),
            ring: Vec::new(),
            oldest: 0,
            places: Index::new(),
        }
    }

    /// Whether this is a DESTROY that arrived before. If not, it is remembered.
    ///
    /// A NEW or UPDATE proves that the flow is alive, so the flow's DESTROY is forgotten. If the event says that the
    /// flow is [dying](super::status::DYING), its DESTROY has overtaken it and stays remembered.
    pub fn is_repeated(&mut self, flow: &Flow<'_>) -> bool {
        let identity = Identity::of(flow);
        match flow.kind {
            EventKind::Delete => !self.note_end(&identity, flow.id, flow.stop),
            EventKind::New | EventKind::Update | EventKind::Entry => {
                if flow.status.unwrap_or(0) & status::DYING == 0 {
                    self.forget(&identity, flow.id);
                }
                false
            }
        }
    }

    /// Remembers the DESTROY of a flow. False: it arrived before.
    pub(super) fn note_end(
        &mut self,
        identity: &Identity,
        id: Option<u32>,
        stop: Option<Timestamp>,
    ) -> bool {
        let identity = identity.hash_with_id(&self.hasher, id);
        let (known, stop) = (self.find(identity), Stop::of(stop));
        let is_known = known.is_some_and(|(_, known)| known == stop || known == Stop::ANY);
        match known {
            Some((place, _)) if is_known => self.ring[place as usize].stop = stop,
            _ => self.remember_last(known, End { identity, stop }),
        }
        !is_known
    }

    /// Remembers the end of a flow whose DESTROY did not arrive. If the DESTROY arrives later, it is a repeat.
    pub(super) fn note_made_up_end(&mut self, identity: &Identity, id: Option<u32>) {
        let identity = identity.hash_with_id(&self.hasher, id);
        let (known, stop) = (self.find(identity), Stop::ANY);
        if known.is_none_or(|(_, known)| known != stop) {
            self.remember_last(known, End { identity, stop });
        }
    }

    /// Whether an end of such a flow is remembered.
    pub(super) fn has_ended(&self, identity: &Identity, id: Option<u32>) -> bool {
        !self.ring.is_empty() && self.find(identity.hash_with_id(&self.hasher, id)).is_some()
    }

    /// Forgets the end of a flow that has begun, unless a stop timestamp shows that it is an earlier flow's end. True:
    /// an end was forgotten.
    pub(super) fn forget(&mut self, identity: &Identity, id: Option<u32>) -> bool {
        if self.ring.is_empty() {
            return false;
        }
        let identity = identity.hash_with_id(&self.hasher, id);
        let may_be_its_own = |stop: &Stop| [Stop::NONE, Stop::ANY].contains(stop);
        let known = self.find(identity).filter(|(_, stop)| may_be_its_own(stop));
        if let Some((place, _)) = known {
            self.places.remove(fold(identity), place);
        }
        known.is_some()
    }

    /// Prefetches what the beginnings and ends of these flows will need.
    pub(super) fn load<const N: usize>(&self, flows: &[Option<(Identity, Option<u32>)>; N]) {
        if self.ring.is_empty() {
            return;
        }
        let hash = |flow: Option<(Identity, Option<u32>)>| {
            flow.map(|(identity, id)| identity.hash_with_id(&self.hasher, id))
        };
        let hashes = flows.map(hash);
        // As many of the oldest ends may be forgotten.
        let oldest: [_; N] = array::from_fn(|index| self.ring.get(self.oldest + index));
        let places = hashes.map(|hash| Some(self.places.with_hash(fold(hash?))));
        let oldest = oldest.map(|end| Some(self.places.with_hash(fold(end?.identity))));
        for place in places.into_iter().chain(oldest).flatten() {
            black_box(place.take(1).next());
        }
    }

    /// The place of an identity's last end.
    fn find(&self, identity: u64) -> Option<(Slot, Stop)> {
        let places = self.places.with_hash(fold(identity));
        let mut ends = places.map(|place| (place, self.ring[place as usize]));
        let (place, end) = ends.find(|(_, end)| end.identity == identity)?;
        Some((place, end.stop))
    }

    /// Remembers an end instead of the last one of its identity.
    fn remember_last(&mut self, earlier: Option<(Slot, Stop)>, end: End) {
        if let Some((place, _)) = earlier {
            self.places.remove(fold(end.identity), place);
        }
        self.remember(end);
    }

    fn remember(&mut self, end: End) {
        if self.capacity == 0 {
            return;
        }
        let place = self.oldest;
        let slot = Slot::try_from(place).unwrap_or(Slot::MAX); // the capacity is no larger
        if let Some(oldest) = self.ring.get_mut(place) {
            // This changes nothing if the end is no longer found.
            self.places.remove(fold(oldest.identity), slot);
            *oldest = end;
        } else {
            self.ring.push(end);
        }
        self.places.insert(fold(end.identity), slot);
        self.oldest = (place + 1) % self.capacity;
    }
}

/// Remembers [`DEFAULT_CAPACITY`](Self::DEFAULT_CAPACITY) events.
impl Default for Repeats {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::{Key, Layer4, Tuple, Zone, ZoneDirection};
    use crate::message::flags;
    use crate::mirror::step_count;
    use crate::{MessageBuilder, MessageList};

    const DESTROY: (u16, u16) = (0x102, 0);
    const NEW: (u16, u16) = (0x100, flags::CREATE | flags::EXCL);
    const UPDATE: (u16, u16) = (0x100, 0);

    /// The fields that distinguish an event from others.
    #[derive(Clone, Copy, Default)]
    struct Sample {
        host: u8,
        zone: Option<u16>,
        id: u32,
        stop_ns: Option<u64>,
        status: u32,
        /// The host that answers.
        reply_host: u8,
    }

    fn is_repeated(
        repeats: &mut Repeats,
        (message_type, flags): (u16, u16),
        sample: Sample,
    ) -> bool {
        let mut bytes = Vec::new();
        let mut message = MessageBuilder::new(&mut bytes, message_type, flags)
            .bytes(&[2, 0, 0, 0])
            .nested(1, |tuple| {
                tuple.nested(1, |ip| {
                    ip.attribute(1, &[10, 0, 0, sample.host])
                        .attribute(2, &[9; 4])
                })
            })
            .nested(2, |tuple| {
                tuple.nested(1, |ip| {
                    ip.attribute(1, &[9, 9, 9, sample.reply_host])
                        .attribute(2, &[10, 0, 0, sample.host])
                })
            })
            .attribute_be32(3, sample.status)
            .attribute_be32(12, sample.id);
        if let Some(zone) = sample.zone {
            message = message.attribute_be16(18, zone);
        }
        if let Some(stop_ns) = sample.stop_ns {
            message = message.nested(20, |times| times.attribute(2, &stop_ns.to_be_bytes()));
        }
        message.finish().unwrap();
        let list = MessageList::new(&bytes);
        let flow = list
            .iter()
            .find_map(|message| Flow::decode(&message))
            .unwrap();
        assert_eq!(
            (flow.id, flow.stop, flow.zone.map(|zone| zone.id)),
            (
                Some(sample.id),
                sample.stop_ns.map(Timestamp::from_ns),
                sample.zone
            )
        );
        repeats.is_repeated(&flow)
    }

    /// How many places of the index belong to ends that are in the ring.
    fn place_count(repeats: &Repeats) -> usize {
        let mut identities: Vec<u64> = repeats.ring.iter().map(|end| end.identity).collect();
        identities.sort_unstable();
        identities.dedup();
        let places = identities
            .iter()
            .map(|identity| repeats.places.with_hash(fold(*identity)).count());
        places.sum()
    }

    fn host(host: u8) -> Sample {
        Sample {
            host,
            ..Sample::default()
        }
    }

    #[test]
    fn any_difference_makes_it_another_flow() {
        let first = host(1);
        let others = [
            host(2),
            Sample {
                zone: Some(7),
                ..first
            },
            Sample { id: 9, ..first },
            Sample {
                status: status::NAT_CLASH,
                ..first
            },
            Sample {
                status: status::NAT_CLASH,
                reply_host: 7,
                ..first
            },
        ];
        let mut repeats = Repeats::default();
        for sample in others.into_iter().chain([first]) {
            assert!(!is_repeated(&mut repeats, DESTROY, sample));
        }
        for sample in others.into_iter().chain([first]) {
            assert!(is_repeated(&mut repeats, DESTROY, sample));
        }
    }

    #[test]
    fn the_direction_of_its_zone_makes_it_another_flow() {
        let orig = Tuple::new([10, 0, 0, 1].into(), [9; 4].into(), 6, Layer4::None);
        let directions = [
            ZoneDirection::Both,
            ZoneDirection::Orig,
            ZoneDirection::Reply,
        ];
        let zones = directions.map(|direction| Some(Zone::new(7, direction)));
        let mut repeats = Repeats::default();
        for zone in zones.into_iter().chain([None]) {
            let flow = Identity::from(Key { orig, zone });
            assert!(repeats.note_end(&flow, Some(1), None), "{zone:?}");
            assert!(!repeats.note_end(&flow, Some(1), None), "{zone:?}");
        }
    }

    #[test]
    fn another_stop_timestamp_makes_it_another_end() {
        let mut repeats = Repeats::default();
        for stop_ns in [None, Some(5), Some(6), None] {
            let sample = Sample { stop_ns, ..host(1) };
            assert!(!is_repeated(&mut repeats, DESTROY, sample));
            assert!(is_repeated(&mut repeats, DESTROY, sample));
        }
        assert_eq!(place_count(&repeats), 1, "one end for each identity");
    }

    /// Steps of the index for each lifetime, after this many lifetimes.
    fn steps_per_lifetime(count: u64, sample: fn(u64) -> Sample) -> u64 {
        let mut repeats = Repeats::default();
        let mut live = |number: u64| {
            let sample = sample(number);
            is_repeated(&mut repeats, NEW, sample);
            assert!(!is_repeated(&mut repeats, DESTROY, sample));
            assert!(is_repeated(&mut repeats, DESTROY, sample));
        };
        (0..count).for_each(&mut live);
        let before = step_count();
        (count..count + 100).for_each(live);
        (step_count() - before) / 100
    }

    #[test]
    fn a_tuple_that_was_used_often_costs_no_more_than_many_tuples() {
        let of_one_tuple: fn(u64) -> Sample = |number| Sample {
            stop_ns: Some(1 + number),
            ..host(1)
        };
        let of_one_without_times: fn(u64) -> Sample = |_| host(1);
        let of_many: fn(u64) -> Sample = |number| Sample {
            id: u32::try_from(number).unwrap(),
            ..host(1)
        };
        let many = steps_per_lifetime(5000, of_many);
        for of_one in [of_one_tuple, of_one_without_times] {
            let one = steps_per_lifetime(5000, of_one);
            assert!(one <= many + 6, "{one} and {many} steps");
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut repeats = Repeats::new(3);
        for number in [1, 2, 3] {
            assert!(!is_repeated(&mut repeats, DESTROY, host(number)));
        }
        // A repeat takes no place, so all three are still known.
        assert!([1, 1, 2, 3].map(host).into_iter().all(|sample| is_repeated(
            &mut repeats,
            DESTROY,
            sample
        )));
        assert!(!is_repeated(&mut repeats, DESTROY, host(4))); // in the place of 1
        assert!([2, 3, 4].map(host).into_iter().all(|sample| is_repeated(
            &mut repeats,
            DESTROY,
            sample
        )));
        assert!(!is_repeated(&mut repeats, DESTROY, host(1))); // in the place of 2
        assert!(!is_repeated(&mut repeats, DESTROY, host(2)));
    }

    #[test]
    fn the_ring_holds_no_more_than_its_capacity() {
        for capacity in [0, 1, 5] {
            let mut repeats = Repeats::new(capacity);
            for number in 0..100 {
                assert!(!is_repeated(&mut repeats, DESTROY, host(number)));
                assert!(repeats.ring.len() <= capacity && place_count(&repeats) <= capacity);
            }
            let known = (0..100).rev().take_while(|number| {
                capacity > 0 && is_repeated(&mut repeats, DESTROY, host(*number))
            });
            assert_eq!(known.count(), capacity);
        }
    }

    #[test]
    fn a_flow_that_lives_again_can_end_again() {
        for sign_of_life in [NEW, UPDATE] {
            let mut repeats = Repeats::new(2);
            assert!(!is_repeated(&mut repeats, DESTROY, host(1)));
            assert!(!is_repeated(&mut repeats, sign_of_life, host(1)));
            assert!(!is_repeated(&mut repeats, DESTROY, host(1)), "another end");
            assert!(is_repeated(&mut repeats, DESTROY, host(1)));
        }
    }

    #[test]
    fn an_update_behind_the_end_is_no_sign_of_life() {
        let dying = Sample {
            status: status::CONFIRMED | status::DYING,
            ..host(1)
        };
        let mut repeats = Repeats::default();
        assert!(!is_repeated(&mut repeats, DESTROY, dying));
        assert!(!is_repeated(&mut repeats, UPDATE, dying));
        assert!(is_repeated(&mut repeats, DESTROY, dying));
    }

    #[test]
    fn an_end_that_was_made_up_has_any_stop_timestamp_but_one() {
        let flow = &Identity::from(Key {
            orig: Tuple::new([10, 0, 0, 1].into(), [9; 4].into(), 6, Layer4::None),
            zone: None,
        });
        let (id, other) = (Some(7), Some(8));
        for stop in [None, Some(Timestamp::from_ns(5))] {
            let mut repeats = Repeats::new(4);
            assert!(!repeats.has_ended(flow, id));
            repeats.note_made_up_end(flow, id);
            repeats.note_made_up_end(flow, id);
            assert_eq!(repeats.ring.len(), 1);
            assert!(repeats.has_ended(flow, id) && !repeats.has_ended(flow, other));
            assert!(
                !repeats.note_end(flow, id, stop),
                "a late event of the same end"
            );
            assert!(!repeats.note_end(flow, id, stop), "the same event again");
            assert_eq!(repeats.forget(flow, id), stop.is_none());
            let later = Some(Timestamp::from_ns(6));
            assert!(repeats.note_end(flow, id, later), "another end");
            assert!(
                !repeats.forget(flow, id),
                "the end belongs to an earlier flow"
            );
            assert!(repeats.has_ended(flow, id), "the timestamp shows the end");
            assert!(!repeats.forget(flow, other));
            repeats.note_made_up_end(flow, other);
            assert!(repeats.forget(flow, other) && !repeats.has_ended(flow, other));
        }
    }

    #[test]
    fn another_flow_between_the_same_ends_does_not_hide_a_repeat() {
        let (old, new) = (host(1), Sample { id: 2, ..host(1) });
        let mut repeats = Repeats::default();
        assert!(!is_repeated(&mut repeats, DESTROY, old));
        assert!(!is_repeated(&mut repeats, NEW, new));
        assert!(is_repeated(&mut repeats, DESTROY, old));
        assert!(!is_repeated(&mut repeats, DESTROY, new));
    }

    #[test]
    fn an_entry_that_came_again_is_not_forgotten_with_its_old_place() {
        let mut repeats = Repeats::new(3);
        is_repeated(&mut repeats, DESTROY, host(1));
        is_repeated(&mut repeats, NEW, host(1));
        is_repeated(&mut repeats, DESTROY, host(2));
        is_repeated(&mut repeats, DESTROY, host(1)); // in the third place; the first has its hash too
        assert!(!is_repeated(&mut repeats, DESTROY, host(3))); // in the first place
        assert!(is_repeated(&mut repeats, DESTROY, host(1)));
    }
}

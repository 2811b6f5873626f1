//! Ends of flows that were told before.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::net::IpAddr;

use super::mirror::{Index, Slot};
use super::{EventKind, Flow, Key, Layer4, ZoneDirection, status};

/// Remembers the DESTROY events of late, to tell which of them come again.
///
/// Where one reliable socket ([`SocketBuilder::reliable`](crate::SocketBuilder::reliable)) could not take a DESTROY, the
/// kernel sends it to the whole group again, and all others hear it twice or more (Linux v6.18,
/// net/netfilter/nf_conntrack_ecache.c, `ecache_work_evict_list`).
///
/// Two are the same when their original tuple, zone, id and stop timestamp are. With `net.netfilter.nf_conntrack_timestamp`
/// = 1 that is exact. Without, there is no stop timestamp, and a later flow between the same ends has the id of an earlier
/// one when it was given the same memory. Its NEW, or an UPDATE, then tells that it is another one (not an UPDATE of a flow
/// that is dying already, which may come behind its DESTROY). So give this every
/// event of a socket that is in [`Group::New`](super::Group::New) too, and do not ask it about flows without a stop
/// timestamp otherwise. What remains: where the NEW of such a flow could not be delivered, and no UPDATE came, its end is
/// taken for a repeat.
///
/// The memory is bounded: 64 bits of hash and the stop timestamp for each event, and what finds it again; about 9 MiB for
/// the [default](Self::DEFAULT_CAPACITY), taken as it fills. The oldest is forgotten first; if that comes again, it is
/// taken for the first of its kind. Hashes are keyed at random, so nobody can choose flows that collide.
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
    /// Strangers choose the flows, so the hashes are keyed at random.
    hasher: RandomState,
    /// In the order of their events; when it is full, `oldest` is the next to be overwritten.
    ring: Vec<End>,
    oldest: usize,
    /// Where in the ring a flow's ends are. One that was forgotten is in the ring alone, until it is overwritten.
    places: Index,
}

/// The end of a flow.
#[derive(Clone, Copy, Debug)]
struct End {
    /// The hash of what tells the flow from others.
    identity: u64,
    stop: Stop,
}

/// When a flow ended: the stop timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stop(u64);

impl Stop {
    /// There is none.
    const NONE: Self = Self(0);
    /// The event of this end has not been met: its timestamp may be any.
    const ANY: Self = Self(u64::MAX);

    fn of(stop_ns: Option<u64>) -> Self {
        stop_ns.map_or(Self::NONE, Self)
    }
}

impl Repeats {
    /// How many events [`default`](Self::default) remembers: as many as there are flows in the full table of a host with
    /// more than 4 GiB, as the kernel sizes it (net/netfilter/nf_conntrack_core.c, `nf_conntrack_init_start`).
    pub const DEFAULT_CAPACITY: usize = 262_144;

    /// Remembers up to `capacity` events. With 0 nothing is ever repeated.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.min(Slot::MAX as usize), // more memory than there is
            hasher: RandomState::new(),
            ring: Vec::new(),
            oldest: 0,
            places: Index::new(),
        }
    }

    /// Whether this is a DESTROY that came before. If not, it is remembered; a NEW or UPDATE has the flow's
    /// DESTROY forgotten, since it is alive, unless it says that the flow is [dying](super::status::DYING): then it was
    /// overtaken by its DESTROY.
    pub fn is_repeated(&mut self, flow: &Flow<'_>) -> bool {
        let key = flow.key();
        match flow.kind {
            EventKind::Destroy => !self.note_end(&key, flow.id, flow.stop_ns),
            EventKind::New | EventKind::Update => {
                if flow.status.unwrap_or(0) & status::DYING == 0 {
                    self.forget(&key, flow.id);
                }
                false
            }
        }
    }

    /// Remembers the DESTROY of a flow. False: it came before.
    pub(super) fn note_end(&mut self, key: &Key, id: Option<u32>, stop_ns: Option<u64>) -> bool {
        let identity = self.identity(key, id);
        let stop = Stop::of(stop_ns);
        let mut known = None;
        for place in self.places.with_hash(fold(identity)) {
            let end = self.ring[place as usize];
            if end.identity == identity && (end.stop == stop || end.stop == Stop::ANY) {
                known = Some(place);
                if end.stop == stop {
                    break; // rather than the one that was made up
                }
            }
        }
        match known {
            Some(place) => self.ring[place as usize].stop = stop,
            None => self.remember(End { identity, stop }),
        }
        known.is_none()
    }

    /// Remembers the end of a flow whose DESTROY did not come: if it comes later, it is repeated.
    pub(super) fn note_made_up_end(&mut self, key: &Key, id: Option<u32>) {
        let identity = self.identity(key, id);
        if self.find(identity, |stop| stop == Stop::ANY).is_none() {
            let stop = Stop::ANY;
            self.remember(End { identity, stop });
        }
    }

    /// Whether an end of such a flow is remembered.
    pub(super) fn has_ended(&self, key: &Key, id: Option<u32>) -> bool {
        !self.ring.is_empty() && self.find(self.identity(key, id), |_| true).is_some()
    }

    /// A flow has begun: it has no end any more, but for those whose stop timestamp tells that they are another's. True: it
    /// had one.
    pub(super) fn forget(&mut self, key: &Key, id: Option<u32>) -> bool {
        if self.ring.is_empty() {
            return false;
        }
        let identity = self.identity(key, id);
        let mut has_ended = false;
        while let Some(place) = self.find(identity, |stop| stop == Stop::NONE || stop == Stop::ANY)
        {
            self.places.remove(fold(identity), place);
            has_ended = true;
        }
        has_ended
    }

    fn find(&self, identity: u64, is_it: impl Fn(Stop) -> bool) -> Option<Slot> {
        let mut places = self.places.with_hash(fold(identity));
        places.find(|place| {
            let end = self.ring[*place as usize];
            end.identity == identity && is_it(end.stop)
        })
    }

    fn remember(&mut self, end: End) {
        if self.capacity == 0 {
            return;
        }
        let place = self.oldest;
        let slot = Slot::try_from(place).unwrap_or(Slot::MAX); // the capacity is no larger
        if let Some(oldest) = self.ring.get_mut(place) {
            // If it was forgotten and has come again, that is elsewhere.
            self.places.remove(fold(oldest.identity), slot);
            *oldest = end;
        } else {
            self.ring.push(end);
        }
        self.places.insert(slot, fold(end.identity));
        self.oldest = (place + 1) % self.capacity;
    }

    /// All that tells flows apart, without a loss but for the hash: it alone is compared.
    fn identity(&self, key: &Key, id: Option<u32>) -> u64 {
        let mut state = self.hasher.build_hasher();
        match (key.orig.src, key.orig.dst) {
            // The usual one, in few steps.
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                state.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
            }
            addresses => addresses.hash(&mut state),
        }
        let (kind, layer4) = match key.orig.layer4 {
            Layer4::None => (0, 0),
            Layer4::Ports { src, dst } => (1, u32::from(src) << 16 | u32::from(dst)),
            Layer4::Icmp {
                icmp_type,
                code,
                id,
            } => (
                2,
                u32::from_be_bytes([icmp_type, code, 0, 0]) | u32::from(id),
            ),
        };
        let (direction, zone) = match key.zone {
            None => (0, 0),
            Some(zone) => {
                let direction = match zone.direction {
                    ZoneDirection::Both => 4,
                    ZoneDirection::Orig => 8,
                    ZoneDirection::Reply => 12,
                };
                (direction, zone.id)
            }
        };
        let [a, b] = zone.to_be_bytes();
        let rest = u32::from_be_bytes([key.orig.protocol, kind | direction, a, b]);
        state.write_u64(u64::from(layer4) << 32 | u64::from(rest));
        state.write_u64(id.map_or(0, |id| 1 << 32 | u64::from(id)));
        state.finish()
    }
}

/// The half of a hash that places are found by.
fn fold(identity: u64) -> u32 {
    let [.., a, b, c, d] = identity.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
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
    use crate::conntrack::Tuple;
    use crate::{MessageBuilder, MessageList, flags};

    const DESTROY: (u16, u16) = (0x102, 0);
    const NEW: (u16, u16) = (0x100, flags::CREATE | flags::EXCL);
    const UPDATE: (u16, u16) = (0x100, 0);

    /// What an event is told from others by.
    #[derive(Clone, Copy, Default)]
    struct Told {
        host: u8,
        zone: Option<u16>,
        id: u32,
        stop_ns: Option<u64>,
        status: u32,
    }

    fn is_repeated(repeats: &mut Repeats, (message_type, flags): (u16, u16), told: Told) -> bool {
        let mut bytes = Vec::new();
        let mut message = MessageBuilder::new(&mut bytes, message_type, flags)
            .bytes(&[2, 0, 0, 0])
            .nested(1, |tuple| {
                tuple.nested(1, |ip| {
                    ip.attribute(1, &[10, 0, 0, told.host])
                        .attribute(2, &[9; 4])
                })
            })
            .attribute_be32(3, told.status)
            .attribute_be32(12, told.id);
        if let Some(zone) = told.zone {
            message = message.attribute_be16(18, zone);
        }
        if let Some(stop_ns) = told.stop_ns {
            message = message.nested(20, |times| times.attribute(2, &stop_ns.to_be_bytes()));
        }
        message.finish().unwrap();
        let list = MessageList::new(&bytes);
        let flow = list
            .iter()
            .find_map(|message| Flow::decode(&message))
            .unwrap();
        assert_eq!(
            (flow.id, flow.stop_ns, flow.zone.map(|zone| zone.id)),
            (Some(told.id), told.stop_ns, told.zone)
        );
        repeats.is_repeated(&flow)
    }

    /// Found by the ends in the ring.
    fn place_count(repeats: &Repeats) -> usize {
        let mut identities: Vec<u64> = repeats.ring.iter().map(|end| end.identity).collect();
        identities.sort_unstable();
        identities.dedup();
        let places = identities
            .iter()
            .map(|identity| repeats.places.with_hash(fold(*identity)).count());
        places.sum()
    }

    fn host(host: u8) -> Told {
        Told {
            host,
            ..Told::default()
        }
    }

    #[test]
    fn whatever_differs_makes_it_another_flow() {
        let first = host(1);
        let others = [
            host(2),
            Told {
                zone: Some(7),
                ..first
            },
            Told { id: 9, ..first },
            Told {
                stop_ns: Some(5),
                ..first
            },
            Told {
                stop_ns: Some(6),
                ..first
            },
        ];
        let mut repeats = Repeats::default();
        for told in others.into_iter().chain([first]) {
            assert!(!is_repeated(&mut repeats, DESTROY, told));
        }
        for told in others.into_iter().chain([first]) {
            assert!(is_repeated(&mut repeats, DESTROY, told));
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut repeats = Repeats::new(3);
        for number in [1, 2, 3] {
            assert!(!is_repeated(&mut repeats, DESTROY, host(number)));
        }
        // A repeat takes no place: all three are still known.
        assert!([1, 1, 2, 3].map(host).into_iter().all(|told| is_repeated(
            &mut repeats,
            DESTROY,
            told
        )));
        assert!(!is_repeated(&mut repeats, DESTROY, host(4))); // in the place of 1
        assert!([2, 3, 4].map(host).into_iter().all(|told| is_repeated(
            &mut repeats,
            DESTROY,
            told
        )));
        assert!(!is_repeated(&mut repeats, DESTROY, host(1))); // in the place of 2
        assert!(!is_repeated(&mut repeats, DESTROY, host(2)));
    }

    #[test]
    fn it_holds_no_more_than_its_capacity() {
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
        let dying = Told {
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
        let key = Key {
            orig: Tuple::new([10, 0, 0, 1].into(), [9; 4].into(), 6, Layer4::None),
            zone: None,
        };
        let (id, other) = (Some(7), Some(8));
        for stop_ns in [None, Some(5)] {
            let mut repeats = Repeats::new(4);
            assert!(!repeats.has_ended(&key, id));
            repeats.note_made_up_end(&key, id);
            repeats.note_made_up_end(&key, id);
            assert_eq!(repeats.ring.len(), 1);
            assert!(repeats.has_ended(&key, id) && !repeats.has_ended(&key, other));
            assert!(!repeats.note_end(&key, id, stop_ns), "its event, late");
            assert!(!repeats.note_end(&key, id, stop_ns), "and again");
            assert!(repeats.note_end(&key, id, Some(6)), "another end");
            assert_eq!(repeats.forget(&key, id), stop_ns.is_none());
            assert!(repeats.has_ended(&key, id), "the last, by its timestamp");
            assert!(!repeats.forget(&key, other));
            repeats.note_made_up_end(&key, other);
            assert!(repeats.forget(&key, other) && !repeats.has_ended(&key, other));
        }
    }

    #[test]
    fn another_flow_between_the_same_ends_does_not_hide_a_repeat() {
        let (old, new) = (host(1), Told { id: 2, ..host(1) });
        let mut repeats = Repeats::default();
        assert!(!is_repeated(&mut repeats, DESTROY, old));
        assert!(!is_repeated(&mut repeats, NEW, new));
        assert!(is_repeated(&mut repeats, DESTROY, old));
        assert!(!is_repeated(&mut repeats, DESTROY, new));
    }

    #[test]
    fn what_was_forgotten_and_came_again_is_not_forgotten_with_its_old_place() {
        let mut repeats = Repeats::new(3);
        is_repeated(&mut repeats, DESTROY, host(1));
        is_repeated(&mut repeats, NEW, host(1));
        is_repeated(&mut repeats, DESTROY, host(2));
        is_repeated(&mut repeats, DESTROY, host(1)); // in the third place; the first has its hash too
        assert!(!is_repeated(&mut repeats, DESTROY, host(3))); // in the first place
        assert!(is_repeated(&mut repeats, DESTROY, host(1)));
    }
}

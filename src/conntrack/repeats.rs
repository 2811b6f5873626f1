//! Ends of flows that were told before.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use super::{EventKind, Flow};

/// Remembers the DESTROY events of late, to tell which of them come again.
///
/// Where one reliable socket ([`SocketBuilder::reliable`](crate::SocketBuilder::reliable)) could not take a DESTROY, the
/// kernel sends it to the whole group again, and all others hear it twice or more (Linux v6.18,
/// net/netfilter/nf_conntrack_ecache.c, `ecache_work_evict_list`).
///
/// Two are the same when their original tuple, zone, id and stop timestamp are. With `net.netfilter.nf_conntrack_timestamp`
/// = 1 that is exact. Without, there is no stop timestamp, and a later flow between the same ends has the id of an earlier
/// one when it was given the same memory. Its NEW, or an UPDATE, then tells that it is another one. So give this every
/// event of a socket that is in [`Group::New`](super::Group::New) too, and do not ask it about flows without a stop
/// timestamp otherwise. What remains: where the NEW of such a flow could not be delivered, and no UPDATE came, its end is
/// taken for a repeat.
///
/// The memory is bounded: 64 bits of hash for each event, and what finds it again; about 11 MiB for the
/// [default](Self::DEFAULT_CAPACITY), taken as it fills. The oldest is forgotten first; if that comes again, it is
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
    /// The hashes in the order of their events; when it is full, `oldest` is the next to be overwritten.
    ring: Vec<u64>,
    oldest: usize,
    /// Where in the ring a hash is. One that was forgotten is in the ring alone, until it is overwritten.
    places: HashMap<u64, usize>,
}

impl Repeats {
    /// How many events [`default`](Self::default) remembers: as many as there are flows in the full table of a host with
    /// more than 4 GiB, as the kernel sizes it (net/netfilter/nf_conntrack_core.c, `nf_conntrack_init_start`).
    pub const DEFAULT_CAPACITY: usize = 262_144;

    /// Remembers up to `capacity` events. With 0 nothing is ever repeated.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ring: Vec::new(),
            oldest: 0,
            places: HashMap::new(),
        }
    }

    /// Whether this is a DESTROY that came before. If not, it is remembered; a NEW or UPDATE has the flow's
    /// DESTROY forgotten, since it is alive.
    pub fn is_repeated(&mut self, flow: &Flow<'_>) -> bool {
        let identity = (flow.orig, flow.zone, flow.id);
        let stop_ns = match flow.kind {
            EventKind::Destroy => flow.stop_ns,
            EventKind::New | EventKind::Update => None,
        };
        let hash = self.places.hasher().hash_one((identity, stop_ns));
        match flow.kind {
            EventKind::Destroy if self.places.contains_key(&hash) => true,
            EventKind::Destroy => {
                self.remember(hash);
                false
            }
            EventKind::New | EventKind::Update => {
                self.places.remove(&hash);
                false
            }
        }
    }

    fn remember(&mut self, hash: u64) {
        if self.capacity == 0 {
            return;
        }
        let place = self.oldest;
        if let Some(oldest) = self.ring.get_mut(place) {
            // It may have been forgotten since, and have come again: then it is elsewhere.
            if self.places.get(oldest) == Some(&place) {
                self.places.remove(oldest);
            }
            *oldest = hash;
        } else {
            self.ring.push(hash);
        }
        self.places.insert(hash, place);
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
                assert!(repeats.places.len() <= capacity && repeats.ring.len() <= capacity);
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

//! Tests of the table without a kernel.
#![cfg_attr(fuzzing, allow(unused, reason = "fuzzers use the models only"))]

#[cfg(test)]
mod filter;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod kernel;
mod random;

use self::kernel::{Entry, Kernel, one};
use std::time::Instant;

use super::fib::Fib;
use super::kept;
use super::replaceable::Replaced;
use super::{Change, Mirror, MirrorOptions};
use crate::event_kind::EventKind;
use crate::message::flags;
use crate::mirror::{Kind, Random, Slice, Table as _, step_count};
use crate::{ErrorKind, Family, MessageBuilder, MessageList, Protocol, Socket};

#[test]
fn no_changed_byte_of_an_event_breaks_the_table() {
    let kernel = Kernel::default();
    let hops = vec![(1, Some(1)), (2, Some(2))];
    let entry = Entry {
        prefix_len: 64,
        priority: 1024,
        protocol: 3,
        hops,
        made_at: 0,
    };
    let bytes = kernel.message(Family::INET6, 1, &entry, EventKind::New, flags::REPLACE);
    let mut fib = Fib::new();
    fib.begin_dump();
    for index in 4..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[index] ^= change;
            for message in &MessageList::new(&changed) {
                fib.feed_dumped(&message);
                fib.feed(&message, &mut |_| {});
            }
        }
    }
    fib.begin_merge();
    fib.merge(&mut Slice::endless(), &mut |_| {});
    fib.finish();
    assert_eq!(fib.iter().count(), fib.len());
    assert_ne!(fib.len(), 0);
}

#[test]
fn a_route_is_there_once_although_an_abandoned_dump_had_it() {
    let mut fib = Fib::new();
    fib.begin_dump();
    fib.begin_merge();
    fib.merge(&mut Slice::endless(), &mut |_| {});
    fib.finish();
    let bytes = crowd(Family::INET, 1).next().unwrap();
    fib.begin_dump();
    fib.feed_dumped(&one(&bytes));
    fib.abandon_dump();
    let mut change_count = 0;
    for _ in 0..3 {
        fib.feed(&one(&bytes), &mut |_| change_count += 1);
    }
    assert_eq!((fib.len(), change_count), (1, 1));
    fib.clear(&mut Slice::endless());
    assert_eq!(fib.iter().count(), 1);
}

#[test]
fn an_entry_of_somebodys_dump_counts_as_news() {
    let mut fib = Fib::new();
    fib.begin_dump();
    fib.begin_merge();
    fib.merge(&mut Slice::endless(), &mut |_| {});
    fib.finish();
    let bytes = crowd(Family::INET, 1).next().unwrap();
    let entry = with_flags(bytes, 24, flags::MULTI);
    let mut kinds = Vec::new();
    fib.feed(&one(&entry), &mut |change| {
        if let Change::Route { route, .. } = change {
            kinds.push(route.kind);
        }
    });
    assert_eq!(kinds, [EventKind::New]);
}

/// Many routes with the same key. For IPv6 each device has its own `fe80::/64`; for IPv4 any number can be appended.
fn crowd(family: Family, count: u32) -> impl Iterator<Item = Vec<u8>> {
    (1..=count).map(move |number| {
        let mut bytes = Vec::new();
        let (prefix_len, dst): (u8, &[u8]) = match family {
            Family::INET6 => (64, &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            _ => (16, &[10, 1, 0, 0]),
        };
        let mut builder = MessageBuilder::new(&mut bytes, 24, 0)
            .bytes(&[family.into(), prefix_len, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0])
            .attribute_u32(15, 254)
            .attribute(1, dst)
            .attribute_u32(6, 256);
        if family == Family::INET {
            builder = builder.attribute(5, &number.to_be_bytes());
        }
        builder.attribute_u32(4, number).finish().unwrap();
        bytes
    })
}

fn with_flags(mut bytes: Vec<u8>, message_type: u16, flags: u16) -> Vec<u8> {
    bytes[4..6].copy_from_slice(&message_type.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// How many slots are visited per route, in two rounds over many routes of one key, the second one with events.
fn steps_per_route(family: Family, count: u32) -> u64 {
    let before = step_count();
    let mut fib = Fib::new();
    let mut change_count = 0;
    let mut count_change = |_: Change<'_>| change_count += 1;
    for round in 0..2 {
        fib.begin_dump();
        for bytes in crowd(family, count) {
            fib.feed_dumped(&one(&bytes));
        }
        if round == 1 {
            let crowd = crowd(family, count).enumerate();
            for (index, bytes) in crowd.filter(|(index, _)| index % 3 != 0) {
                let (message_type, flags) = [(25, 0), (24, flags::REPLACE)][index % 3 - 1];
                fib.feed(
                    &one(&with_flags(bytes, message_type, flags)),
                    &mut count_change,
                );
            }
        }
        fib.begin_merge();
        fib.merge(&mut Slice::endless(), &mut count_change);
        fib.finish();
        fib.clear(&mut Slice::endless());
    }
    let deleted_count = (0..count).filter(|index| index % 3 == 1).count();
    assert_eq!(fib.len(), count as usize - deleted_count);
    assert_eq!(change_count, count as usize + deleted_count);
    (step_count() - before) / u64::from(count)
}

#[test]
fn many_routes_of_one_key_cost_no_more_each_than_a_few() {
    for family in [Family::INET, Family::INET6] {
        let [few, many] = [10, 4000].map(|count| steps_per_route(family, count));
        assert!(few > 2 && many <= few + 2, "{few} {many}");
    }
}

/// A table that has these routes.
fn with_routes(routes: impl IntoIterator<Item = Vec<u8>>) -> Fib {
    let mut fib = Fib::new();
    fib.begin_dump();
    for bytes in routes {
        fib.feed_dumped(&one(&bytes));
    }
    fib.begin_merge();
    fib.merge(&mut Slice::endless(), &mut |_| {});
    fib.finish();
    fib.clear(&mut Slice::endless());
    fib
}

/// How many slots are visited per event, while each of these routes replaces another one.
fn steps_per_replacement(fib: &mut Fib, routes: impl Iterator<Item = Vec<u8>>) -> u64 {
    let (before, mut count) = (step_count(), 0);
    for route in routes {
        let event = with_flags(route, 24, flags::REPLACE);
        fib.feed(&one(&event), &mut |_| {});
        count += 1;
    }
    (step_count() - before) / count
}

#[test]
fn routes_that_keep_replacing_each_other_do_not_cost_more_with_time() {
    let steps = |count: usize| {
        let routes: Vec<_> = crowd(Family::INET, 2).collect();
        let mut fib = with_routes([routes[0].clone()]);
        fib.begin_dump();
        let events = routes.iter().rev().cycle().take(count).cloned();
        let steps = steps_per_replacement(&mut fib, events);
        assert!(fib.slots.slot_count() <= 4, "{}", fib.slots.slot_count());
        steps
    };
    let [few, many] = [10, 4000].map(steps);
    assert!(few > 2 && many <= few + 2, "{few} {many}");
}

#[test]
fn many_different_routes_that_replace_each_other_cost_no_more_each_than_a_few() {
    let steps = |count: u32| {
        let mut fib = with_routes(crowd(Family::INET, 1));
        fib.begin_dump();
        let steps = steps_per_replacement(&mut fib, crowd(Family::INET, count).skip(1));
        assert_eq!(fib.len(), 1);
        steps
    };
    let [few, many] = [10, 4000].map(steps);
    assert!(few > 2 && many <= few + 2, "{few} {many}");
}

/// IPv6 routes by 100 gateways, to the destination of a [`crowd`].
fn by_gateways() -> impl Iterator<Item = Vec<u8>> {
    (1..=100_u16).map(|number| {
        let by_device = crowd(Family::INET6, 1).next().unwrap_or_default();
        let gateway = [
            &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &number.to_be_bytes()[..],
        ];
        let mut bytes = Vec::new();
        MessageBuilder::new(&mut bytes, 24, 0)
            .bytes(&by_device[16..])
            .attribute(5, &gateway.concat())
            .finish()
            .unwrap();
        bytes
    })
}

#[test]
fn routes_with_gateways_are_not_compared_with_all_that_have_none() {
    let steps = |count: u32| {
        let mut fib = with_routes(crowd(Family::INET6, count));
        let first = by_gateways().next().unwrap_or_default();
        fib.feed(&one(&first), &mut |_| {});
        let steps = steps_per_replacement(&mut fib, by_gateways());
        assert_eq!(fib.len(), count as usize + 1);
        steps
    };
    let [few, many] = [10, 4000].map(steps);
    assert!(few > 2 && many <= few + 2, "{few} {many}");
}

#[test]
fn routes_of_other_keys_to_the_same_address_cost_nothing() {
    let with_metric = |metric: u32| {
        let mut bytes = crowd(Family::INET, 1).next().unwrap_or_default();
        let value = bytes
            .windows(4)
            .position(|part| part == 256_u32.to_ne_bytes());
        bytes[value.unwrap()..][..4].copy_from_slice(&metric.to_ne_bytes());
        bytes
    };
    let steps = |count: u32| {
        let mut fib = with_routes((1..=count).map(with_metric));
        assert_eq!(fib.len(), count as usize);
        let one_of_them = std::iter::repeat_with(|| with_metric(7)).take(100);
        steps_per_replacement(&mut fib, one_of_them)
    };
    let [few, many] = [10, 4000].map(steps);
    assert!(few > 2 && many <= few + 2, "{few} {many}");
}

#[test]
fn events_during_a_merge_look_once_at_the_routes_of_their_key() {
    let steps = |count: u32| {
        let mut fib = with_routes(crowd(Family::INET6, count));
        fib.begin_dump();
        for bytes in crowd(Family::INET6, count) {
            fib.feed_dumped(&one(&bytes));
        }
        fib.begin_merge();
        let event = by_gateways().next().unwrap_or_default();
        fib.feed(&one(&event), &mut |_| {}); // settles the place
        steps_per_replacement(&mut fib, by_gateways())
    };
    let [few, many] = [10, 4000].map(steps);
    assert!(few > 2 && many <= few + 2, "{few} {many}");
}

/// Fails if what an event may replace is not what a look at all routes finds.
fn check_replaceable(fib: &Fib) {
    let slots = &fib.slots;
    for slot in (0..slots.slot_count()).filter(|slot| slots.kind(*slot) == Kind::Live) {
        let place = slots.hashes(slot).place;
        let key = kept::replace_key(slots.bytes(slot)).unwrap();
        let others = slots.at(place).filter(|other| {
            let has_key = || kept::replace_key(slots.bytes(*other)) == Some(key);
            *other != slot && slots.kind(*other) == Kind::Live && has_key()
        });
        let expected = match others.collect::<Vec<_>>()[..] {
            [] => Replaced::None,
            [other] => Replaced::One(other),
            _ => Replaced::Unsure,
        };
        assert_eq!(slots.replaceable(place, key, Some(slot)), expected);
    }
}

#[test]
fn an_abandoned_dump_is_cleared_in_slices() {
    let mut fib = Fib::new();
    fib.begin_dump();
    for bytes in crowd(Family::INET, 1000) {
        fib.feed_dumped(&one(&bytes));
    }
    let before = step_count();
    fib.abandon_dump();
    assert!((step_count() - before) == 0 && !fib.is_cleared());
    let mut call_count = 1;
    while !fib.clear(&mut Slice::of_steps(1)) {
        call_count += 1;
    }
    assert!(call_count > 1000, "{call_count}");
    // The abandoned dump left nothing.
    fib.begin_dump();
    fib.begin_merge();
    fib.merge(&mut Slice::endless(), &mut |_| {
        panic!("nothing is left to report")
    });
    assert_eq!(fib.len(), 0);
}

/// An event ended a route while a dump was read, and that dump was abandoned. The next dump has the route again.
#[test]
fn what_ended_during_an_abandoned_dump_may_be_in_the_next_one() {
    let mut fib = synced();
    let bytes = crowd(Family::INET, 1).next().unwrap();
    let delete = with_flags(bytes.clone(), 25, 0);
    for is_known in [false, true] {
        if is_known {
            fib.feed(&one(&bytes), &mut |_| {});
        }
        fib.begin_dump();
        fib.feed(&one(&delete), &mut |_| {});
        fib.abandon_dump(); // an event was lost: that of the route's return
        assert_eq!(fib.len(), 0);
        fib.begin_dump();
        fib.feed_dumped(&one(&bytes));
        fib.begin_merge();
        let mut change_count = 0;
        fib.merge(&mut Slice::endless(), &mut |_| change_count += 1);
        let (_, is_open) = fib.finish();
        assert_eq!((fib.len(), change_count, is_open), (1, 1, false));
        fib.feed(&one(&delete), &mut |_| {});
        assert_eq!(fib.len(), 0);
    }
}

#[test]
fn the_hash_depends_on_what_identifies_a_route() {
    let kernel = Kernel::default();
    let slots = super::slots::Slots::new();
    let mut random = Random::new(1);
    let mut routes = Vec::new();
    for _ in 0..120 {
        let family = [Family::INET, Family::INET6][random.below(2) as usize];
        let gateway = (random.percent(50) || family == Family::INET).then_some(1);
        let hop = (u8::try_from(random.below(2)).unwrap(), gateway);
        let hop_count = if family == Family::INET6 && gateway.is_some() {
            1 + random.below(2)
        } else {
            1
        };
        let entry = Entry {
            prefix_len: 16,
            priority: random.below(2),
            protocol: [3, 9][random.below(2) as usize],
            hops: vec![hop; hop_count as usize],
            made_at: 0,
        };
        let mut bytes = kernel.message(family, 1, &entry, EventKind::New, 0);
        if random.percent(30) {
            bytes[24] = 16; // its hop's device has no carrier
        }
        let mut kept = Vec::new();
        kept::keep(&one(&bytes), &mut kept);
        routes.push(kept);
    }
    let mut same_count = 0;
    for one in &routes {
        for other in &routes {
            let is_same = kept::is_same(one, other);
            let is_hash_same = slots.identity_hash(one) == slots.identity_hash(other);
            assert_eq!(is_same, is_hash_same, "{one:?} {other:?}");
            same_count += u32::from(is_same && one != other);
        }
    }
    assert!(same_count > 100, "{same_count}");
}

/// A table after an empty first dump.
fn synced() -> Fib {
    let mut fib = Fib::new();
    fib.begin_dump();
    fib.begin_merge();
    fib.merge(&mut Slice::endless(), &mut |_| {});
    fib.finish();
    fib
}

/// A dump of these routes, with one event before it ends. Returns whether it leaves something open.
fn is_open_after(fib: &mut Fib, dumped: &[&[u8]], event: &[u8]) -> bool {
    fib.clear(&mut Slice::endless());
    fib.begin_dump();
    for bytes in dumped {
        fib.feed_dumped(&one(bytes));
    }
    fib.feed(&one(event), &mut |_| {});
    fib.begin_merge();
    fib.merge(&mut Slice::endless(), &mut |_| {});
    let (_, is_open) = fib.finish();
    is_open
}

/// When a route ends, the kernel's dump may skip another one to the same address. If events are missing, the mirror may not
/// know that one.
#[test]
fn a_dump_may_skip_a_route_whose_event_is_missing() {
    let [one_route, other, elsewhere]: [Vec<u8>; 3] = {
        let mut here = crowd(Family::INET, 2);
        let (first, second) = (here.next().unwrap(), here.next().unwrap());
        let mut elsewhere = second.clone();
        let place = elsewhere
            .windows(4)
            .position(|bytes| bytes == [10, 1, 0, 0]);
        elsewhere[place.unwrap() + 1] = 2;
        [first, second, elsewhere]
    };
    let end = |route: &Vec<u8>| with_flags(route.clone(), 25, 0);
    let mut fib = synced();
    fib.feed(&one(&one_route), &mut |_| {});
    fib.note_missing_events(); // that of the other route, and who knows of which else
    assert!(is_open_after(&mut fib, &[], &end(&one_route)), "skipped");
    assert_eq!(fib.len(), 0);
    // Only that address is in doubt, and the next dump shows what is there.
    fib.feed(&one(&elsewhere), &mut |_| {});
    assert!(!is_open_after(&mut fib, &[&other], &end(&elsewhere)));
    assert_eq!(fib.len(), 1);
    assert!(!is_open_after(&mut fib, &[], &end(&other)), "all was known");
    assert_eq!(fib.len(), 0);
    // After a dump that was abandoned for a loss, everything is in doubt again.
    fib.begin_dump();
    fib.abandon_dump();
    fib.note_missing_events();
    fib.feed(&one(&elsewhere), &mut |_| {});
    assert!(is_open_after(&mut fib, &[], &end(&elsewhere)));
    // It stays so while its routes end in each dump.
    fib.feed(&one(&elsewhere), &mut |_| {});
    assert!(is_open_after(&mut fib, &[], &end(&elsewhere)));
}

/// An IPv6 route replaces one of the other sort, with or without gateways, only if there is none of its own. A mirror that
/// has missed the end of a route cannot see this.
#[test]
fn a_route_whose_end_is_missing_may_replace_one_of_the_other_sort() {
    let by_gateway = by_gateways().next().unwrap();
    let by_device = crowd(Family::INET6, 1).next().unwrap();
    let routes = [&by_gateway, &by_device];
    for [again, other] in [routes, [routes[1], routes[0]]] {
        let mut fib = synced();
        fib.feed(&one(again), &mut |_| {});
        fib.note_missing_events(); // that of its end
        fib.begin_dump();
        fib.feed_dumped(&one(again));
        fib.feed(&one(other), &mut |_| {});
        let replacing = with_flags(again.clone(), 24, flags::REPLACE);
        assert!(fib.feed(&one(&replacing), &mut |_| {}), "a dump decides");
        fib.begin_merge();
        fib.merge(&mut Slice::endless(), &mut |_| {});
        fib.finish();
        assert_eq!(fib.len(), 2);
        // In that dump it has begun again, and replaces itself.
        fib.clear(&mut Slice::endless());
        fib.begin_dump();
        fib.feed_dumped(&one(again));
        fib.begin_merge();
        fib.merge(&mut Slice::endless(), &mut |_| {});
        fib.finish();
        assert_eq!(fib.len(), 1);
        assert!(!fib.feed(&one(&replacing), &mut |_| {}));
    }
}

/// A mirror that has missed a route takes one of the other sort for replaced. If the dump has the missed route, and is from
/// before the other one began, it lacks that one too.
#[test]
fn a_dump_may_be_older_than_a_route_that_seems_to_be_replaced() {
    let missed = by_gateways().next().unwrap();
    let by_device = crowd(Family::INET6, 1).next().unwrap();
    let changed = by_gateways().nth(1).unwrap();
    for replacing in [&changed, &missed] {
        let mut fib = synced();
        fib.note_missing_events(); // that of the missed route
        fib.begin_dump();
        fib.feed_dumped(&one(&missed));
        fib.feed(&one(&by_device), &mut |_| {});
        let replacing = with_flags(replacing.clone(), 24, flags::REPLACE);
        fib.feed(&one(&replacing), &mut |_| {});
        fib.begin_merge();
        fib.merge(&mut Slice::endless(), &mut |_| {});
        let (_, is_open) = fib.finish();
        assert!(is_open, "another dump decides");
        fib.clear(&mut Slice::endless());
        fib.begin_dump();
        fib.feed_dumped(&one(&replacing));
        fib.feed_dumped(&one(&by_device));
        fib.begin_merge();
        fib.merge(&mut Slice::endless(), &mut |_| {});
        let (_, is_open) = fib.finish();
        assert_eq!((fib.len(), is_open), (2, false));
    }
}

/// Which of these events of one IPv6 multipath route need another dump.
fn need_dumps(events: &[(EventKind, u16, &[u8])]) -> Vec<bool> {
    let kernel = Kernel::default();
    let mut fib = synced();
    let needs = events.iter().map(|&(kind, flags, gateways)| {
        let entry = Entry {
            prefix_len: 64,
            priority: 1024,
            protocol: 3,
            hops: gateways.iter().map(|gateway| (1, Some(*gateway))).collect(),
            made_at: 0,
        };
        let bytes = kernel.message(Family::INET6, 1, &entry, kind, flags);
        fib.feed(&one(&bytes), &mut |_| {})
    });
    needs.collect()
}

#[test]
fn events_of_a_multipath_route_in_the_wrong_order_need_a_dump() {
    let (new, gone) = (EventKind::New, EventKind::Delete);
    let create = flags::CREATE;
    // These events are in order.
    let events = [
        (new, create | flags::EXCL, &[1][..]),
        (new, create | flags::APPEND, &[1, 2, 3]),
        (gone, 0, &[2]),
        (new, flags::REPLACE, &[1, 4]),
        (new, flags::REPLACE, &[1, 4]),
        (new, 0, &[1, 4]), // offloaded
        (new, create, &[4, 1, 5]),
        (gone, 0, &[5, 1, 4]),
        (new, create, &[1, 4]),
        (gone, 0, &[1]),
        (gone, 0, &[4]),
    ];
    assert_eq!(need_dumps(&events), [false; 11]);
    // The end of the first route comes after the second route.
    for second in [&[1, 2][..], &[2], &[3, 4]] {
        let events = [
            (new, create, &[1, 2][..]),
            (new, create, second),
            (gone, 0, &[1, 2]),
        ];
        let needs = need_dumps(&events);
        assert!(!needs[0] && needs[1], "{second:?}");
        assert_eq!(needs[2], second != [1, 2], "{second:?}");
    }
    // The whole route ends before one more hop is reported.
    let events = [
        (new, create, &[1, 2][..]),
        (gone, 0, &[1, 2, 3]),
        (new, create | flags::APPEND, &[1]),
    ];
    assert_eq!(need_dumps(&events), [false, true, false]);
    // The end comes before the beginning.
    assert_eq!(need_dumps(&[(gone, 0, &[1, 2])]), [true]);
    // Of two events that each add a hop, the first one comes later.
    let events = [
        (new, create, &[1][..]),
        (new, create, &[1, 2, 3]),
        (new, create, &[1, 2]),
    ];
    assert_eq!(need_dumps(&events), [false, false, true]);
}

#[test]
fn a_socket_that_is_not_in_all_groups_is_refused() {
    let mut mirror = Mirror::new(MirrorOptions::new());
    let mut builder = Socket::builder(Protocol::ROUTE);
    for group in Mirror::GROUPS.into_iter().skip(2) {
        builder = builder.group(group);
    }
    let events = builder.open().unwrap();
    let error = mirror.advance(&events, |_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(text.contains("groups Ipv4Route, Ipv6Route; "), "{text}");
    assert!(!mirror.is_complete() && mirror.health().error == Some(&text));
    let now = Instant::now();
    assert!(mirror.due(now).is_some_and(|due| due > now), "not at once");
}

#[test]
fn the_debug_text_of_a_mirror_is_short() {
    let text = format!("{:?}", Mirror::new(MirrorOptions::new()));
    assert!(text.starts_with("Mirror { len: 0, is_synced: false, is_complete: false, health: "));
    assert!(text.len() < 600, "{text}");
}

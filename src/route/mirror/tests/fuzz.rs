//! What fuzzers drive: the model of the kernel, and events and dumps that no kernel would send.

use super::super::Change;
use super::super::fib::Fib;
use super::kernel::{Entry, Kernel, View};
use super::random::{ALL, Follower, World};
use crate::Family;
use crate::event_kind::EventKind;
use crate::message::{Messages, flags};
use crate::mirror::{Random, Slice, Table as _};

/// Runs the model, with the assertions of its test.
pub(crate) fn model(random: Random) {
    let mut world = World::new(random, &ALL);
    for _ in 0..4 {
        world.run_and_compare();
        if world.random.given_count() == 0 {
            break;
        }
    }
}

/// Feeds events and dumps in any order. While no message is damaged, a table that is kept by the changes alone equals the
/// mirror's.
pub(crate) fn events(mut random: Random) {
    let has_damage = random.one_in(2);
    let mut fib = Fib::new();
    let mut follower = Follower::default();
    let (mut is_reading, mut is_merging) = (false, false);
    while random.given_count() > 0 {
        let mut f = |change: Change<'_>| {
            if !has_damage {
                follower.follow(&change);
            }
        };
        match random.below(16) {
            0..8 => {
                for message in Messages::new(&message(&mut random, has_damage)) {
                    fib.feed(&message, &mut f);
                }
            }
            8..12 if is_reading => {
                for message in Messages::new(&message(&mut random, has_damage)) {
                    fib.feed_dumped(&message);
                }
            }
            8..12 if is_merging => {
                is_merging = !fib.merge(&mut Slice::of_steps(random.below(4)), &mut f);
                if !is_merging {
                    fib.finish();
                    fib.take_counts();
                }
            }
            8..12 if fib.clear(&mut Slice::of_steps(random.below(4))) => {
                fib.begin_dump();
                is_reading = true;
            }
            12 if is_reading => {
                fib.begin_merge();
                (is_reading, is_merging) = (false, true);
            }
            13 if is_reading || is_merging => {
                fib.abandon_dump();
                (is_reading, is_merging) = (false, false);
            }
            14 if is_reading || is_merging => fib.note_silent_change(),
            _ => {}
        }
        check_counts(&fib);
    }
    if !has_damage {
        let mut routes: Vec<_> = fib.iter().map(|route| View::of(&route)).collect();
        routes.sort();
        let mut followed: Vec<_> = follower.routes.into_values().collect();
        followed.sort();
        assert_eq!(routes, followed, "what was handed out is not what there is");
    }
}

fn check_counts(fib: &Fib) {
    assert_eq!(fib.iter().count(), fib.len());
}

/// A message of one of few routes, perhaps with a damaged byte.
fn message(random: &mut Random, has_damage: bool) -> Vec<u8> {
    let is_ipv6 = random.one_in(2);
    let hop = |random: &mut Random| {
        let gateway = random.percent(70).then(|| random.below(2) as u8);
        (1 + random.below(3) as u8, gateway)
    };
    let mut hops = vec![hop(random)];
    while is_ipv6 && hops[0].1.is_some() && hops.len() < 3 && random.percent(40) {
        let (device, gateway) = hop(random);
        let next = (device, gateway.or(Some(0)));
        if !hops.contains(&next) {
            hops.push(next);
        }
    }
    let entry = Entry {
        prefix_len: 24,
        priority: random.below(2),
        protocol: [3, 4][random.index(2)],
        hops,
        made_at: 0,
    };
    let mut kernel = Kernel::default();
    kernel.is_down[1] = random.one_in(4);
    let family = if is_ipv6 { Family::INET6 } else { Family::INET };
    let message_flags = [
        0,
        flags::CREATE | flags::EXCL,
        flags::CREATE | flags::APPEND,
        flags::CREATE,
        flags::REPLACE,
    ][random.index(5)];
    let kind = [EventKind::New, EventKind::Delete][random.index(2)];
    let mut bytes = kernel.message(family, random.below(2) as u8, &entry, kind, message_flags);
    if has_damage && random.one_in(3) {
        let place = 4 + random.index(bytes.len() - 4);
        bytes[place] = random.byte();
    }
    bytes
}

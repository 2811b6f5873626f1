//! Filters: the kernel, `matches` and an evaluation that shares no code with the library agree on every event.

#[path = "../common/mod.rs"]
mod common;
mod decoded;
mod dumps;
mod events;
mod expressions;
mod malformed;
mod sockets;

use nlring::MessageList;
use nlring::conntrack::{Filter, Flow};
use nlring::filter::Program;
use nlring_testing::{Filtered, Random};

use decoded::Decoded;

/// How many events are compared, half of them in IPv4: a million, or what NLRING_FILTER_EVENTS says.
fn wanted_count() -> u32 {
    let count = std::env::var("NLRING_FILTER_EVENTS");
    count.map_or(1_000_000, |count| {
        count.parse().expect("a number of events")
    })
}

const EVENTS_PER_FILTER: u32 = 2_000;
/// While a program is replaced, the kernel keeps two. So many instructions of each are sure to find memory.
const MOST_INSTRUCTIONS: usize = 2_000;

fn is_small(program: &Program) -> bool {
    program.instructions().len() <= MOST_INSTRUCTIONS
}

#[test]
fn kernel_and_user_space_agree_on_a_million_events() {
    common::own_namespace();
    let mut kernel = Filtered::new();
    let mut random = Random::new(14);
    let (mut match_count, mut event_count) = (0, 0);
    let mut filter_count = 0;
    while event_count < wanted_count() {
        filter_count += 1;
        let expression = expressions::any(&mut random, 4);
        let text = expression.to_string();
        let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(filter.to_string().parse().as_ref(), Ok(&filter), "{text}");
        assert!(!filter.needs_user_space(), "{text}");
        let Some(program) = filter.program().ok().filter(is_small) else {
            continue;
        };
        kernel.set(&program);
        let mut left = EVENTS_PER_FILTER as usize;
        while left > 0 {
            let count = left.min(Filtered::MAX_COUNT);
            left -= count;
            let events: Vec<_> = (0..count)
                .map(|number| events::any(&mut random, number))
                .collect();
            let passed = kernel.passed(&events);
            for (event, passed) in events.iter().zip(passed) {
                let list = MessageList::new(event);
                let message = list.iter().next().expect("a message");
                let flow = Flow::decode(&message).expect("a flow");
                let expected = expression.is_true(&Decoded::read(event));
                let found = (filter.matches(&flow), passed);
                assert_eq!(
                    found,
                    (expected, expected),
                    "{text}\n{flow:#?}\n{} instructions",
                    program.instructions().len()
                );
                match_count += u32::from(expected);
                event_count += 1;
            }
        }
    }
    let small_count = wanted_count() / EVENTS_PER_FILTER;
    assert!(
        filter_count < small_count + small_count / 10,
        "nearly all filters are small"
    );
    // Neither nearly all nor nearly none of them match.
    let share = f64::from(match_count) / f64::from(event_count);
    assert!((0.2..0.8).contains(&share), "{share}");
}

/// A mirror's program may let more pass, and never less. What can change while a flow lives does not matter to it.
#[test]
fn a_mirrors_program_rejects_only_what_never_matches() {
    common::own_namespace();
    let mut kernel = Filtered::new();
    let mut random = Random::new(15);
    let mut rejected_count = 0;
    for _ in 0..200 {
        let expression = expressions::of_an_entry(&mut random, 3);
        let filter: Filter = expression.to_string().parse().expect("a filter");
        let program = filter.program_for_mirror().expect("a program");
        kernel.set(&program);
        let events: Vec<_> = (0..Filtered::MAX_COUNT)
            .map(|number| events::any(&mut random, number))
            .collect();
        for (event, passed) in events.iter().zip(kernel.passed(&events)) {
            let expected = expression.can_be_true(&Decoded::read(event));
            assert_eq!(passed, expected, "{filter}\n{program}");
            rejected_count += u32::from(!passed);
        }
    }
    assert!(rejected_count > 2000, "{rejected_count}");
}

/// Messages that are not events: every program lets them pass.
#[test]
fn answers_and_datagrams_of_several_messages_pass() {
    common::own_namespace();
    let mut kernel = Filtered::new();
    let mut random = Random::new(16);
    let filter: Filter = "not all".parse().expect("a filter");
    let program = filter.program().expect("a program");
    kernel.set(&program);
    for number in 0..Filtered::MAX_COUNT {
        let event = events::any(&mut random, 0);
        let mut others = [event.clone(), event.clone(), event.clone(), event.clone()];
        let multi = u16::from_ne_bytes([event[6], event[7]]) | 2;
        others[0][6..8].copy_from_slice(&multi.to_ne_bytes());
        // An error, the end of a dump, statistics, expectations, another subsystem.
        let types: [u16; 5] = [2, 3, 0x104, 0x200, 0x302];
        others[1][4..6].copy_from_slice(&types[number % 5].to_ne_bytes());
        let short = events::any(&mut random, 0);
        others[2].extend(&short);
        others[3].extend(&short[..16]);
        for (index, other) in others.iter_mut().enumerate() {
            other[8..12].copy_from_slice(&u32::try_from(index).unwrap().to_ne_bytes());
        }
        assert_eq!(kernel.passed(&others), [true; 4], "{others:?}");
        assert_eq!(kernel.passed(&[event]), [false]);
    }
}

//! Filters of routes: the kernel, `matches` and an evaluation that shares no code with the library agree on every event.

mod expressions;
mod live;
mod malformed;
mod messages;

use nlring::MessageList;
use nlring::route::{Filter, Route};
use nlring_testing::{Filtered, Random, own_namespace};

use messages::Decoded;

/// How many events are compared: a million, or what NLRING_FILTER_EVENTS says.
fn wanted_count() -> u32 {
    let count = std::env::var("NLRING_FILTER_EVENTS");
    count.map_or(1_000_000, |count| {
        count.parse().expect("a number of events")
    })
}

const EVENTS_PER_FILTER: usize = 2_000;

#[test]
fn kernel_and_user_space_agree_on_a_million_events() {
    own_namespace();
    let mut kernel = Filtered::new();
    let mut random = Random::new(24);
    let (mut event_count, mut match_count, mut undecided_count) = (0, 0, 0);
    while event_count < wanted_count() {
        let expression = expressions::any(&mut random, 3);
        let text = expression.to_string();
        let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(filter.to_string().parse().as_ref(), Ok(&filter), "{text}");
        assert_eq!(
            filter.needs_user_space(),
            expression.is_about_hops(),
            "{text}"
        );
        let program = filter.program().expect("a program");
        kernel.set(&program);
        for _ in 0..EVENTS_PER_FILTER / Filtered::MAX_COUNT {
            let numbers = 0..Filtered::MAX_COUNT;
            let events: Vec<_> = numbers
                .map(|number| messages::any(&mut random, number))
                .collect();
            for (event, passed) in events.iter().zip(kernel.passed(&events)) {
                let list = MessageList::new(event);
                let message = list.iter().next().expect("a message");
                let route = Route::decode(&message).expect("a route");
                let decoded = Decoded::read(event);
                let expected = expression.is_true(&decoded);
                let found = (filter.matches(&route), passed);
                assert_eq!(
                    found,
                    (expected, expression.can_be_true(&decoded)),
                    "{text}\n{route:#?}"
                );
                assert!(passed || !expected, "{text}\n{route:#?}");
                event_count += 1;
                match_count += u32::from(expected);
                undecided_count += u32::from(passed != expected);
            }
        }
    }
    // Neither nearly all nor nearly none of them match, and the kernel decides nearly all.
    let share = |count: u32| f64::from(count) / f64::from(event_count);
    assert!(
        (0.2..0.8).contains(&share(match_count)),
        "{match_count} match"
    );
    assert!(
        (0.001..0.2).contains(&share(undecided_count)),
        "{undecided_count} undecided"
    );
}

/// The program looks at the first message only, so user space filters each message of such a datagram.
#[test]
fn datagrams_of_several_messages_pass_as_a_whole() {
    own_namespace();
    let mut kernel = Filtered::new();
    let mut random = Random::new(25);
    let filter: Filter = "table 1000 and family ipv4".parse().expect("a filter");
    kernel.set(&filter.program().expect("a program"));
    let (mut rejected_count, mut match_count) = (0, 0);
    for _ in 0..Filtered::MAX_COUNT {
        let [first, second] = [0, 0].map(|number| messages::any(&mut random, number));
        let is_match = |bytes: &[u8]| {
            let decoded = Decoded::read(bytes);
            decoded.table == 1000 && decoded.family == 2
        };
        assert_eq!(
            kernel.passed(std::slice::from_ref(&first)),
            [is_match(&first)]
        );
        let both = [first.clone(), second.clone()].concat();
        assert_eq!(kernel.passed(std::slice::from_ref(&both)), [true]);
        let list = MessageList::new(&both);
        let found: Vec<_> = list
            .iter()
            .map(|message| filter.matches(&Route::decode(&message).expect("a route")))
            .collect();
        assert_eq!(found, [is_match(&first), is_match(&second)]);
        rejected_count += u32::from(!found[0]);
        match_count += u32::from(found[1]);
    }
    assert!(rejected_count > 10 && match_count > 2);
}

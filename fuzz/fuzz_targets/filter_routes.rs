//! On any event of a route three implementations of a filter agree: `matches`, its program in an interpreter of classic
//! BPF, and an evaluation that shares no code with the library. Damaged messages cause no panic, and the program ends.
#![no_main]
#![allow(
    dead_code,
    reason = "the files of the tests have more than is needed here"
)]

#[path = "../../tests/route_filter/expressions.rs"]
mod expressions;
#[path = "../../tests/route_filter/messages.rs"]
mod messages;

use libfuzzer_sys::fuzz_target;
use nlring::route::{Filter, Route};
use nlring::{MessageList, fuzzing};
use nlring_testing::Random;

use messages::Decoded;

fuzz_target!(|bytes: &[u8]| {
    let mut random = Random::of_bytes(bytes);
    let expression = expressions::any(&mut random, 3);
    let text = expression.to_string();
    let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.to_string().parse().as_ref(), Ok(&filter), "{text}");
    let Ok(program) = filter.program() else {
        return; // too long
    };
    for _ in 0..8 {
        let mut event = messages::any(&mut random, 0);
        let decoded = Decoded::read(&event);
        let (expected, may_pass) = (
            expression.is_true(&decoded),
            expression.can_be_true(&decoded),
        );
        let list = MessageList::new(&event);
        let route = list
            .iter()
            .find_map(|message| Route::decode(&message))
            .expect("a route");
        assert_eq!(filter.matches(&route), expected, "{text}\n{route:#?}");
        let returned = if may_pass { u32::MAX } else { 0 };
        assert_eq!(
            fuzzing::run_program(&program, &event),
            Some(returned),
            "{text}\n{program}"
        );
        for _ in 0..4 {
            let place = random.index(event.len());
            event[place] = random.byte();
            for message in &MessageList::new(&event) {
                let _ = Route::decode(&message).is_some_and(|route| filter.matches(&route));
            }
            let returned = fuzzing::run_program(&program, &event);
            assert!(
                matches!(returned, Some(0 | u32::MAX)),
                "{returned:?}\n{program}"
            );
        }
    }
});

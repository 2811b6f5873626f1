//! On any event of a flow three implementations of a filter agree: `matches`, its program in an interpreter of classic BPF,
//! and an evaluation that shares no code with the library. Damaged messages cause no panic, and the program ends.
#![no_main]
#![allow(
    dead_code,
    reason = "the files of the tests have more than is needed here"
)]

#[path = "../../tests/filter/decoded.rs"]
mod decoded;
#[path = "../../tests/filter/events.rs"]
mod events;
#[path = "../../tests/filter/expressions.rs"]
mod expressions;

use libfuzzer_sys::fuzz_target;
use nlring::conntrack::{Filter, Flow};
use nlring::{MessageList, fuzzing};
use nlring_testing::Random;

use decoded::Decoded;

fuzz_target!(|bytes: &[u8]| {
    let mut random = Random::of_bytes(bytes);
    let expression = expressions::any(&mut random, 4);
    let text = expression.to_string();
    let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.to_string().parse().as_ref(), Ok(&filter), "{text}");
    let Ok(program) = filter.program() else {
        return; // too long
    };
    let for_mirror = filter.program_for_mirror().ok();
    for _ in 0..8 {
        let mut event = events::any(&mut random, 0);
        let expected = expression.is_true(&Decoded::read(&event));
        let list = MessageList::new(&event);
        let flow = list
            .iter()
            .find_map(|message| Flow::decode(&message))
            .expect("a flow");
        assert_eq!(filter.matches(&flow), expected, "{text}\n{flow:#?}");
        let returned = if expected { u32::MAX } else { 0 };
        assert_eq!(
            fuzzing::run_program(&program, &event),
            Some(returned),
            "{text}\n{program}"
        );
        if let Some(program) = &for_mirror {
            let lets_pass = fuzzing::run_program(program, &event) == Some(u32::MAX);
            assert!(lets_pass || !expected, "{text}\n{program}");
        }
        for _ in 0..4 {
            let place = random.index(event.len());
            event[place] = random.byte();
            for message in &MessageList::new(&event) {
                let _ = Flow::decode(&message).is_some_and(|flow| filter.matches(&flow));
            }
            let returned = fuzzing::run_program(&program, &event);
            assert!(
                matches!(returned, Some(0 | u32::MAX)),
                "{returned:?}\n{program}"
            );
        }
    }
});

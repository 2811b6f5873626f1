//! Reading any text as a filter never panics, and an error points into the text. A filter is written as text that reads
//! back as the same filter. Its program, if it is not too long, is one that an interpreter runs to its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nlring::filter::{Filter, Program, Term};
use nlring::{conntrack, fuzzing, route};
use nlring_testing::datagrams;

fuzz_target!(|text: &str| {
    check::<conntrack::Term>(text);
    check::<route::Term>(text);
});

fn check<T: Term>(text: &str) {
    let filter = match text.parse::<Filter<T>>() {
        Ok(filter) => filter,
        Err(error) => {
            assert!(text.is_char_boundary(error.position()));
            assert!(text[error.position()..].starts_with(error.found()));
            let shown = error.to_string();
            assert!(
                !shown.contains(|c: char| c.is_control() && c != '\n'),
                "{shown:?}"
            );
            return;
        }
    };
    let written = filter.to_string();
    assert_eq!(
        written.parse().as_ref(),
        Ok(&filter),
        "{text:?} as {written:?}"
    );
    // The opposite of a text that is nested as deep as it may be is nested deeper.
    let opposite = !filter.clone();
    match opposite.to_string().parse::<Filter<T>>() {
        Err(error) => assert!(
            error.expected().starts_with("at most 64 levels"),
            "{text:?}: {error}"
        ),
        reread => assert_eq!(reread.as_ref(), Ok(&opposite), "{text:?}"),
    }
    let programs = [
        filter.program(),
        filter.program_for_mirror(),
        opposite.program(),
    ];
    for program in programs.into_iter().flatten() {
        assert!((1..=Program::MAX_INSTRUCTIONS).contains(&program.instructions().len()));
        for datagram in datagrams::conntrack::ALL
            .iter()
            .chain(&datagrams::route::ALL)
        {
            let returned = fuzzing::run_program(&program, datagram);
            assert!(
                matches!(returned, Some(0 | u32::MAX)),
                "{returned:?} of {written}"
            );
        }
    }
    let _ = filter.explain();
}

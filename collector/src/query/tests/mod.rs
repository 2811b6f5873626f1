//! An answer that misses a flow says that it is not complete.

mod history;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use nlring_testing::Random;

use super::question::{Condition, Interval, Question, Term, Value};
use super::search::{Findings, search};
use crate::spool::Snapshot;

use self::history::{Flow, History};

/// Who was at this address in this time?
fn question(flow: &Flow, interval: Interval) -> Question {
    let value = Value::Text(flow.source().to_string());
    let column = "orig_src";
    Question {
        record: "flow",
        terms: vec![Term {
            alternatives: vec![vec![Condition { column, value }]],
        }],
        interval,
    }
}

fn ask(history: &History, files: &[PathBuf], question: &Question, with_spool: bool) -> Findings {
    let mut findings = search(files, question);
    if with_spool {
        let snapshot = Snapshot::open(&history.spool()).expect("a spool");
        super::spool::search(&snapshot, question, &mut findings);
    }
    findings.conclude(question);
    findings
}

/// Some of the files.
fn some(files: &[PathBuf], random: &mut Random) -> Vec<PathBuf> {
    let percent = [0, 0, 10, 30, 70][random.index(5)];
    let mut some = files.to_vec();
    some.retain(|_| !random.percent(percent));
    if random.one_in(3) && !some.is_empty() {
        some.remove(random.index(some.len()));
    }
    if random.one_in(4) {
        some.truncate(random.index(some.len() + 1));
    }
    some
}

/// How many answers had the flow and how many were complete: neither, only complete, only found, both.
fn look_at_history(seed: u64) -> [u32; 4] {
    let mut random = Random::new(seed);
    let history = History::new(seed);
    let files = history.files();
    let mut counts = [0; 4];
    for _ in 0..15 {
        let some = some(&files, &mut random);
        let with_spool = random.one_in(3);
        // Nothing tells that the clock was set back behind what the answer is made of.
        let has_end = with_spool || history.is_ended && some.last() == files.last();
        if history.was_set_back() && !has_end {
            continue;
        }
        for _ in 0..8 {
            let (flow, at) = history.flow_and_time(&mut random);
            let length_ms = [0, 0, 500, 5000][random.index(4)];
            let interval = Interval {
                from: (at - length_ms) * 1_000_000,
                until: (at + length_ms) * 1_000_000,
            };
            let findings = ask(&history, &some, &question(flow, interval), with_spool);
            let is_found = !findings.rows.is_empty();
            let is_complete = findings.is_complete();
            assert!(
                is_found || !is_complete,
                "seed {seed}: {flow:?} was there at {at}, and the answer is said to be complete. It was made of \
                 {some:#?} of {files:#?}; with the spool: {with_spool}. What happened: {:#?}",
                history.log()
            );
            counts[usize::from(is_found) * 2 + usize::from(is_complete)] += 1;
        }
    }
    counts
}

#[test]
fn an_answer_that_misses_a_flow_is_never_complete() {
    compare_histories(1..=10);
}

#[test]
#[ignore = "takes 10 minutes"]
fn an_answer_that_misses_a_flow_is_never_complete_in_500_histories() {
    compare_histories(11..=510);
}

fn compare_histories(seeds: RangeInclusive<u64>) {
    let mut counts = [0; 4];
    for seed in seeds {
        for (count, of_history) in counts.iter_mut().zip(look_at_history(seed)) {
            *count += of_history;
        }
    }
    let [neither, _, found, both] = counts;
    eprintln!("{both} found and complete, {found} only found, {neither} neither");
    let all: u32 = counts.iter().sum();
    assert!(both > all / 10, "many answers are complete: {counts:?}");
    assert!(neither > all / 10, "many files are missing: {counts:?}");
}

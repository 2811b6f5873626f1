//! Searches the files in parallel, with one thread per processor.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::coverage::Coverage;
use super::file::{Found, Part, RecordFile};
use super::losses::{Missing, loss};
use super::question::Question;
use super::rows::Rows;
use crate::failure::Failure;
use crate::record::stretch::Stretch;
use crate::spool::Position;

/// What was found in all files.
#[derive(Default)]
pub struct Findings {
    pub rows: Rows,
    pub coverage: Coverage,
    pub missing: Vec<Missing>,
    pub failures: Vec<Failure>,
    /// How many files could be read.
    pub file_count: usize,
    /// How far in the spool the files of each node go.
    pub newest: BTreeMap<String, Position>,
}

/// Searches the files for answers.
pub fn search(paths: &[PathBuf], question: &Question) -> Findings {
    let mut findings = Findings::default();
    let mut files = Vec::new();
    for opened in in_parallel(paths, |path| RecordFile::open(path, question)) {
        match opened {
            Ok(opened) => files.push(opened),
            Err(failure) => findings.failures.push(failure),
        }
    }
    findings.file_count = files.len();
    let mut divided = BTreeMap::new();
    for file in &files {
        findings.cover(file, &mut divided);
    }
    let mut losses = question.interval;
    let silence_ns = findings.coverage.longest_silence_ns();
    losses.until = losses.until.saturating_add(silence_ns);
    let tasks: Vec<(&RecordFile, &Part)> = files
        .iter()
        .flat_map(|file| file.parts(losses).map(move |part| (file, part)))
        .collect();
    let read = in_parallel(&tasks, |(file, part)| file.read(part, question, losses));
    for ((file, _), found) in tasks.iter().zip(read) {
        match found {
            Ok(found) => findings.take(file.node(), found),
            Err(failure) => findings.fail(failure),
        }
    }
    findings
}

/// Stretches whose parts are in several files, by their nodes and positions.
type Divided = BTreeMap<(String, [String; 2]), Stretch>;

impl Findings {
    /// Notes which records a file has.
    fn cover(&mut self, file: &RecordFile, divided: &mut Divided) {
        let stretches = file.stretches().unwrap_or_else(|failure| {
            self.fail(failure);
            &[]
        });
        for stretch in stretches {
            let mut whole = stretch;
            if !stretch.is_whole() {
                let place = (stretch.about.node.clone(), stretch.about.positions.clone());
                let parts = divided.entry(place).or_insert_with(|| stretch.clone());
                parts.parts.extend(&stretch.parts);
                if !parts.is_whole() {
                    continue;
                }
                whole = parts;
            }
            let node = file.node();
            match file.span(whole) {
                Ok(span) => {
                    let newest = self.newest.entry(node.to_owned()).or_default();
                    *newest = span.positions[1].max(*newest);
                    self.coverage.add(node, span);
                }
                Err(failure) => self.fail(failure),
            }
        }
    }

    fn take(&mut self, node: &str, found: Vec<Found>) {
        for Found { is_loss, batch } in found {
            if is_loss {
                let losses = (0..batch.num_rows()).map(|row| loss(node, &batch, row));
                self.missing.extend(losses);
            } else {
                self.rows.add(node, batch);
            }
        }
    }

    /// Whether nothing is missing from the answer.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.failures.is_empty() && self.file_count > 0
    }

    /// Finds out why the answer may be incomplete.
    pub fn conclude(&mut self, question: &Question) {
        let is_flow = question.record == "flow";
        let silence_ns = if is_flow {
            self.coverage.longest_silence_ns()
        } else {
            0
        };
        self.missing.retain(|missing| {
            // After a kill, flows are missing because their ends are unknown. Their events are recorded.
            let matters = is_flow || missing.reason != "killed";
            matters && missing.matters_in(question.interval, silence_ns)
        });
        self.missing.extend(self.coverage.missing(question));
        self.missing.sort();
        self.missing.dedup();
    }

    /// Notes a failure. Several parts of a file may fail for the same reason.
    pub fn fail(&mut self, failure: Failure) {
        let text = failure.to_string();
        if self.failures.iter().all(|known| known.to_string() != text) {
            self.failures.push(failure);
        }
    }
}

/// Calls a function for each item, on as many threads as there are processors. The results are in the items' order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut results = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else {
                return results;
            };
            results.push((number, work(item)));
        }
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(items.len());
    let mut results = thread::scope(|scope| {
        let threads: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut results = run();
        for thread in threads {
            results.extend(thread.join().expect("the work does not panic"));
        }
        results
    });
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

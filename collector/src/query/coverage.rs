//! The time for which the records are complete.
//!
//! The rule: a flow that existed at some time has a record at most twice `open_interval` later, or before the run of
//! nlringd ends. So an answer is complete if there are all records of the requested time and those after it, up to that
//! delay or to the end of the run. Positions in the spool tell whether a file is missing between two others.

use std::collections::BTreeMap;
use std::time::Duration;

use super::losses::Missing;
use super::question::{Interval, Question};
use crate::record::recording::Recording;
use crate::spool::Position;

/// A part of the records without a gap, such as those of a file.
#[derive(Clone, Debug)]
pub struct Span {
    /// The positions before and after it.
    pub positions: [Position; 2],
    /// The records of this time are complete; those of its beginning, together with the previous span.
    pub time: Interval,
    /// The records after this time are complete without the previous span.
    pub behind: i64,
    /// Each flow that had ended before this time is recorded. None: unknown.
    pub flows_until: Option<i64>,
    /// When runs ended with a record of each flow that still existed.
    pub ends: Vec<i64>,
    pub recording: Recording,
}

/// The spans of each node.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<String, Vec<Span>>);

/// The records of a node.
struct Node<'a> {
    name: &'a str,
    /// Runs of spans that join, in the order in which they were recorded.
    runs: Vec<Vec<&'a Span>>,
    /// The requested time. If the question leaves an end open, it is that of the records.
    asked: Interval,
    missing: Vec<Missing>,
}

impl Coverage {
    pub fn add(&mut self, node: &str, span: Span) {
        self.0.entry(node.to_owned()).or_default().push(span);
    }

    /// The time until which the records before this position are complete.
    pub fn until(&self, node: &str, position: Position) -> Option<i64> {
        let spans = self.0.get(node)?.iter();
        let last = spans.filter(|span| span.positions[1] == position);
        last.map(|span| span.time.until).max()
    }

    /// The longest time for which a flow has no record.
    pub fn longest_silence_ns(&self) -> i64 {
        let spans = self.0.values().flatten();
        let silences = spans.filter_map(|span| span.recording.longest_silence());
        ns(silences.max().unwrap_or_default())
    }

    /// Why an answer may be incomplete.
    pub fn missing(&self, question: &Question) -> Vec<Missing> {
        let nodes = self.0.iter();
        let missing = nodes.flat_map(|(name, spans)| {
            let mut node = Node::new(name, spans, question.interval);
            node.find_uncovered();
            node.find_gaps();
            node.find_other_records(question.record);
            if question.record == "flow" {
                node.find_late_records();
            }
            node.missing
        });
        missing.collect()
    }
}

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl<'a> Node<'a> {
    fn new(name: &'a str, spans: &'a [Span], asked: Interval) -> Self {
        let from = spans.iter().map(|span| span.time.from).min();
        let until = spans.iter().map(|span| span.time.until).max();
        let mut spans: Vec<_> = spans.iter().collect();
        spans.sort_unstable_by_key(|span| span.positions);
        let mut runs: Vec<Vec<&Span>> = Vec::new();
        let mut reached = Position::default();
        for span in spans {
            match runs.last_mut() {
                Some(run) if span.positions[0] <= reached => run.push(span),
                _ => runs.push(vec![span]),
            }
            reached = reached.max(span.positions[1]);
        }
        Self {
            name,
            runs,
            asked: Interval {
                from: if asked.from == i64::MIN {
                    from.unwrap_or(asked.from)
                } else {
                    asked.from
                },
                until: if asked.until == i64::MAX {
                    until.unwrap_or(asked.until)
                } else {
                    asked.until
                },
            },
            missing: Vec::new(),
        }
    }

    fn add(&mut self, since: i64, until: i64, reason: &str) {
        if since <= until {
            self.missing.push(Missing {
                node: self.name.to_owned(),
                since,
                until,
                reason: reason.to_owned(),
                count: None,
            });
        }
    }

    /// The part of the requested time that no span covers.
    fn find_uncovered(&mut self) {
        let Interval { from, until } = self.asked;
        let runs = self.runs.iter();
        let times = runs.flat_map(|run| {
            let spans = run.iter().enumerate();
            spans.map(|(number, span)| Interval {
                from: if number == 0 {
                    span.behind
                } else {
                    span.time.from
                },
                until: span.time.until,
            })
        });
        let mut times: Vec<_> = times.filter(|time| time.from <= time.until).collect();
        times.sort_unstable_by_key(|time| time.from);
        let mut behind: Option<i64> = None;
        for time in times {
            let reason = if behind.is_none() { "begin" } else { "gap" };
            // A span begins at the instant at which the one before it ends.
            let since = behind.map_or(from, |behind| from.max(behind.saturating_add(1)));
            self.add(since, until.min(time.from.saturating_sub(1)), reason);
            behind = Some(behind.map_or(time.until, |behind| behind.max(time.until)));
        }
        let since = behind.map_or(from, |behind| from.max(behind.saturating_add(1)));
        self.add(since, until, "end");
    }

    /// The time of the spans that are missing between two runs. If the clock was set back in between, it may be any
    /// time.
    fn gap(&self, run: usize) -> Option<Interval> {
        let (before, next) = (self.runs.get(run)?, self.runs.get(run + 1)?);
        let (last, next) = (before.last()?, next.first()?);
        let clock = |span: &Span| span.recording.clock_since_ns;
        if clock(last) != clock(next) {
            return Some(Interval {
                from: i64::MIN,
                until: i64::MAX,
            });
        }
        let before = before.iter().filter(|span| clock(span) == clock(last));
        let until = before.map(|span| span.time.until).max()?;
        Some(Interval {
            from: until.min(next.behind),
            until: next.behind.saturating_sub(1).max(until),
        })
    }

    /// The missing spans that may have records of the requested time, unless they have been reported already.
    fn find_gaps(&mut self) {
        for run in 0..self.runs.len() {
            let Some(gap) = self.gap(run).filter(|gap| gap.overlaps(self.asked)) else {
                continue;
            };
            let (since, until) = (
                gap.from.max(self.asked.from),
                gap.until.min(self.asked.until),
            );
            let known = self.missing.iter();
            let is_known = known
                .filter(|missing| missing.reason == "gap")
                .any(|known| known.since <= since.saturating_add(1) && until <= known.until);
            if !is_known {
                self.add(since, until, "gap");
            }
        }
    }

    /// Spans in the requested time that have no records of the requested kind.
    fn find_other_records(&mut self, record: &str) {
        let spans = self.runs.iter().flatten();
        let spans =
            spans.filter(|span| span.time.overlaps(self.asked) && !span.recording.has(record));
        let times = spans.map(|span| span.time);
        let whole = times.reduce(|whole, next| Interval {
            from: whole.from.min(next.from),
            until: whole.until.max(next.until),
        });
        if let Some(whole) = whole {
            let (since, until) = (
                whole.from.max(self.asked.from),
                whole.until.min(self.asked.until),
            );
            self.add(since, until, &format!("no_{record}s"));
        }
    }

    /// Flows that existed in the requested time, and may have no record yet where a run ends.
    fn find_late_records(&mut self) {
        let asked = self.asked;
        for number in 0..self.runs.len() {
            let run = &self.runs[number];
            let mut overlapping = run.iter().filter(|span| span.time.overlaps(asked));
            let silences = overlapping.clone();
            let silences = silences.filter_map(|span| span.recording.longest_silence());
            let Some((first, silence)) = overlapping.next().zip(silences.max()) else {
                continue;
            };
            let until = asked.until.saturating_add(ns(silence));
            let mut later = run.iter().filter(|span| span.positions >= first.positions);
            let has_all = later.any(|span| {
                span.flows_until.is_some_and(|flows| flows >= until)
                    || span.ends.iter().any(|&end| end >= asked.until)
            });
            if has_all {
                continue;
            }
            match self.gap(number) {
                Some(gap) if gap.overlaps(asked) => {}
                Some(gap) => self.add(gap.from, gap.until, "gap"),
                None => {
                    let ends = run
                        .iter()
                        .map(|span| span.flows_until.unwrap_or(span.time.from));
                    let since = ends.max().map_or(asked.until, |end| end.max(asked.until));
                    self.add(since.min(until), until, "open");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

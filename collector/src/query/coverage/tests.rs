//! What the answers about spans are. The tests of `query` compare whole histories.

use super::*;
use crate::config::Records;

/// Spans of ten positions each with these times, flows recorded up to the end.
struct Spans {
    spans: Vec<Span>,
}

impl Spans {
    fn new(times: &[(i64, i64)]) -> Self {
        let spans = times.iter().zip(0..).map(|(&(from, until), number)| Span {
            positions: [Position::begin(number), Position::begin(number + 1)],
            time: Interval { from, until },
            behind: from,
            flows_until: Some(until),
            ends: Vec::new(),
            recording: Recording {
                node: "gw".to_owned(),
                records: Records::Flows,
                routes: false,
                open_interval: Duration::from_nanos(25),
                clock_since_ns: 0,
            },
        });
        Self {
            spans: spans.collect(),
        }
    }

    /// What is missing in the asked time.
    fn missing(&self, from: i64, until: i64, record: &'static str) -> Vec<(i64, i64, String)> {
        let mut coverage = Coverage::default();
        for span in &self.spans {
            coverage.add("gw", span.clone());
        }
        let question = Question {
            record,
            terms: Vec::new(),
            interval: Interval { from, until },
        };
        let mut missing = coverage.missing(&question);
        missing.sort();
        let parts = missing.into_iter();
        parts
            .map(|missing| (missing.since, missing.until, missing.reason))
            .collect()
    }
}

fn gap(since: i64, until: i64, reason: &str) -> (i64, i64, String) {
    (since, until, reason.to_owned())
}

#[test]
fn what_no_file_covers_is_missing() {
    let mut spans = Spans::new(&[(100, 200), (200, 300), (300, 400), (400, 500)]);
    spans.spans.remove(2);
    let events = |from, until| spans.missing(from, until, "event");
    spans_of_events(&events);
}

/// Records of events are wanted where those of flows are: the spans have no events, which is said too.
fn spans_of_events(missing: &dyn Fn(i64, i64) -> Vec<(i64, i64, String)>) {
    let without_kind = |from, until| {
        let mut missing = missing(from, until);
        missing.retain(|(.., reason)| reason != "no_events");
        missing
    };
    assert_eq!(without_kind(150, 250), []);
    assert_eq!(without_kind(150, 350), [gap(301, 350, "gap")]);
    assert_eq!(without_kind(320, 330), [gap(320, 330, "gap")]);
    assert_eq!(without_kind(10, 20), [gap(10, 20, "begin")]);
    assert_eq!(without_kind(600, 700), [gap(600, 700, "end")]);
    assert_eq!(without_kind(i64::MIN, i64::MAX), [gap(301, 399, "gap")]);
    assert_eq!(
        without_kind(0, 1000),
        [
            gap(0, 99, "begin"),
            gap(301, 399, "gap"),
            gap(501, 1000, "end")
        ]
    );
    assert_eq!(missing(220, 230), [gap(220, 230, "no_events")]);
}

#[test]
fn a_flow_may_have_its_first_record_twice_the_interval_later() {
    let mut spans = Spans::new(&[(100, 200), (200, 300), (300, 400)]);
    assert_eq!(spans.missing(150, 250, "flow"), []);
    assert_eq!(spans.missing(150, 350, "flow"), []);
    assert_eq!(spans.missing(150, 351, "flow"), [gap(400, 401, "open")]);
    assert_eq!(
        spans.missing(i64::MIN, i64::MAX, "flow"),
        [gap(400, 450, "open")]
    );
    spans.spans[2].flows_until = Some(340);
    assert_eq!(
        spans.missing(150, 300, "flow"),
        [gap(340, 350, "open")],
        "the table was not repaired at the end"
    );
    spans.spans[2].ends = vec![390];
    assert_eq!(spans.missing(150, 390, "flow"), [], "all were recorded");
    assert_eq!(spans.missing(150, 391, "flow"), [gap(391, 441, "open")]);
}

#[test]
fn a_file_that_is_missing_behind_the_asked_time_may_have_the_record() {
    let mut spans = Spans::new(&[(100, 200), (200, 300), (300, 400)]);
    spans.spans.remove(1);
    assert_eq!(spans.missing(120, 150, "flow"), []);
    assert_eq!(spans.missing(120, 151, "flow"), [gap(200, 299, "gap")]);
}

#[test]
fn a_missing_file_is_found_by_positions_if_the_clock_was_set_back() {
    let mut spans = Spans::new(&[(100, 200), (200, 300), (150, 250), (250, 350), (350, 450)]);
    for span in &mut spans.spans[2..] {
        span.recording.clock_since_ns = 150;
    }
    assert_eq!(spans.missing(120, 130, "flow"), []);
    let removed = spans.spans.remove(3);
    assert_eq!(spans.missing(260, 270, "flow"), [gap(260, 270, "gap")]);
    spans.spans.insert(3, removed);
    spans.spans.remove(1);
    assert_eq!(
        spans.missing(120, 130, "flow"),
        [gap(120, 130, "gap")],
        "it may have records of any time"
    );
}

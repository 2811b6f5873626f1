//! Records that are in the spool only: no file has them yet.

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use nlring::Timestamp;

use super::column::answers;
use super::coverage::Span;
use super::losses::{loss, rows};
use super::question::{Interval, Question};
use super::search::Findings;
use crate::failure::{Failure, Result};
use crate::record::about::Notes;
use crate::record::stored::stored;
use crate::spool::{Position, Snapshot};

/// Searches a spool for answers after the newest of the files that were read. The snapshot must be older than the list
/// of files, so that each record is in one or the other.
pub fn search(snapshot: &Snapshot, question: &Question, findings: &mut Findings) {
    let Some(node) = snapshot.node() else {
        return;
    };
    let newest = findings.newest.get(&node).copied().unwrap_or_default();
    let mut begin = snapshot.begin_behind(newest);
    let mut part: Option<Part> = None;
    snapshot.read_behind(newest, |read| {
        let taken = read.and_then(|(behind, batch)| {
            let begin = begin.take().unwrap_or(Position::begin(behind.segment));
            let before = findings.coverage.until(&node, begin);
            let current = part.get_or_insert_with(|| Part::new(begin, before));
            if current.notes.differ_from(&batch) {
                current.end(&node, findings);
                *current = Part::new(current.positions[1], current.until());
            }
            current.notes.take(&batch);
            current.positions[1] = behind;
            take(&batch, &node, question, findings)
        });
        if let Err(failure) = taken {
            findings.fail(failure);
            // What follows is not contiguous with this part.
            if let Some(part) = part.take() {
                part.end(&node, findings);
            }
        }
    });
    if let Some(part) = part {
        part.end(&node, findings);
    }
    findings.file_count += 1;
}

/// A part of the spool whose batches have the same `Recording`.
struct Part {
    positions: [Position; 2],
    /// Until when the records before it are complete.
    before: Option<i64>,
    notes: Notes,
}

impl Part {
    fn new(begin: Position, before: Option<i64>) -> Self {
        Self {
            positions: [begin; 2],
            before,
            notes: Notes::default(),
        }
    }

    fn until(&self) -> Option<i64> {
        self.notes.last_mark.map(ns).or(self.before)
    }

    fn end(&self, node: &str, findings: &mut Findings) {
        let Some((until, recording)) = self.until().zip(self.notes.recording.clone()) else {
            return;
        };
        let marks = [self.before, self.notes.first_mark.map(ns)];
        let from = marks.into_iter().flatten().min();
        let from = from.map_or(until, |from| from.min(until));
        let span = Span {
            positions: self.positions,
            behind: from,
            time: Interval { from, until },
            flows_until: self.notes.mark_of_flows.map(ns),
            ends: self.notes.ends.iter().copied().map(ns).collect(),
            recording,
        };
        findings.coverage.add(node, span);
    }
}

fn take(
    batch: &RecordBatch,
    node: &str,
    question: &Question,
    findings: &mut Findings,
) -> Result<()> {
    let unreadable = |error| Failure::Other(format!("read the spool: {error}"));
    let batch = &stored(batch).map_err(unreadable)?;
    let all = Interval {
        from: i64::MIN,
        until: i64::MAX,
    };
    let losses = rows(batch, question.subject(), all);
    let losses = losses.set_indices().map(|row| loss(node, batch, row));
    findings.missing.extend(losses);
    let is_answer = BooleanArray::new(answers(batch, question), None);
    let answers = filter_record_batch(batch, &is_answer);
    findings.rows.add(node, answers.map_err(unreadable)?);
    Ok(())
}

fn ns(time: Timestamp) -> i64 {
    i64::try_from(time.as_ns()).unwrap_or(i64::MAX)
}

//! Records that are in the spool only: no file has them yet.

use std::path::Path;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use nlring::Timestamp;

use super::column::answers;
use super::losses::{loss, rows};
use super::question::{Interval, Question};
use super::search::Findings;
use crate::failure::{Failure, Result};
use crate::record::batch;
use crate::record::stored::stored;
use crate::spool::read_behind;

/// Looks for answers in the spool in this directory, behind the newest of the files that were read.
pub fn search(directory: &Path, question: &Question, findings: &mut Findings) -> Result<()> {
    let (position, node) = findings.newest.clone().unwrap_or_default();
    let mut covered: Option<Interval> = None;
    let mut outcome = Ok(());
    let is_next_there = read_behind(directory, position, |batch| {
        let taken = take(&batch, &node, question, findings);
        outcome = std::mem::replace(&mut outcome, Ok(())).and(taken);
        let span = batch::span(&batch);
        if let Some((from, until)) = span.map(|(from, until)| (ns(from), ns(until))) {
            let first = covered.map_or(from, |covered| covered.from);
            covered = Some(Interval { from: first, until });
        }
    })?;
    outcome?;
    findings.file_count += 1;
    if let Some(mut covered) = covered {
        if is_next_there && let Some(last) = findings.coverage.last(&node) {
            covered.from = covered.from.min(last);
        }
        findings.coverage.add(&node, covered);
    }
    Ok(())
}

fn take(
    batch: &RecordBatch,
    node: &str,
    question: &Question,
    findings: &mut Findings,
) -> Result<()> {
    let unreadable = |error| Failure::Other(format!("read the spool: {error}"));
    let batch = &stored(batch).map_err(unreadable)?;
    let losses = rows(batch, question.subject(), question.interval);
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

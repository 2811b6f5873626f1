//! `nlringd query`: who it was. It looks for flows in Parquet files and in the spool, and says whether the records of that
//! time are complete.

mod column;
mod file;
mod losses;
mod prefix;
mod prune;
mod question;
mod route;
mod rows;
mod search;
mod spool;
mod time;

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use self::question::Question;
use self::rows::{Rest, write_missing_json};
use self::search::{Findings, search};
use crate::args::QueryArguments;
use crate::failure::{Failure, Result};
use crate::record::Subject;

/// Something was found.
const FOUND: u8 = 0;
/// Nothing was found, and the records are complete.
const NOTHING: u8 = 1;
/// Nothing was found, but the records are not complete, or could not all be read.
const UNCERTAIN: u8 = 3;

/// Answers a question. Failures are wrong usage, and paths of which none can be read.
pub fn query(arguments: &QueryArguments) -> Result<ExitCode> {
    let question = Question::parse(arguments)?;
    let mut failures = Vec::new();
    let paths = file::find(&arguments.paths, |failure| failures.push(failure));
    let mut findings = search(&paths, &question);
    findings.failures.splice(0..0, failures);
    if let Some(directory) = &arguments.follow_spool
        && let Err(failure) = spool::search(directory, &question, &mut findings)
    {
        findings.failures.push(failure);
    }
    let coverage = std::mem::take(&mut findings.coverage);
    findings.missing.extend(coverage.missing(question.interval));
    if question.record == "event" {
        // It is about flows whose end is not known. Their events are recorded.
        findings
            .missing
            .retain(|missing| missing.reason != "killed");
    }
    findings.missing.sort();
    findings.missing.dedup();
    print(&findings, &question, arguments).or_else(|error| {
        // A reader that has read enough is no failure.
        let is_closed = error.kind() == io::ErrorKind::BrokenPipe;
        let failure = Failure::Other(format!("write the answer: {error}"));
        if is_closed { Ok(()) } else { Err(failure) }
    })?;
    let is_certain = findings.missing.is_empty() && findings.failures.is_empty();
    Ok(ExitCode::from(match findings.rows.is_empty() {
        false => FOUND,
        true if is_certain && findings.file_count > 0 => NOTHING,
        true => UNCERTAIN,
    }))
}

fn print(findings: &Findings, question: &Question, arguments: &QueryArguments) -> io::Result<()> {
    let is_json = arguments.json;
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let mut out = BufWriter::new(io::stdout().lock());
    let Rest(rest) = if is_json {
        let rest = findings.rows.write_json(limit, &mut out)?;
        for missing in &findings.missing {
            write_missing_json(missing, &mut out)?;
        }
        rest
    } else {
        findings.rows.write_table(limit, &mut out)?
    };
    out.flush()?;
    if rest > 0 {
        eprintln!("{rest} later records are not shown; a larger --limit, or none, shows them");
    }
    for failure in &findings.failures {
        eprintln!("nlringd: {failure}");
    }
    if is_json {
        return Ok(());
    }
    for missing in &findings.missing {
        eprintln!("incomplete: {}", missing.sentence());
    }
    if findings.rows.is_empty() {
        let answer = if findings.file_count == 0 {
            "no file of records was read"
        } else {
            "nothing found"
        };
        let hint = match question.subject() {
            Subject::Flows => {
                "a flow has a record when it ends, and before that about once in nlringd's open_interval"
            }
            Subject::Routes => {
                "a route has a record when it changes, and when nlringd begins; --from earlier shows more"
            }
        };
        eprintln!("{answer}; {hint}");
    }
    Ok(())
}

//! `nlringd query`: finds who used an address. It searches Parquet files and the spool for flows, and says whether the
//! records of that time are complete.

mod column;
mod coverage;
mod file;
mod find;
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

use self::find::Finder;
use self::question::Question;
use self::rows::{Rest, write_missing_json};
use self::search::{Findings, search};
use crate::args::QueryArguments;
use crate::failure::{Failure, Result};
use crate::record::Subject;
use crate::spool::Snapshot;

/// Something was found, and the records are complete.
const FOUND: u8 = 0;
/// Nothing was found, and the records are complete.
const NOTHING: u8 = 1;
/// Nothing was found, but the records are incomplete or some could not be read.
const UNCERTAIN: u8 = 3;
/// Something was found, and there may be more: the records are incomplete or some could not be read.
const FOUND_SOME: u8 = 4;

/// Answers a question. It fails for wrong usage, and if none of the paths can be read.
pub fn query(arguments: &QueryArguments) -> Result<ExitCode> {
    let question = Question::parse(arguments)?;
    // Taken before the files are listed, so that it has the records that move from the spool to a file meanwhile.
    let snapshot = arguments.follow_spool.as_deref().map(Snapshot::open);
    let finder = Finder::new(question.interval.from);
    let (paths, failures) = finder.find(&arguments.paths);
    let mut findings = search(&paths, &question);
    findings.failures.splice(0..0, failures);
    match snapshot {
        Some(Ok(snapshot)) => spool::search(&snapshot, &question, &mut findings),
        Some(Err(failure)) => findings.fail(failure),
        None => {}
    }
    findings.conclude(&question);
    print(&findings, &question, arguments).or_else(|error| {
        // It is not a failure if the reader has read enough.
        let is_closed = error.kind() == io::ErrorKind::BrokenPipe;
        let failure = Failure::Other(format!("write the answer: {error}"));
        if is_closed { Ok(()) } else { Err(failure) }
    })?;
    let is_found = !findings.rows.is_empty();
    Ok(ExitCode::from(match (is_found, findings.is_complete()) {
        (true, true) => FOUND,
        (false, true) => NOTHING,
        (false, false) => UNCERTAIN,
        (true, false) => FOUND_SOME,
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
        eprintln!("incomplete: {}", missing.sentence(question.interval));
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

#[cfg(test)]
mod tests;

//! The tour: its parts in order, and their result.

use std::process::ExitCode;
use std::time::Duration;

use super::follower::{Follower, Receiving};
use super::stage::{Colour, Stage};
use super::{burst, cost, live, mirror};
use crate::args::DemoArguments;
use crate::follow::session::give_up_all_but;
use crate::host::kept::Kept;
use crate::host::namespace;
use crate::outcome::{Failure, Outcome};
use crate::write::console::Console;

type Part = fn(&mut Stage, Receiving) -> Result<(), Failure>;

const PARTS: [Part; 4] = [live::show, burst::show, mirror::show, cost::show];

pub fn run(arguments: &DemoArguments, console: &mut Console) -> Outcome {
    show(Receiving::of(&arguments.common), console)?;
    Ok(ExitCode::SUCCESS)
}

fn show(how: Receiving, console: &mut Console) -> Result<(), Failure> {
    namespace::enter("demo")?;
    give_up_all_but(Kept::LOAD.and(Kept::RINGS), console);
    let mut stage = Stage::new();
    begin(&mut stage)?;
    for part in PARTS {
        part(&mut stage, how).map_err(explain)?;
        if stage.is_closed() {
            return Ok(());
        }
    }
    end(&mut stage, how)
}

/// Root of a private namespace may do everything that the tour does. A refusal means that this namespace has
/// restrictions.
fn explain(failure: Failure) -> Failure {
    match failure {
        Failure::Denied(text) => namespace::forbidden("demo", &text),
        failure => failure,
    }
}

fn begin(stage: &mut Stage) -> Result<(), Failure> {
    let kernel = rustix::system::uname();
    stage.say(&format!(
        "nlring receives what the Linux kernel reports about connections and routes, and knows exactly what was lost. \
         This tour takes about 8 seconds. Its events are real events of this kernel ({}), made in a private network \
         namespace: nothing on this machine changes.",
        kernel.release().to_string_lossy()
    ))
}

fn end(stage: &mut Stage, how: Receiving) -> Result<(), Failure> {
    let backend = Follower::start(how.engine()?)?.backend();
    stage.pause(Duration::from_millis(500));
    let verdict = verdict(stage.failed_count());
    match &verdict {
        Ok(text) => stage.result(text, Colour::Green)?,
        Err(text) => stage.result(text, Colour::Red)?,
    }
    stage.say(&format!("Received with the backend {backend}."))?;
    stage.say("What to try next:")?;
    for line in [
        "nlring doctor            whether events can be received here",
        "sudo nlring conntrack    follow this machine's connections",
        "nlring route             follow this machine's routes",
        "nlring --help            the other commands",
    ] {
        stage.example(line)?;
    }
    verdict
        .map(drop)
        .map_err(|text| Failure::Other(format!("demo: {text} See above.")))
}

/// The result of all checks.
fn verdict(failed_count: u32) -> Result<String, String> {
    match failed_count {
        0 => Ok("All checks are OK.".to_owned()),
        1 => Err("A check has FAILED.".to_owned()),
        _ => Err(format!("{failed_count} checks have FAILED.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_fails_is_counted_and_fails_the_whole() {
        let mut stage = Stage::new();
        stage.check(true, "1 = 1").unwrap();
        assert!(verdict(stage.failed_count()).is_ok());
        stage.check(false, "1 = 2").unwrap();
        stage.check(false, "1 = 3").unwrap();
        assert_eq!(
            verdict(stage.failed_count()),
            Err("2 checks have FAILED.".to_owned())
        );
    }
}

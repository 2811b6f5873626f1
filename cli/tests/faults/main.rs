//! Each system call of the command fails, one at a time, while events flow: no failure makes it hang, panic, or report
//! a wrong count, and its message names what failed.
//!
//! `scripts/faults` runs all of this and prints a table. The test that runs with all others is the quick form.

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod scenario;
mod trace;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{Directory, Ended, own_namespace, run, skip};
use scenario::{Kind, Outcome, QUICK_COUNT, SCENARIOS, Scenario};
use trace::Trace;

/// One failure in one run.
struct Case {
    scenario: &'static Scenario,
    event_count: u32,
    call: &'static str,
    error: &'static str,
    /// Which call fails.
    number: u32,
    /// Whether the command must survive the failure.
    is_survived: bool,
    words: &'static [&'static str],
}

/// How thorough a run is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One call of each name fails, with one error.
    Quick,
    /// The chosen calls of each name fail: those of receiving with all of their errors, the others with one.
    Full,
}

/// Enough for ten calls of each kind that receives or writes.
const FEW: u32 = 24;
/// Enough for a hundred.
const MANY: u32 = 220;

#[test]
fn a_failure_of_each_call_is_survived_or_reported() {
    test(
        "a_failure_of_each_call_is_survived_or_reported",
        Form::Quick,
    );
}

#[test]
#[ignore = "takes minutes: scripts/faults"]
fn every_failure_of_each_call_is_survived_or_reported() {
    test(
        "every_failure_of_each_call_is_survived_or_reported",
        Form::Full,
    );
}

fn test(name: &str, form: Form) {
    let traces = run("strace", &["-D", "-f", "--seccomp-bpf", "true"]);
    if !traces.is_some_and(|output| output.status.success()) {
        return skip(name, "no strace, or it may not trace here");
    }
    let mut cases = Vec::new();
    let mut unknown = Vec::new();
    for scenario in form.scenarios() {
        for event_count in form.event_counts(scenario) {
            let trace = record(scenario, event_count);
            unknown.extend(unknown_calls(&trace));
            cases.extend(form.cases(scenario, event_count, &trace));
        }
    }
    unknown.sort();
    unknown.dedup();
    let results = run_all(&cases);
    println!("{}", table(&cases, &results));
    let failed: Vec<&String> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    for failure in &failed {
        println!("{failure}\n");
    }
    println!(
        "{} passed, {} failed",
        results.len() - failed.len(),
        failed.len()
    );
    assert!(
        unknown.is_empty(),
        "no case covers these calls; add them to calls.rs: {unknown:?}"
    );
    assert!(
        failed.is_empty(),
        "{} of {} failed",
        failed.len(),
        results.len()
    );
}

/// Runs a scenario without failures, and records its system calls.
fn record(scenario: &Scenario, event_count: u32) -> Trace {
    let directory = Directory::new();
    let file = directory.file("trace");
    own_namespace();
    scenario.prepare();
    let launcher = format!("strace -D -f -yy -qq -o {file}");
    let outcome = scenario
        .run(&launcher, event_count)
        .expect("a run without failures");
    assert_eq!(outcome.ended.code, Some(0), "{outcome:#?}");
    judge_counts(scenario, &outcome).expect("right counts without failures");
    Trace::read(directory.0.join("trace").as_path())
}

fn unknown_calls(trace: &Trace) -> Vec<String> {
    let names = trace.names().filter(|name| calls::find(name).is_none());
    names.map(str::to_owned).collect()
}

impl Form {
    fn scenarios(self) -> &'static [Scenario] {
        match self {
            Self::Quick => &SCENARIOS[..QUICK_COUNT],
            Self::Full => SCENARIOS,
        }
    }

    /// How many events a run has.
    fn event_counts(self, scenario: &Scenario) -> Vec<u32> {
        match self {
            Self::Full if scenario.kind != Kind::List => vec![FEW, MANY],
            _ => vec![FEW],
        }
    }

    fn cases(self, scenario: &'static Scenario, event_count: u32, trace: &Trace) -> Vec<Case> {
        let mut cases = Vec::new();
        for (turn, call) in calls::CALLS.iter().enumerate() {
            let calls::Faults::Injected {
                survived,
                others,
                words,
            } = call.faults
            else {
                continue;
            };
            let errors: Vec<&'static str> = survived.iter().chain(others).copied().collect();
            let mut numbers = if event_count == MANY {
                trace.hundredth(call.name)
            } else {
                trace.chosen(call.name)
            };
            if self == Self::Quick {
                numbers.truncate(1);
            }
            for (place, number) in numbers.into_iter().enumerate() {
                let is_running = trace.is_running(call.name, number);
                let has_all = self == Self::Full && calls::RECEIVING.contains(&call.name);
                let count = if has_all { errors.len() } else { 1 };
                // Over all scenarios each error has its turn.
                let first = turn + place + scenario.arguments.len();
                for &error in errors.iter().cycle().skip(first % errors.len()).take(count) {
                    cases.push(Case {
                        scenario,
                        event_count,
                        call: call.name,
                        error,
                        number,
                        is_survived: is_running && survived.contains(&error),
                        words,
                    });
                }
            }
        }
        cases
    }
}

/// Runs the cases in as many threads as there are CPUs.
fn run_all(cases: &[Case]) -> Vec<Result<(), String>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { break };
                    let result = case.run();
                    results.lock().expect("results").insert(index, result);
                }
            });
        }
    });
    results
        .into_inner()
        .expect("results")
        .into_values()
        .collect()
}

impl Case {
    fn run(&self) -> Result<(), String> {
        let Self {
            call,
            error,
            number,
            ..
        } = self;
        let launcher = format!(
            "strace -D -f --seccomp-bpf -qq -e trace={call} \
             -e inject={call}:error={error}:when={number} -o /dev/null"
        );
        let what = format!(
            "{}: {call} number {number} gives {error}",
            self.scenario.arguments
        );
        own_namespace();
        self.scenario.prepare();
        let outcome = self.scenario.run(&launcher, self.event_count);
        let outcome = outcome.map_err(|hang| format!("{what}: {hang}"))?;
        if std::env::var_os("NLRING_FAULTS_SHOW").is_some() {
            let failures = outcome.ended.failures();
            println!("{what}: {:?} {failures:?}", outcome.ended.code);
        }
        self.judge(&outcome)
            .map_err(|wrong| format!("{what}: {wrong}: {outcome:#?}"))
    }

    fn judge(&self, outcome: &Outcome) -> Result<(), String> {
        let ended = &outcome.ended;
        if ended.errors.contains("panicked") {
            return Err("it panics".to_owned());
        }
        match ended.code {
            Some(0) => judge_counts(self.scenario, outcome),
            Some(1) if self.is_survived => Err("it does not survive".to_owned()),
            Some(1) => {
                self.judge_message(&ended.failures())?;
                judge_counts_until_failure(self.scenario, outcome)
            }
            code => Err(format!("it ends with {code:?}")),
        }
    }

    /// The message names the call, or what it was for.
    fn judge_message(&self, failures: &[&str]) -> Result<(), String> {
        let names = |failure: &&str| {
            failure.contains(self.call) || self.words.iter().any(|word| failure.contains(word))
        };
        if failures.iter().any(names) {
            return Ok(());
        }
        Err("no message names what failed".to_owned())
    }
}

/// How many events the statistics account for.
fn counted(ended: &Ended) -> u64 {
    let sum = ["received", "dropped", "unread"].map(|name| ended.stats[name].as_u64().unwrap_or(0));
    let requests = ended.stats["requests"].as_u64().unwrap_or(0);
    sum.iter().sum::<u64>().saturating_sub(requests)
}

/// After a failure each event until then is accounted for, if the statistics are written. The last event may have come
/// when the command had left its groups: then it was not sent to them.
fn judge_counts_until_failure(scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
    let Outcome { ended, offered, .. } = outcome;
    let is_written = ended.stats.is_object() && !ended.errors.contains("--stats");
    if scenario.kind == Kind::List || !is_written {
        return Ok(());
    }
    let counted = counted(ended);
    let is_right = (counted..=counted + 1).contains(offered);
    if is_right || counted < *offered && ended.stats["unread_is_incomplete"] == true {
        return Ok(());
    }
    Err(format!(
        "{counted} events are counted until the failure, {offered} were sent"
    ))
}

/// After a good end each event is accounted for.
fn judge_counts(scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
    let ended = &outcome.ended;
    if scenario.kind == Kind::List {
        let count = ended.event_count();
        return if count >= 3 {
            Ok(())
        } else {
            Err(format!("{count} entries"))
        };
    }
    let counted = counted(ended);
    if counted != outcome.offered {
        return Err(format!(
            "{counted} events are counted, {} were sent",
            outcome.offered
        ));
    }
    if scenario.kind == Kind::Mirror && outcome.table_lines.is_some_and(|lines| lines < 3) {
        return Err("the table lacks entries".to_owned());
    }
    Ok(())
}

/// The results by call: in how many cases the command went on or reported the failure, and how many failed.
fn table(cases: &[Case], results: &[Result<(), String>]) -> String {
    let mut rows: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (case, result) in cases.iter().zip(results) {
        let row = rows.entry(case.call).or_default();
        match result {
            Ok(()) => row.0 += 1,
            Err(_) => row.1 += 1,
        }
    }
    let mut text = format!("{:<20} {:>7} {:>7}\n", "call", "passed", "failed");
    for (call, (passed, failed)) in rows {
        _ = writeln!(text, "{call:<20} {passed:>7} {failed:>7}");
    }
    for call in calls::CALLS {
        if let calls::Faults::Left(reason) = call.faults {
            _ = writeln!(text, "{:<20} left: {reason}", call.name);
        }
    }
    text
}

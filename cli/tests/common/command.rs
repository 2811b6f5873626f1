//! The real binary: before it runs, while it runs, and after its end.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Directory, Groups, await_that, run, text_of, whole_lines};

pub const NLRING: &str = env!("CARGO_BIN_EXE_nlring");

/// The command, before it runs. Its output and its statistics go to files, unless the arguments say otherwise.
pub struct Run {
    pub command: Command,
    directory: Directory,
    output: PathBuf,
    stats: PathBuf,
    groups: Groups,
}

impl Run {
    /// The command with these arguments, which are separated by spaces.
    pub fn new(arguments: &str) -> Self {
        Self::under("", arguments)
    }

    /// The command, started by another program, which then becomes nlring.
    pub fn under(launcher: &str, arguments: &str) -> Self {
        let directory = Directory::new();
        let words = launcher.split_whitespace().chain([NLRING]);
        let mut words = words.chain(arguments.split_whitespace());
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words);
        let mut file = |option: &str, name: &str| {
            let mut words = arguments.split_whitespace();
            if words.any(|word| word == option) {
                return PathBuf::from(words.next().unwrap_or_default());
            }
            let file = directory.0.join(name);
            command.arg(option).arg(&file);
            file
        };
        let output = file("--output", "output");
        let stats = if arguments.contains("--once") {
            PathBuf::new() // a list has none
        } else {
            file("--stats", "stats")
        };
        Self {
            groups: Groups::wanted(arguments),
            command,
            output,
            stats,
            directory,
        }
    }

    /// With further arguments, which may have spaces.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Runs it without waiting for anything.
    pub fn spawn(self) -> Follower {
        let errors = File::create(self.errors_file()).expect("a file");
        self.spawn_with_errors(errors)
    }

    fn errors_file(&self) -> PathBuf {
        self.directory.0.join("errors")
    }

    fn spawn_with_errors(mut self, errors: File) -> Follower {
        self.command.stdin(Stdio::null()).stderr(errors);
        let started = Instant::now();
        let child = self.command.spawn().expect("nlring runs");
        Follower {
            child,
            errors: self.errors_file(),
            output: self.output,
            stats: self.stats,
            started,
            _directory: self.directory,
        }
    }

    /// Runs it, and waits until it listens.
    pub fn start(self) -> Follower {
        let errors = File::create(self.errors_file()).expect("a file");
        self.start_with_errors(errors)
    }

    /// Runs the command with this file as its standard error, and waits until it listens.
    pub fn start_with_errors(self, errors: File) -> Follower {
        let groups = self.groups;
        let mut follower = self.spawn_with_errors(errors);
        await_that("nlring listens", || {
            let ended = follower.child.try_wait().expect("its status");
            assert!(ended.is_none(), "{ended:?}: {}", follower.errors());
            groups.are_joined_by(follower.child.id())
        });
        follower
    }

    /// Runs it to its end.
    pub fn run_to_end(self) -> Ended {
        self.spawn().wait()
    }
}

/// The command, running.
pub struct Follower {
    pub child: Child,
    pub output: PathBuf,
    stats: PathBuf,
    errors: PathBuf,
    started: Instant,
    _directory: Directory,
}

impl Follower {
    pub fn start(arguments: &str) -> Self {
        Run::new(arguments).start()
    }

    pub fn errors(&self) -> String {
        text_of(&self.errors)
    }

    /// The whole lines that the command has written so far.
    pub fn lines(&self) -> Vec<String> {
        whole_lines(&self.output)
    }

    #[track_caller]
    pub fn await_lines(&self, count: usize) {
        let wanted = format!("{count} lines");
        await_that(&wanted, || self.lines().len() >= count);
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process ID");
        let id = Pid::from_raw(id).expect("a process ID");
        kill_process(id, signal).expect("a signal sent");
    }

    /// Stops the process. From then on the kernel drops what its receive buffer does not hold.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        await_that("the process stops", || self.state() == Some('T'));
    }

    /// The process's state: S is sleeping, T is stopped (proc_pid_stat(5)).
    pub fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("its status");
        stat.rsplit(") ").next()?.chars().next()
    }

    /// The CPU time of all its threads until now (Documentation/scheduler/sched-stats.rst).
    pub fn cpu_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let threads = threads.expect("its threads").map(|thread| {
            let path = thread.expect("a thread").path().join("schedstat");
            let text = fs::read_to_string(path).unwrap_or_default(); // it may have ended
            let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
            Duration::from_nanos(nanoseconds.unwrap_or(0))
        });
        threads.sum()
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the command as Ctrl-C does.
    pub fn end(self) -> Ended {
        self.end_by(Signal::INT)
    }

    /// Ends the command by a signal, from which its time to the end counts.
    pub fn end_by(mut self, signal: Signal) -> Ended {
        self.started = Instant::now();
        self.signal(signal);
        self.wait()
    }

    /// Waits for the end of the command.
    pub fn wait(mut self) -> Ended {
        let mut code = None;
        await_that("nlring ends", || {
            let status = self.child.try_wait().expect("its status");
            code = status.and_then(|status| status.code());
            status.is_some()
        });
        let took = self.started.elapsed();
        let stats = text_of(&self.stats);
        Ended {
            code,
            took,
            errors: self.errors(),
            output: text_of(&self.output),
            stats: serde_json::from_str(&stats).unwrap_or(Value::Null),
        }
    }

    /// Restarts the measurement of the time to the end.
    pub fn count_time(&mut self) {
        self.started = Instant::now();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command after its end.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub took: Duration,
    pub errors: String,
    pub output: String,
    /// The statistics. Null: there are none.
    pub stats: Value,
}

impl Ended {
    /// A number of the statistics.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let number = self.stats[name].as_u64();
        number.unwrap_or_else(|| panic!("{name} is a number: {self:#?}"))
    }

    /// A number of the summary.
    #[track_caller]
    pub fn summary(&self, name: &str) -> u64 {
        let number = self.errors.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?.strip_prefix(": ")?;
            rest.split(' ').next()?.parse().ok()
        });
        number.unwrap_or_else(|| panic!("{name} is in the summary: {self:#?}"))
    }

    /// Lines of events.
    pub fn event_count(&self) -> u64 {
        self.output.lines().filter(|line| !is_gap(line)).count() as u64
    }

    /// How many datagrams the last line reports as unread; 0 if it reports none.
    pub fn reported_unread(&self) -> u64 {
        let last = self.output.lines().last().unwrap_or_default();
        let count = last.strip_prefix(" [UNREAD] ");
        count.map_or(0, |rest| {
            let count = rest.split(' ').next().expect("a word");
            count.parse().expect("a count")
        })
    }

    pub fn losses(&self) -> Vec<Lost> {
        let lines = self.output.lines().filter(|line| is_loss(line));
        lines.map(Lost::parse).collect()
    }

    /// What the command reports as wrong.
    pub fn failures(&self) -> Vec<&str> {
        let lines = self.errors.lines();
        let reported = lines.filter(|line| line.starts_with("nlring: "));
        reported
            .filter(|line| !line.starts_with("nlring: warning: "))
            .collect()
    }

    /// Asserts a good end: no error, a summary that agrees with the statistics, and every line written.
    #[track_caller]
    pub fn assert_good(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert_eq!(self.failures(), [""; 0]);
        for (reported, stat) in [
            ("events", "events"),
            ("received", "received"),
            ("lost", "dropped"),
        ] {
            assert_eq!(self.summary(reported), self.stat(stat), "{self:#?}");
        }
    }
}

/// A line that reports a loss.
#[derive(Debug)]
pub struct Lost {
    pub count: u64,
    pub since: jiff::Timestamp,
    pub until: jiff::Timestamp,
}

fn is_loss(line: &str) -> bool {
    line.starts_with(" [LOST] ")
}

/// Whether the line reports something missing, for any reason, and is no event.
fn is_gap(line: &str) -> bool {
    let names = [
        "LOST",
        "DELAYED",
        "TRUNCATED",
        "MALFORMED",
        "MISSING",
        "UNREAD",
        "SAMPLING",
    ];
    let name = line
        .strip_prefix(" [")
        .and_then(|rest| rest.split_once(']'));
    name.is_some_and(|(name, _)| names.contains(&name))
}

impl Lost {
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [
            "",
            "[LOST]",
            count,
            "datagrams",
            "between",
            since,
            "and",
            until,
        ] = words[..]
        else {
            panic!("a loss: {line:?}");
        };
        let time = |text: &str| {
            assert!(text.contains('T') && text.ends_with('Z'), "UTC: {text}");
            text.parse().expect("RFC 3339")
        };
        Self {
            count: count.parse().expect("a count"),
            since: time(since),
            until: time(until),
        }
    }
}

/// What the command says to these arguments: its exit code, output and errors.
pub fn say(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(NLRING, arguments).expect("nlring runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

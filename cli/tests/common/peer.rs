//! Other programs that follow the same events.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Directory, Events, Groups, await_that, whole_lines};

/// Another program that follows the same events.
pub struct Peer {
    child: Child,
    output: PathBuf,
    _directory: Directory,
}

impl Peer {
    /// Starts a program that follows these events, and waits until it listens. None: it is not installed.
    pub fn start(events: Events, line: &str) -> Option<Self> {
        Self::start_in(Groups::of(events), line)
    }

    /// Starts a program that joins these groups, and waits until it listens. None: it is not installed.
    pub fn start_in(groups: Groups, line: &str) -> Option<Self> {
        let directory = Directory::new();
        let output = directory.0.join("output");
        let mut words = line.split_whitespace();
        let before = groups.listeners();
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .stderr(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("{line}: {error}"),
        };
        let peer = Self {
            child,
            output,
            _directory: directory,
        };
        await_that("the peer listens", || groups.has_more_than(&before));
        // ip dumps the devices on the same socket then, and ignores events until the end of the dump.
        await_that("the peer waits for events", || peer.sleeps());
        Some(peer)
    }

    pub fn lines(&self) -> Vec<String> {
        whole_lines(&self.output)
    }

    /// Whether the program sleeps. If nothing waits in its sockets either, it has written all that it will write.
    pub fn sleeps(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("its status");
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('S'))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a line with the mark, and returns all lines up to the last such line.
#[track_caller]
pub fn lines_until(mark: &str, lines: impl Fn() -> Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    await_that(&format!("a line with {mark:?}"), || {
        found = lines();
        found.iter().any(|line| line.contains(mark))
    });
    let last = found.iter().rposition(|line| line.contains(mark));
    found.truncate(last.map_or(0, |last| last + 1));
    found
}

/// Asserts that two programs wrote the same lines. The failure shows the first difference.
#[track_caller]
pub fn assert_same_lines(ours: &[String], theirs: &[String]) {
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours, theirs, "line {index}");
    }
    assert_eq!(ours.len(), theirs.len(), "{ours:#?}\n{theirs:#?}");
}

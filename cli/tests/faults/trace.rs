//! Which system calls a run made, by strace's own record.

use std::collections::BTreeMap;
use std::path::Path;

/// How often each system call was made by a thread.
#[derive(Debug, Default)]
pub struct Calls {
    /// Before the command's own code began.
    before_count: u32,
    /// Until the command had joined its groups.
    start_count: u32,
    count: u32,
    /// Those that may fail, by [`is_chosen`].
    chosen: Vec<u32>,
}

/// A run's system calls, by name.
#[derive(Debug, Default)]
pub struct Trace(BTreeMap<String, Calls>);

/// The runtime makes this call last before it calls `main`.
const BEGIN: (&str, &str) = ("rt_sigaction", "SIGPIPE");
/// After the last call of this kind the command receives.
const LISTENS: (&str, &str) = ("setsockopt", "NETLINK_ADD_MEMBERSHIP");

impl Trace {
    /// Reads the file of `strace -f -o FILE`.
    pub fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("strace's record");
        let is = |line: &Line<'_>, mark: (&str, &str)| {
            line.name == mark.0 && line.arguments.contains(mark.1)
        };
        let lines: Vec<Line<'_>> = text.lines().filter_map(Line::parse).collect();
        let main = lines.first().map_or("", |line| line.thread);
        let begin = lines.iter().position(|line| is(line, BEGIN)).unwrap_or(0);
        let listens = lines.iter().rposition(|line| is(line, LISTENS));
        let listens = listens.unwrap_or(0);
        let mut calls: BTreeMap<(&str, &str), Calls> = BTreeMap::new();
        for (place, line) in lines.iter().enumerate() {
            let calls = calls.entry((line.name, line.thread)).or_default();
            calls.count += 1;
            if line.thread == main && place <= begin {
                calls.before_count = calls.count;
            }
            if line.thread == main && place <= listens {
                calls.start_count = calls.count;
            }
            if is_chosen(line) {
                calls.chosen.push(calls.count);
            }
        }
        let mut trace = Self::default();
        // Each thread counts for itself. The thread that makes a call most often decides.
        for ((name, _), calls) in calls {
            let known = trace.0.entry(name.to_owned()).or_default();
            if calls.count > known.count {
                *known = calls;
            }
        }
        trace
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Which of the calls with this name fail, one in each run: the first, second and tenth after it listens, those of
    /// the whole run, and the last. They count from the thread's first call.
    pub fn chosen(&self, name: &str) -> Vec<u32> {
        let Some(calls) = self.0.get(name) else {
            return Vec::new();
        };
        let starts = [
            calls.start_count.max(calls.before_count),
            calls.before_count,
        ];
        let after = |start: u32| {
            let mut numbers = calls.chosen.iter().filter(move |&&number| number > start);
            [0, 0, 7].map(|skipped| numbers.nth(skipped).copied()) // the first, second and tenth
        };
        let mut chosen = Vec::new();
        for number in starts
            .into_iter()
            .flat_map(after)
            .flatten()
            .chain(calls.chosen.last().copied())
        {
            if number > calls.before_count && !chosen.contains(&number) {
                chosen.push(number);
            }
        }
        chosen
    }

    /// The hundredth call after it listens, if there are a hundred.
    pub fn hundredth(&self, name: &str) -> Vec<u32> {
        let calls = self.0.get(name);
        let number = calls.and_then(|calls| {
            let mut later = calls
                .chosen
                .iter()
                .filter(|&&number| number > calls.start_count);
            later.nth(99).copied()
        });
        number.into_iter().collect()
    }

    /// Whether the command has joined its groups when it makes the call with this number.
    pub fn is_running(&self, name: &str, number: u32) -> bool {
        let calls = self.0.get(name);
        calls.is_some_and(|calls| number > calls.start_count)
    }
}

/// Whether a call may fail. Of mappings, those of a ring: the allocator makes the others. Of messages, those of
/// netlink: the handlers of signals exchange the others, through a pair of sockets that fails only when it is full. Of descriptors,
/// those of no list of names: no file system lets closing a directory fail, and the standard library panics then.
fn is_chosen(line: &Line<'_>) -> bool {
    match line.name {
        "mmap" => line.arguments.contains("MAP_SHARED"),
        "close" => !line.arguments.contains(".d>"),
        "sendto" | "recvfrom" => line.arguments.contains("<NETLINK:"),
        _ => true,
    }
}

/// The start of a system call.
struct Line<'a> {
    thread: &'a str,
    name: &'a str,
    arguments: &'a str,
}

impl<'a> Line<'a> {
    /// `None`: it is the end of a call, a signal or an exit.
    fn parse(line: &'a str) -> Option<Self> {
        let (thread, call) = line.split_once(' ')?;
        let (name, arguments) = call.trim_start().split_once('(')?;
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        name.chars().all(is_name).then_some(Self {
            thread,
            name,
            arguments,
        })
    }
}

//! A run of the command with a known number of events, while a system call fails.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{
    Directory, Ended, Events, Follower, Groups, Run, make_flows, make_routes, remove_flows,
    remove_routes,
};

/// What runs.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub arguments: &'static str,
    pub events: Events,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines of events.
    Follow,
    /// A mirror, which writes its table.
    Mirror,
    /// The list of what exists.
    List,
}

const fn scenario(arguments: &'static str, events: Events, kind: Kind) -> Scenario {
    Scenario {
        arguments,
        events,
        kind,
    }
}

/// The first of these have every backend, a mirror of each kind and a list.
pub const QUICK_COUNT: usize = 6;

pub const SCENARIOS: &[Scenario] = &[
    scenario("route --backend multishot", Events::Route, Kind::Follow),
    scenario(
        "conntrack --backend oneshot",
        Events::Conntrack,
        Kind::Follow,
    ),
    scenario(
        "route --backend recvmmsg --json",
        Events::Route,
        Kind::Follow,
    ),
    scenario(
        "conntrack --backend multishot --mirror",
        Events::Conntrack,
        Kind::Mirror,
    ),
    scenario(
        "route --backend recvmmsg --mirror",
        Events::Route,
        Kind::Mirror,
    ),
    scenario("route --snapshot --once", Events::Route, Kind::List),
    scenario("conntrack --snapshot --once", Events::Conntrack, Kind::List),
    scenario(
        "conntrack --backend multishot --json",
        Events::Conntrack,
        Kind::Follow,
    ),
    scenario("route --backend oneshot", Events::Route, Kind::Follow),
    scenario(
        "conntrack --backend recvmmsg",
        Events::Conntrack,
        Kind::Follow,
    ),
    scenario("monitor --backend multishot", Events::Route, Kind::Follow),
];

/// How long the command may take for one step, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// How many entries there are from the beginning to the end.
const KEPT: u32 = 3;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub ended: Ended,
    /// How many events the kernel sent to the command's groups.
    pub offered: u64,
    /// How many lines --table has.
    pub table_lines: Option<usize>,
}

impl Scenario {
    /// Makes the entries that stay, in this thread's namespace.
    pub fn prepare(&self) {
        self.make(0..KEPT);
    }

    fn make(&self, numbers: std::ops::Range<u32>) {
        match self.events {
            Events::Conntrack => make_flows(numbers),
            Events::Route => make_routes(numbers),
        }
    }

    fn remove(&self, numbers: std::ops::Range<u32>) {
        match self.events {
            Events::Conntrack => remove_flows(numbers),
            Events::Route => remove_routes(numbers),
        }
    }

    /// Runs the command under a launcher while `event_count` events are made one by one.
    pub fn run(&self, launcher: &str, event_count: u32) -> Result<Outcome, String> {
        let directory = Directory::new();
        let table = directory.file("table");
        let mut run = Run::under(launcher, self.arguments);
        if self.kind == Kind::Mirror {
            run.command.args(["--table", &table]);
        }
        let groups = Groups::of(self.events);
        let mut follower = run.spawn();
        let mut offered = 0;
        if self.kind != Kind::List {
            let listens = |follower: &Follower| groups.are_joined_by(follower.child.id());
            if await_or_end(&mut follower, "it listens", listens)? {
                offered = self.make_events(&mut follower, event_count)?;
            }
            if is_running(&mut follower) {
                follower.signal(Signal::INT);
            }
        }
        await_or_end(&mut follower, "it ends", |_| false)?;
        let table_lines = std::fs::read_to_string(Path::new(&table))
            .ok()
            .map(|text| text.lines().count());
        Ok(Outcome {
            ended: follower.wait(),
            offered,
            table_lines,
        })
    }

    /// Makes events until there are enough, or the command has ended.
    fn make_events(&self, follower: &mut Follower, event_count: u32) -> Result<u64, String> {
        let before = event_line_count(follower);
        let mut offered = 0;
        for number in KEPT..KEPT + event_count / 2 {
            for change in [Self::make, Self::remove] {
                change(self, number..number + 1);
                offered += 1;
                let wanted = before + usize::try_from(offered).expect("few");
                let what = format!("event {offered} has a line");
                let has_line = |follower: &Follower| event_line_count(follower) >= wanted;
                if !await_or_end(follower, &what, has_line)? {
                    return Ok(offered);
                }
            }
            if number == KEPT + event_count / 4 {
                follower.signal(Signal::HUP); // opens the output again
                follower.signal(Signal::USR1); // writes the statistics and the table
            }
        }
        Ok(offered)
    }
}

/// How many lines are those of events. The others report what is missing, or what the mirror has done.
fn event_line_count(follower: &Follower) -> usize {
    const OTHERS: [&str; 5] = [
        " [RESYNCED]",
        " [UNREAD]",
        " [MISSING]",
        r#"{"event":"unread""#,
        r#"{"event":"missing""#,
    ];
    let is_event = |line: &&String| !OTHERS.iter().any(|other| line.starts_with(other));
    follower.lines().iter().filter(is_event).count()
}

fn is_running(follower: &mut Follower) -> bool {
    matches!(follower.child.try_wait(), Ok(None))
}

/// Waits until something holds, or the command has ended: then the result is false.
fn await_or_end(
    follower: &mut Follower,
    what: &str,
    holds: impl Fn(&Follower) -> bool,
) -> Result<bool, String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if holds(follower) {
            return Ok(true);
        }
        if !is_running(follower) {
            return Ok(false);
        }
        if Instant::now() > deadline {
            return Err(format!(
                "hangs: not in {LIMIT:?}: {what}: {}",
                follower.errors()
            ));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

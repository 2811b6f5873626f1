//! Measures how late each event arrives and what receiving costs, from the end of the warm-up on.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use nlring::conntrack::Flow;
use nlring::latency::Recorder;
use nlring::{Message, Timestamp};
use serde::Serialize;

use super::plan::Setting;
use super::usage::Usage;
use crate::args::SourceKind;
use crate::load::{self, Schedule};
use crate::outcome::Failure;

/// Which clock says when an event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The kernel's time in the event (`CTA_TIMESTAMP_EVENT`, `CLOCK_REALTIME`).
    Kernel,
    /// The time when the event was due by the schedule (`CLOCK_MONOTONIC`).
    Schedule,
    /// The time when the generator sent it, if there is no rate (`CLOCK_MONOTONIC`).
    Sender,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "since the kernel's time in the event (CLOCK_REALTIME)",
            Self::Schedule => "since it was due (CLOCK_MONOTONIC)",
            Self::Sender => "since it was sent (CLOCK_MONOTONIC)",
        })
    }
}

/// What a meter has counted after the warm-up.
#[derive(Debug)]
pub struct Measured {
    pub clock: Option<Clock>,
    /// Events without a time to measure from.
    pub untimed: u64,
    /// Events until the end was requested. The recorder also has those that were delivered later.
    pub count: u64,
    pub time: Duration,
    pub usage: Usage,
}

pub struct Meter<'a> {
    setting: Setting,
    warmup: Duration,
    /// Set before the first event is made.
    schedule: &'a OnceLock<Schedule>,
    begun: Option<Begun>,
    seen: u64,
    recorder: Recorder,
    measured: Measured,
}

struct Begun {
    at_ns: u64,
    usage: Usage,
}

impl<'a> Meter<'a> {
    pub fn new(setting: Setting, warmup: Duration, schedule: &'a OnceLock<Schedule>) -> Self {
        Self {
            setting,
            warmup,
            schedule,
            begun: None,
            seen: 0,
            recorder: Recorder::new(),
            measured: Measured {
                clock: None,
                untimed: 0,
                count: 0,
                time: Duration::ZERO,
                usage: Usage::default(),
            },
        }
    }

    /// Starts measuring if the warm-up is over. The receiver calls it before each wait.
    pub fn before_wait(&mut self) -> Result<(), Failure> {
        if self.begun.is_none() && self.is_warm() {
            self.begun = Some(Begun {
                usage: usage()?,
                at_ns: load::monotonic_now_ns(),
            });
        }
        Ok(())
    }

    fn is_warm(&self) -> bool {
        let since_start_ns =
            |schedule: &Schedule| load::monotonic_now_ns().checked_sub(schedule.start_ns());
        let since_start_ns = self.schedule.get().and_then(since_start_ns);
        since_start_ns.is_some_and(|ns| Duration::from_nanos(ns) >= self.warmup)
    }

    /// Records an event that arrived now.
    pub fn record(&mut self, message: &Message<'_>) {
        if self.begun.is_none() {
            return;
        }
        self.seen += 1;
        let Some((clock, at_ns, now_ns)) = self.times(message) else {
            self.measured.untimed += 1;
            return;
        };
        self.measured.clock = Some(clock);
        self.recorder.record_between(at_ns, now_ns);
    }

    /// When an event happened and the time now, on one clock.
    fn times(&self, message: &Message<'_>) -> Option<(Clock, u64, u64)> {
        if let Some(event_ns) = self.kernel_time_ns(message) {
            return Some((Clock::Kernel, event_ns, Timestamp::now().as_ns()));
        }
        let schedule = self.schedule.get()?;
        let due_ns = load::due_ns(self.setting.source, schedule, message)?;
        let clock = match self.setting.rate {
            Some(_) => Clock::Schedule,
            None => Clock::Sender,
        };
        Some((clock, due_ns, load::monotonic_now_ns()))
    }

    fn kernel_time_ns(&self, message: &Message<'_>) -> Option<u64> {
        match self.setting.source {
            SourceKind::Usersock | SourceKind::Route => None,
            SourceKind::Conntrack
            | SourceKind::ConntrackFlows
            | SourceKind::ConntrackTcp
            | SourceKind::ConntrackFlush => Flow::decode(message)?.event_time.map(Timestamp::as_ns),
        }
    }

    /// Stops measuring CPU time. The receiver calls it when the end is requested, because the rest of the queue is then
    /// read at a different cost.
    pub fn stop(&mut self) -> Result<(), Failure> {
        if let Some(begun) = &self.begun {
            self.measured.time = Duration::from_nanos(load::monotonic_now_ns() - begun.at_ns);
            self.measured.usage = usage()?.since(begun.usage);
            self.measured.count = self.seen;
        }
        Ok(())
    }

    pub fn into_measured(self) -> (Measured, Recorder) {
        (self.measured, self.recorder)
    }
}

fn usage() -> Result<Usage, Failure> {
    Usage::of_this_thread()
        .map_err(|error| Failure::Other(format!("read /proc/thread-self/status: {error}")))
}

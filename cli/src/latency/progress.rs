//! Shows the progress of the measurement on standard error: a line that changes on a terminal, otherwise one line at
//! the start.

use std::fmt;
use std::time::{Duration, Instant};

use crate::units::Rough;
use crate::write::console::Console;

/// Shorter measurements show nothing.
const WORTH_SHOWING: Duration = Duration::from_secs(3);
/// The time that a run takes in addition to the time that it measures.
const OVERHEAD: Duration = Duration::from_millis(50);

pub struct Progress<'a> {
    console: &'a mut Console,
    total: usize,
    begun: usize,
    started: Instant,
    run_time: Duration,
    is_shown: bool,
}

impl<'a> Progress<'a> {
    pub fn start(total: usize, run_time: Duration, console: &'a mut Console) -> Self {
        let run_time = run_time + OVERHEAD;
        let is_worth_it = times(run_time, total) >= WORTH_SHOWING;
        let is_shown = is_worth_it && console.is_terminal();
        if is_worth_it && !is_shown {
            let in_all = Rough(times(run_time, total));
            console.say(format_args!("nlring: {total} runs, which take {in_all}"));
        }
        Self {
            console,
            total,
            begun: 0,
            started: Instant::now(),
            run_time,
            is_shown,
        }
    }

    /// Shows that another run begins.
    pub fn next(&mut self, way: &impl fmt::Display) {
        if self.is_shown {
            let left = Rough(self.time_left());
            let (number, total) = (self.begun + 1, self.total);
            self.console
                .show_line(&format!("run {number} of {total}, {left} left: {way}"));
        }
        self.begun += 1;
    }

    /// An estimate from the time that the runs took so far.
    fn time_left(&self) -> Duration {
        let run_time = match u32::try_from(self.begun) {
            Ok(begun) if begun > 0 => self.started.elapsed() / begun,
            _ => self.run_time,
        };
        times(run_time, self.total - self.begun)
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.is_shown {
            self.console.erase_line();
        }
    }
}

fn times(time: Duration, count: usize) -> Duration {
    time.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

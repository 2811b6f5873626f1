//! A line on standard error that shows the progress of a flood. Only a terminal gets it.
//!
//! A separate thread writes it, so that a slow terminal makes no event late.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::load::Pace;
use crate::outcome::Failure;
use crate::units::{Rough, rate};
use crate::write::console::{Console, STATUS_INTERVAL};

/// Runs `job`, and shows how many events it has made so far, which `made_count` counts.
pub fn show<T>(
    pace: Pace,
    made_count: &AtomicU64,
    job: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut console = Console::new();
    if !console.is_terminal() {
        return job();
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let line = Line::new(pace);
        let showing = thread::Builder::new()
            .name("progress".to_owned())
            .spawn_scoped(scope, || line.show(made_count, &is_over, &mut console))
            .map_err(|error| Failure::Other(format!("start the thread for progress: {error}")))?;
        let _end = StopShowing(&is_over, showing.thread());
        job()
    })
}

/// Stops the line when dropped, even if the job panics, because the scope waits for the line's thread.
struct StopShowing<'a>(&'a AtomicBool, &'a Thread);

impl Drop for StopShowing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}

struct Line {
    pace: Pace,
    started: Instant,
    /// When the line was last shown, and how many events were made then.
    last: (Instant, u64),
}

impl Line {
    fn new(pace: Pace) -> Self {
        let started = Instant::now();
        Self {
            pace,
            started,
            last: (started, 0),
        }
    }

    fn show(mut self, made_count: &AtomicU64, is_over: &AtomicBool, console: &mut Console) {
        loop {
            thread::park_timeout(STATUS_INTERVAL);
            if is_over.load(Ordering::Acquire) {
                return console.erase_line();
            }
            let now = Instant::now();
            console.show_line(&self.text(made_count.load(Ordering::Relaxed), now));
        }
    }

    fn text(&mut self, made_count: u64, now: Instant) -> String {
        let (at, count) = std::mem::replace(&mut self.last, (now, made_count));
        let per_second = rate(made_count.saturating_sub(count), now - at);
        let mut text = format!("{per_second} events/s, {made_count} ");
        if let Some(count) = self.pace.count {
            _ = write!(text, "of {count} ");
        }
        text.push_str("made");
        if let Some(left) = self.time_left(made_count, now) {
            _ = write!(text, ", {} left", Rough(left));
        }
        text
    }

    /// The time left by the rate so far or by --duration, whichever is shorter.
    fn time_left(&self, made_count: u64, now: Instant) -> Option<Duration> {
        let elapsed = now - self.started;
        let by_time = self
            .pace
            .duration
            .map(|duration| duration.saturating_sub(elapsed));
        let by_count = self.pace.count.and_then(|count| {
            let per_second = rate(made_count, elapsed);
            let left = count.saturating_sub(made_count);
            left.checked_div(per_second).map(Duration::from_secs)
        });
        [by_time, by_count].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(count: Option<u64>, duration: Option<Duration>) -> String {
        let pace = Pace {
            count,
            duration,
            ..Pace::default()
        };
        let mut line = Line::new(pace);
        let first = line.started + Duration::from_secs(1);
        line.text(100, first);
        line.text(400, first + Duration::from_secs(1))
    }

    #[test]
    fn the_progress_says_how_much_is_left() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(text(None, None), "300 events/s, 400 made");
        assert_eq!(
            text(Some(2400), None),
            "300 events/s, 400 of 2400 made, 11 s left"
        );
        assert_eq!(
            text(None, seconds(600)),
            "300 events/s, 400 made, 10 min left"
        );
        assert_eq!(
            text(Some(2400), seconds(6)),
            "300 events/s, 400 of 2400 made, 5 s left"
        );
    }
}

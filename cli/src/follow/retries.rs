//! Warns of system calls that failed and that the engine repeats, at most once a second.

use std::time::{Duration, Instant};

use nlring::{Event, Notice};

use crate::write::console::Console;

/// The least time between two warnings.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Retries {
    /// The first failure of this turn.
    failure: Option<String>,
    warned_at: Option<Instant>,
}

impl Retries {
    pub fn note(&mut self, event: &Event<'_>) {
        if let Event::Notice(_, Notice::Retried(error) | Notice::Stalled(error)) = event {
            self.failure.get_or_insert_with(|| error.to_string());
        }
    }

    pub fn after_turn(&mut self, console: &mut Console) {
        let Some(failure) = self.failure.take() else {
            return;
        };
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| now >= at + INTERVAL) {
            self.warned_at = Some(now);
            console.warn(format_args!("{failure}; nlring tries again"));
        }
    }
}

//! When something that failed is tried again, and which failures are logged.

use std::time::{Duration, Instant};

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(100);
/// How often the same failure is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// Pauses that grow from failure to failure.
pub struct Retry {
    longest: Duration,
    next: Duration,
    /// The failure that was logged last, and when.
    logged: Option<(String, Instant)>,
}

impl Retry {
    pub fn new(longest: Duration) -> Self {
        Self {
            longest,
            next: SHORTEST,
            logged: None,
        }
    }

    /// Something has succeeded: the next failure is the first one again.
    pub fn reset(&mut self) {
        *self = Self::new(self.longest);
    }

    /// The pause after a failure.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Whether to log a failure: another one was logged last, or the same one a minute ago.
    pub fn is_news(&mut self, failure: &str) -> bool {
        let is_known = self
            .logged
            .as_ref()
            .is_some_and(|(logged, at)| logged == failure && at.elapsed() < REMINDER);
        if !is_known {
            self.logged = Some((failure.to_owned(), Instant::now()));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_one() {
        let mut retry = Retry::new(Duration::from_millis(300));
        let pauses = [(); 4].map(|()| retry.pause().as_millis());
        assert_eq!(pauses, [100, 200, 300, 300]);
        retry.reset();
        assert_eq!(retry.pause(), SHORTEST);
    }

    #[test]
    fn a_failure_is_logged_once() {
        let mut retry = Retry::new(REMINDER);
        let logged = ["a", "a", "b", "a"].map(|failure| retry.is_news(failure));
        assert_eq!(logged, [true, false, true, true]);
        retry.reset();
        assert!(retry.is_news("a"));
    }
}

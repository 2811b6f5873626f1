//! The sum of what is missing. It is reported on standard error while the command runs, and completed at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use nlring::{Loss, Notice, SocketId, Statistics, Timestamp};
use nlring_print::Gap;

use crate::write::console::Console;

/// The least time between two reports on standard error.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The gaps of the counted sockets.
pub struct Gaps {
    /// What has lines, by socket.
    noted: BTreeMap<SocketId, Noted>,
    /// The gaps that are not yet reported on standard error.
    unreported: Sum,
    /// Whether gaps are reported on standard error.
    has_log: bool,
    reported_at: Option<Instant>,
    /// The earliest time of the next report.
    report_at: Instant,
    started: Timestamp,
}

/// The gaps of a socket that have lines.
#[derive(Clone, Copy)]
struct Noted {
    sum: Sum,
    /// The time up to which losses have lines.
    until: Timestamp,
}

/// How much is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    lost: u64,
    delayed: u64,
    /// Truncated and malformed datagrams, and other gaps that the kernel does not count.
    unreadable: u64,
}

impl Gaps {
    pub fn new(has_log: bool) -> Self {
        Self {
            noted: BTreeMap::new(),
            unreported: Sum::default(),
            has_log,
            reported_at: None,
            report_at: Instant::now(),
            started: Timestamp::now(),
        }
    }

    /// Records a gap of a socket that gets a line.
    pub fn note(&mut self, socket: SocketId, gap: &Gap<'_>) {
        let noted = self.noted_of(socket);
        if let Gap::Lost(loss) | Gap::Delayed(loss) = gap {
            noted.until = loss.until;
        }
        noted.sum.add(gap);
        if self.has_log {
            self.unreported.add(gap);
        }
    }

    fn noted_of(&mut self, socket: SocketId) -> &mut Noted {
        self.noted.entry(socket).or_insert(Noted {
            sum: Sum::default(),
            until: self.started,
        })
    }

    /// When [`report`](Self::report) is due.
    pub fn due(&self) -> Option<Instant> {
        (self.unreported != Sum::default()).then_some(self.report_at)
    }

    /// Reports the sum of what is missing on standard error: the first time at once, then at most once a minute. So a
    /// service's log shows losses, wherever the events go.
    pub fn report(&mut self, console: &mut Console) {
        let now = Instant::now();
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        self.report_at = now + REPORT_INTERVAL;
        let sum = std::mem::take(&mut self.unreported);
        match self.reported_at.replace(now) {
            None => console.warn(format_args!(
                "{sum}{} (further reports: at most one a minute)",
                sum.remedy()
            )),
            Some(before) => {
                let seconds = now.duration_since(before).as_secs();
                console.warn(format_args!("in the last {seconds} s: {sum}"));
            }
        }
    }

    /// The gaps of a socket at its end that have no line yet: what the kernel dropped after the last event was
    /// delivered, and what was left unread. Forgets the socket.
    pub fn left(
        &mut self,
        socket: SocketId,
        statistics: &Statistics,
    ) -> impl Iterator<Item = Gap<'static>> + use<> {
        let Noted { sum, until } = *self.noted_of(socket);
        self.noted.remove(&socket);
        let since_then = |count| Loss::new(count, until, Timestamp::now());
        let lost = statistics.dropped.saturating_sub(sum.lost);
        let delayed = statistics.delivery_failures.saturating_sub(sum.delayed);
        let (count, is_incomplete) = (statistics.unread, statistics.unread_is_incomplete);
        let unread = Gap::Unread {
            count,
            is_incomplete,
        };
        [
            (lost > 0).then(|| Gap::Lost(since_then(lost))),
            (delayed > 0).then(|| Gap::Delayed(since_then(delayed))),
            (count > 0 || is_incomplete).then_some(unread),
        ]
        .into_iter()
        .flatten()
    }
}

impl Sum {
    fn add(&mut self, gap: &Gap<'_>) {
        match gap {
            Gap::Lost(loss) => self.lost += loss.count,
            Gap::Delayed(loss) => self.delayed += loss.count,
            // A retry has its own warning, and unread datagrams are in the summary.
            Gap::Missing(Notice::Retried(_)) | Gap::Unread { .. } => {}
            Gap::Truncated { .. } | Gap::Malformed(_) | Gap::Missing(_) => self.unreadable += 1,
        }
    }

    fn remedy(self) -> &'static str {
        if self.lost + self.delayed > 0 {
            "; a larger --recv-buffer, or --recv-buffer-max, holds more"
        } else {
            ""
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (what, count) in [
            ("lost datagrams", self.lost),
            ("failed deliveries", self.delayed),
            ("unreadable datagrams", self.unreadable),
        ] {
            if count > 0 {
                write!(f, "{separator}{what}: {count}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first socket of an engine.
    fn socket() -> SocketId {
        let mut engine = nlring::Engine::builder().build().unwrap();
        let socket = nlring::Socket::open(nlring::Protocol::ROUTE).unwrap();
        engine.add(socket).unwrap()
    }

    fn lost(count: u64) -> Gap<'static> {
        Gap::Lost(Loss::new(count, Timestamp::UNIX_EPOCH, Timestamp::now()))
    }

    #[test]
    fn the_first_gap_is_reported_at_once_and_the_next_ones_together() {
        let mut gaps = Gaps::new(true);
        assert_eq!(gaps.due(), None);
        gaps.note(socket(), &lost(2));
        gaps.note(socket(), &Gap::Truncated { real_bytes: 9000 });
        assert_eq!(
            gaps.unreported.to_string(),
            "lost datagrams: 2, unreadable datagrams: 1"
        );
        assert!(gaps.due().unwrap() <= Instant::now());
        gaps.report(&mut Console::new());
        assert_eq!(gaps.due(), None, "nothing new");
        gaps.note(socket(), &lost(3));
        gaps.note(socket(), &lost(4));
        let reported_at = gaps.reported_at.unwrap();
        assert_eq!(gaps.due(), Some(reported_at + REPORT_INTERVAL));
        assert_eq!(gaps.unreported.to_string(), "lost datagrams: 7");
        gaps.report(&mut Console::new());
        assert_eq!(gaps.unreported.lost, 7, "too early");
    }

    #[test]
    fn without_a_log_nothing_is_due() {
        let mut gaps = Gaps::new(false);
        gaps.note(socket(), &lost(2));
        assert_eq!(gaps.due(), None);
    }

    #[test]
    fn gaps_without_a_line_are_left_for_the_end() {
        let mut statistics = Statistics::default();
        let mut gaps = Gaps::new(false);
        let noted = Loss::new(2, Timestamp::UNIX_EPOCH, Timestamp::now());
        gaps.note(socket(), &Gap::Lost(noted));
        (statistics.dropped, statistics.unread) = (5, 7);
        let left: Vec<_> = gaps.left(socket(), &statistics).collect();
        let [Gap::Lost(loss), Gap::Unread { count: 7, .. }] = left[..] else {
            panic!("{left:?}");
        };
        assert_eq!(loss.count, 3);
        assert_eq!(
            loss.since, noted.until,
            "it begins where the last one ended"
        );
        assert!(loss.since <= loss.until);
        gaps.note(socket(), &lost(2));
        (statistics.dropped, statistics.unread) = (2, 0);
        assert_eq!(gaps.left(socket(), &statistics).count(), 0);
    }
}

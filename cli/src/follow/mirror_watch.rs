//! Messages about the state of a mirror: that it cannot be repaired, since when and why, and that it is correct again.

use std::fmt;
use std::time::{Duration, Instant};

use nlring::MirrorHealth;

use crate::write::console::Console;

/// How long losses may prevent the repair of a table before a line says so, and the time between two such lines.
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct MirrorWatch {
    /// Whether something was reported that is not yet reported as over.
    has_warned: bool,
    /// Whether it was reported that the kernel cannot be asked.
    has_reported_error: bool,
    /// Whether it was reported that there is no room.
    has_reported_full: bool,
    /// When the table was first seen wrong.
    wrong_from: Option<Instant>,
    /// When events were last lost.
    lost_at: Option<Instant>,
    /// When it was last reported that losses continue.
    reported_losses_at: Option<Instant>,
}

/// The lines that can be written.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Error,
    Full,
    Losses,
    RightAgain,
}

impl MirrorWatch {
    /// Records that events were lost.
    pub fn note_loss(&mut self, now: Instant) {
        self.lost_at = Some(now);
    }

    /// Reports what is new about the table.
    pub fn look(&mut self, health: &MirrorHealth<'_>, now: Instant, console: &mut Console) {
        match self.line(health, now) {
            Some(Line::Error) => console.warn(format_args!(
                "could not compare the mirror with the kernel's table: {}; it still follows events, and tries again",
                health.error.unwrap_or_default()
            )),
            Some(Line::Full) => console.warn(
                "the mirror is full (--mirror-memory): new entries are shown but not kept, so the table is incomplete \
                 until there is room again; a larger --mirror-memory keeps them all",
            ),
            Some(Line::Losses) => console.warn(losses(health)),
            Some(Line::RightAgain) => console.say("the mirror equals the kernel's table again"),
            None => {}
        }
    }

    fn line(&mut self, health: &MirrorHealth<'_>, now: Instant) -> Option<Line> {
        if health.wrong_since.is_none() && health.error.is_none() && health.failed_count == 0 {
            let has_warned = self.has_warned;
            *self = Self {
                lost_at: self.lost_at,
                ..Self::default()
            };
            return has_warned.then_some(Line::RightAgain);
        }
        if health.error.is_some() && !self.has_reported_error {
            (self.has_reported_error, self.has_warned) = (true, true);
            return Some(Line::Error);
        }
        if health.is_full && !self.has_reported_full {
            (self.has_reported_full, self.has_warned) = (true, true);
            return Some(Line::Full);
        }
        health.wrong_since?;
        let wrong_from = *self.wrong_from.get_or_insert(now);
        let quiet_from = self.reported_losses_at.unwrap_or(wrong_from);
        let goes_on = self
            .lost_at
            .is_some_and(|at| now.duration_since(at) < MINUTE);
        if goes_on && now.duration_since(quiet_from) >= MINUTE {
            (self.reported_losses_at, self.has_warned) = (Some(now), true);
            return Some(Line::Losses);
        }
        None
    }
}

fn losses(health: &MirrorHealth<'_>) -> impl fmt::Display {
    let since = health.wrong_since.map(|since| since.to_string());
    let since = since.unwrap_or_default();
    let count = health.failed_count;
    format!(
        "the mirror may have been wrong since {since}, and cannot be repaired while events keep being lost ({count} dumps \
         in a row failed): a larger --recv-buffer or --recv-buffer-max, or an --output that takes lines faster, can end \
         that"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nlring::Timestamp;

    fn health(is_wrong: bool, failed_count: u32, error: Option<&str>) -> MirrorHealth<'_> {
        let mut health = MirrorHealth::default();
        health.wrong_since = is_wrong.then_some(Timestamp::UNIX_EPOCH);
        (health.failed_count, health.error) = (failed_count, error);
        health
    }

    #[test]
    fn an_error_is_reported_once_and_so_is_its_end() {
        let (mut watch, now) = (MirrorWatch::default(), Instant::now());
        let failing = |count| health(true, count, Some("no memory"));
        assert_eq!(watch.line(&failing(1), now), Some(Line::Error));
        assert_eq!(watch.line(&failing(2), now + 5 * MINUTE), None);
        assert_eq!(
            watch.line(&health(false, 0, None), now),
            Some(Line::RightAgain)
        );
        assert_eq!(watch.line(&health(false, 0, None), now), None);
        assert_eq!(watch.line(&failing(1), now), Some(Line::Error), "a new one");
    }

    #[test]
    fn losses_that_go_on_are_reported_each_minute() {
        let (mut watch, start) = (MirrorWatch::default(), Instant::now());
        let mut reported = Vec::new();
        for second in 0..=200 {
            let now = start + Duration::from_secs(second);
            if second < 190 {
                watch.note_loss(now);
            }
            let line = watch.line(&health(second < 195, 3, None), now);
            reported.extend(line.map(|line| (second, line)));
        }
        assert_eq!(
            reported,
            [(60, Line::Losses), (120, Line::Losses), (180, Line::Losses)],
            "and not that it is right, because no dump has succeeded yet"
        );
        assert_eq!(
            watch.line(&health(false, 0, None), start),
            Some(Line::RightAgain)
        );
    }

    #[test]
    fn a_table_that_waits_for_its_repair_is_not_reported() {
        let (mut watch, start) = (MirrorWatch::default(), Instant::now());
        watch.note_loss(start);
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            assert_eq!(watch.line(&health(true, 0, None), now), None, "{second}");
        }
        assert_eq!(watch.line(&health(false, 0, None), start), None);
    }
}

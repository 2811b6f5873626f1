//! Standard error: messages, and on a terminal a status line below them.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nlring_print::text::escaped_lines;

use crate::units::rate;
use crate::write::help::fitted;
use crate::write::sink::Sink;

/// How often the status line is renewed.
pub const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// How long a message waits for a reader that does not read. Such a reader gets no further messages.
const PATIENCE: Duration = Duration::from_millis(200);
/// Moves to the start of the line and erases it to its end (ECMA-48 EL).
const ERASE: &str = "\r\x1b[K";

pub struct Console {
    /// None: there is no standard error.
    sink: Option<Sink>,
    status: Option<Status>,
}

/// The status line as last shown.
struct Status {
    is_shown: bool,
    at: Instant,
    received_count: u64,
}

impl Console {
    pub fn new() -> Self {
        Self {
            sink: Sink::new(io::stderr().as_fd()).ok(),
            status: None,
        }
    }

    /// Shows a status line from now on, if standard error is a terminal and the events go elsewhere.
    pub fn start_status(&mut self, events: &Sink) {
        let wanted = |sink: &Sink| sink.is_terminal() && !sink.is_same_terminal(events);
        self.status = self.sink.as_ref().is_some_and(wanted).then(|| Status {
            is_shown: false,
            at: Instant::now(),
            received_count: 0,
        });
    }

    /// Whether standard error is a separate log, in which losses are reported: it is neither a terminal, where the
    /// status line shows them, nor where the events go, where losses have lines.
    pub fn is_log_beside(&self, events: &Sink) -> bool {
        let is_log = |sink: &Sink| !sink.is_terminal() && !sink.is_same(events);
        self.sink.as_ref().is_some_and(is_log)
    }

    /// When the status line is due, if there is one.
    pub fn status_due(&self) -> Option<Instant> {
        self.status
            .as_ref()
            .map(|status| status.at + STATUS_INTERVAL)
    }

    /// Renews the status line.
    pub fn show_status(&mut self, received_count: u64, lost_count: u64) {
        let (Some(sink), Some(status)) = (&self.sink, &mut self.status) else {
            return;
        };
        let now = Instant::now();
        let per_second = rate(
            received_count.saturating_sub(status.received_count),
            now - status.at,
        );
        *status = Status {
            is_shown: true,
            at: now,
            received_count,
        };
        let text = format!("{per_second} events/s, {received_count} in all, {lost_count} lost");
        put_line(sink, &text);
    }

    pub fn is_terminal(&self) -> bool {
        self.sink.as_ref().is_some_and(Sink::is_terminal)
    }

    /// Replaces the line that was shown before. Only a terminal can do this.
    pub fn show_line(&mut self, text: &str) {
        if let Some(sink) = &self.sink {
            put_line(sink, text);
        }
    }

    /// Erases the line that was shown.
    pub fn erase_line(&mut self) {
        self.show_line("");
    }

    /// Prints a warning.
    pub fn warn(&mut self, text: impl fmt::Display) {
        self.say(format_args!("nlring: warning: {text}"));
    }

    /// Prints a message instead of the status line. Characters that could manipulate a terminal are escaped.
    pub fn say(&mut self, text: impl fmt::Display) {
        let Some(sink) = &self.sink else { return };
        let erase = match &mut self.status {
            Some(status) if status.is_shown => {
                status.is_shown = false;
                ERASE
            }
            _ => "",
        };
        let mut text = escaped_lines(&text.to_string());
        if sink.is_terminal() {
            text = fitted(&text, sink.columns());
        }
        let message = format!("{erase}{}\n", text.trim_end());
        if sink.write_within(message.as_bytes(), PATIENCE).is_err() {
            self.sink = None; // there is nowhere to report this
        }
    }
}

/// Leaves the cursor at the start of the line, so that the output of another program covers the line.
fn put_line(sink: &Sink, text: &str) {
    // A line that wraps could not be erased.
    let shown: String = text
        .chars()
        .take(sink.columns().saturating_sub(1))
        .collect();
    let _ = sink.write(format!("{ERASE}{shown}\r").as_bytes()); // a terminal that is not ready gets the next line
}

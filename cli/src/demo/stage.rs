//! Prints the tour on standard output: headings, sentences, lines of events and the results of checks.
//!
//! A terminal gets lines of its width, colours, and pauses for reading. A program that reads the output gets whole
//! lines at once, without colour.

use std::env;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use crate::outcome::Failure;
use crate::write::fold::{fold, fold_json};
use crate::write::sink::Sink;

/// The longest line; longer ones are hard to read.
const MOST_COLUMNS: usize = 120;
/// The margins of a line of events and of its continuation.
const EVENT_MARGIN: &str = "    ";
const FOLDED_MARGIN: &str = "          ";

/// How a terminal shows text (ECMA-48 SGR).
#[derive(Clone, Copy)]
pub enum Colour {
    Bold,
    Green,
    Red,
    Yellow,
    Cyan,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Cyan => "36",
        }
    }
}

/// The first words of the lines of events, with their colours.
const TAGS: [(&str, Colour); 6] = [
    ("[NEW]", Colour::Green),
    ("[UPDATE]", Colour::Cyan),
    ("[DESTROY]", Colour::Red),
    ("[LOST]", Colour::Yellow),
    ("[RESYNCED]", Colour::Cyan),
    ("Deleted", Colour::Red),
];

pub struct Stage {
    /// The width of the terminal. None: standard output is not a terminal.
    columns: Option<usize>,
    is_coloured: bool,
    /// The reader of standard output is gone, which is not a failure.
    is_closed: bool,
    failed_count: u32,
}

impl Stage {
    pub fn new() -> Self {
        let sink = Sink::new(io::stdout().as_fd()).ok();
        let columns = sink
            .filter(Sink::is_terminal)
            .map(|sink| sink.columns().min(MOST_COLUMNS));
        let has = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Self {
            columns,
            is_coloured: columns.is_some() && !is_dumb && !has("NO_COLOR"),
            is_closed: false,
            failed_count: 0,
        }
    }

    /// Whether the reader of standard output is gone.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// How many checks have failed.
    pub fn failed_count(&self) -> u32 {
        self.failed_count
    }

    /// Begins a part with its heading and subject.
    pub fn part(&mut self, heading: &str, text: &str) -> Result<(), Failure> {
        self.pause(Duration::from_millis(700));
        let heading = self.in_colour(heading, Colour::Bold);
        self.print(&format!("\n{heading}\n"))?;
        self.say(text)
    }

    /// Prints a paragraph.
    pub fn say(&mut self, text: &str) -> Result<(), Failure> {
        let mut lines = String::new();
        for line in self.folded(text, 0, fold) {
            _ = writeln!(lines, "{line}");
        }
        self.print(&lines)
    }

    /// Prints lines of events, as the collectors write them.
    pub fn events(&mut self, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            self.folded_line(line, fold)?;
        }
        Ok(())
    }

    /// Prints events as JSON.
    pub fn json(&mut self, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            self.folded_line(line, fold_json)?;
        }
        Ok(())
    }

    fn folded_line(
        &mut self,
        line: &str,
        fold: impl Fn(&str, usize) -> Vec<String>,
    ) -> Result<(), Failure> {
        let mut text = String::new();
        let folded = self.folded(line.trim(), FOLDED_MARGIN.len(), fold);
        for (number, part) in folded.iter().enumerate() {
            let margin = if number == 0 {
                EVENT_MARGIN
            } else {
                FOLDED_MARGIN
            };
            let part = if number == 0 {
                self.with_tag_in_colour(part)
            } else {
                part.clone()
            };
            _ = writeln!(text, "{margin}{part}");
        }
        self.print(&text)
    }

    /// Prints the result of the tour.
    pub fn result(&mut self, text: &str, colour: Colour) -> Result<(), Failure> {
        let text = self.in_colour(text, colour);
        self.print(&format!("\n{text}\n"))
    }

    /// Prints a command to try, and what it does.
    pub fn example(&mut self, line: &str) -> Result<(), Failure> {
        self.print(&format!("    {line}\n"))
    }

    /// Prints the result of a check, with the numbers that prove it.
    pub fn check(&mut self, is_good: bool, numbers: &str) -> Result<(), Failure> {
        let (word, colour) = if is_good {
            ("OK", Colour::Green)
        } else {
            self.failed_count += 1;
            ("FAILED", Colour::Red)
        };
        let mut text = String::new();
        for (number, line) in self.folded(numbers, 8, fold).iter().enumerate() {
            let margin = match number {
                0 => self.in_colour(&format!("{word}:"), colour),
                _ => "   ".to_owned(),
            };
            _ = writeln!(text, "{margin} {line}");
        }
        self.print(&text)
    }

    /// Leaves time to read.
    pub fn pause(&self, time: Duration) {
        if self.columns.is_some() && !self.is_closed {
            sleep(time);
        }
    }

    fn folded(
        &self,
        text: &str,
        margin: usize,
        fold: impl Fn(&str, usize) -> Vec<String>,
    ) -> Vec<String> {
        let room = self
            .columns
            .map_or(usize::MAX, |columns| columns - margin.min(columns));
        fold(text, room)
    }

    fn with_tag_in_colour(&self, line: &str) -> String {
        for (tag, colour) in TAGS {
            if let Some(rest) = line.strip_prefix(tag) {
                return self.in_colour(tag, colour) + rest;
            }
        }
        line.to_owned()
    }

    fn in_colour(&self, text: &str, colour: Colour) -> String {
        if self.is_coloured {
            format!("\x1b[{}m{text}\x1b[0m", colour.code())
        } else {
            text.to_owned()
        }
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes());
        match written.and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.is_closed = true,
            Err(error) => {
                let message = format!("write the demo to standard output: {error}");
                return Err(Failure::Other(message));
            }
            Ok(()) => {}
        }
        Ok(())
    }
}

//! Where the events' lines go: gathered in a buffer, written before the next wait, and counted only when written.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::outcome::Failure;
use crate::signals::StopRequests;
use crate::sink::Sink;
use crate::text::shown;

/// Lines are written out beyond this many bytes, also within a turn: a pipe's own size.
const BUFFER_BYTES: usize = 64 << 10;
/// How long a reader that does not read can hold up an end that was asked for.
const GRACE: Duration = Duration::from_secs(1);
/// How often a write that cannot go on looks whether an end was asked for.
const LOOK: Duration = Duration::from_millis(50);

/// Why no more lines can be written.
#[derive(Debug)]
pub enum Broken {
    /// The reader has gone: nothing wrong.
    Closed,
    /// An end was asked for, and the reader does not read.
    Stalled,
    /// An end at once was asked for.
    AtOnce,
    /// Disk full and the like.
    Failed(io::Error),
}

pub struct Output {
    sink: Sink,
    /// For messages.
    name: String,
    buffer: Vec<u8>,
    /// Where in the buffer each event's text ends: it may be several lines, and other lines stand between.
    event_ends: Vec<usize>,
    /// Events formatted, of which `written_count` have been written.
    event_count: u64,
    written_count: u64,
    /// It takes no more events than these.
    limit: Option<u64>,
    /// Why a write within a turn failed, until that is told.
    broken: Option<Broken>,
    patience: Patience,
}

impl Output {
    /// Opens the file; `-` is standard output.
    pub fn open(path: &Path, requests: StopRequests) -> Result<Self, Failure> {
        let name = if path == Path::new("-") {
            "standard output".to_owned()
        } else {
            shown(path).to_string()
        };
        let sink = Sink::create(path)
            .map_err(|error| Failure::Other(format!("open {name} for the events: {error}")))?;
        Ok(Self::new(sink, name, requests))
    }

    fn new(sink: Sink, name: String, requests: StopRequests) -> Self {
        Self {
            sink,
            name,
            buffer: Vec::with_capacity(BUFFER_BYTES + (4 << 10)),
            event_ends: Vec::new(),
            event_count: 0,
            written_count: 0,
            limit: None,
            broken: None,
            patience: Patience {
                requests,
                end_at: None,
            },
        }
    }

    /// Empties the file, now that there is something to write into it: a start that fails leaves it as it was.
    pub fn truncate(&self) -> Result<(), Failure> {
        let result = self.sink.truncate();
        result.map_err(|error| Failure::Other(format!("truncate {}: {error}", self.name)))
    }

    /// Sets when the end is due without a signal.
    pub fn set_end(&mut self, end_at: Option<Instant>) {
        self.patience.end_at = end_at;
    }

    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Sets how many events it takes.
    pub fn set_limit(&mut self, limit: Option<u64>) {
        self.limit = limit;
    }

    /// Whether it has all the events that it takes.
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.event_count >= limit)
    }

    /// Whether it takes no more events: it is full, or a write has failed, of which [`write_out`](Self::write_out) tells.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.broken.is_some() || self.is_full()
    }

    /// Lets `format` append an event's text, or nothing and say false. Does nothing once it is over.
    #[inline]
    pub fn event(&mut self, format: impl FnOnce(&mut Vec<u8>) -> bool) {
        if self.is_over() {
            return;
        }
        if format(&mut self.buffer) {
            self.event_count += 1;
            self.event_ends.push(self.buffer.len());
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.broken = self.write_buffer().err();
        }
    }

    /// Lets `format` append a line that is no event. Does nothing once it is over.
    pub fn record(&mut self, format: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_over() {
            format(&mut self.buffer);
        }
    }

    /// Writes all that is gathered. What cannot be written is given up, and never counts as written. Tells also of a write
    /// that has failed since the last call.
    pub fn write_out(&mut self) -> Result<(), Broken> {
        match self.broken.take() {
            Some(broken) => Err(broken),
            None => self.write_buffer(),
        }
    }

    fn write_buffer(&mut self) -> Result<(), Broken> {
        let mut written_bytes = 0;
        let result = loop {
            let Some(rest) = self
                .buffer
                .get(written_bytes..)
                .filter(|rest| !rest.is_empty())
            else {
                break Ok(());
            };
            match self.sink.write(rest) {
                Ok(count) => written_bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Some(broken) = self.patience.spent() {
                        break Err(broken);
                    }
                    if let Err(error) = self.sink.wait(LOOK) {
                        break Err(Broken::Failed(error));
                    }
                }
                Err(error) if has_gone(&error) => break Err(Broken::Closed),
                Err(error) => break Err(Broken::Failed(error)),
            }
        };
        self.written_count += self.event_ends.partition_point(|&end| end <= written_bytes) as u64;
        self.event_ends.clear();
        self.buffer.clear();
        result
    }

    /// Events whose whole line has been written.
    pub fn written_count(&self) -> u64 {
        self.written_count
    }

    /// What to tell the user when it broke.
    pub fn failure(&self, broken: &Broken) -> Failure {
        let name = &self.name;
        let reason = match broken {
            Broken::Failed(error) => error.to_string(),
            _ => "its reader does not read".to_owned(),
        };
        let unwritten = self.event_count - self.written_count;
        Failure::Output(format!(
            "write the events to {name}: {reason}; events received but not written: {unwritten}"
        ))
    }
}

/// Whether the reader of a pipe, or of a socket, is no more.
fn has_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

/// How long to wait for a reader: for ever, until an end is asked for or due; then a little.
struct Patience {
    requests: StopRequests,
    end_at: Option<Instant>,
}

impl Patience {
    /// Why to wait no longer.
    fn spent(&self) -> Option<Broken> {
        if self.requests.stop_at_once() {
            return Some(Broken::AtOnce);
        }
        let now = Instant::now();
        [self.requests.stop_since(), self.end_at]
            .into_iter()
            .flatten()
            .any(|end_at| now >= end_at + GRACE)
            .then_some(Broken::Stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, pipe};
    use std::os::fd::{AsFd, OwnedFd};

    fn output(fd: impl Into<OwnedFd>) -> Output {
        let sink = Sink::new(fd.into().as_fd()).unwrap();
        Output::new(sink, "test".to_owned(), StopRequests::default())
    }

    fn put(output: &mut Output, line: &str) {
        output.event(|buffer| {
            buffer.extend_from_slice(line.as_bytes());
            true
        });
    }

    #[test]
    fn lines_are_written_in_order_and_records_are_no_events() {
        let (mut reader, writer) = pipe().unwrap();
        let mut output = output(writer);
        put(&mut output, "one\n");
        output.record(|buffer| buffer.extend_from_slice(b" [LOST] 3\n"));
        put(&mut output, "two\n");
        output.event(|_| false);
        assert_eq!((output.event_count, output.written_count()), (2, 0));
        output.write_out().unwrap();
        assert_eq!(output.written_count(), 2);
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n [LOST] 3\ntwo\n");
    }

    #[test]
    fn it_takes_no_more_events_than_its_limit() {
        let (_reader, writer) = pipe().unwrap();
        let mut output = output(writer);
        output.set_limit(Some(2));
        for _ in 0..3 {
            assert_eq!(output.is_full(), output.event_count == 2);
            put(&mut output, "line\n");
        }
        output.write_out().unwrap();
        assert_eq!(output.written_count(), 2);
    }

    #[test]
    fn a_full_disk_is_a_failure_that_says_what_was_not_written() {
        let mut output = output(File::create("/dev/full").unwrap());
        put(&mut output, "one\n");
        let broken = output.write_out().unwrap_err();
        assert_eq!(output.written_count(), 0);
        let text = output.failure(&broken).to_string();
        assert!(
            text.contains("No space left") && text.ends_with("not written: 1"),
            "{text}"
        );
        output.write_out().unwrap(); // given up, once
        assert_eq!(output.written_count(), 0);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let (reader, writer) = pipe().unwrap();
        let mut output = output(writer);
        drop(reader);
        put(&mut output, "one\n");
        assert!(matches!(output.write_out(), Err(Broken::Closed)));
        assert_eq!(output.written_count(), 0);
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_an_end_only_for_a_while() {
        let (_reader, writer) = pipe().unwrap();
        let mut output = output(writer);
        let line = "x".repeat(99) + "\n";
        let requests = output.patience.requests.clone();
        requests.add();
        let started = Instant::now();
        while !output.is_over() {
            put(&mut output, &line);
        }
        assert!(matches!(output.write_out(), Err(Broken::Stalled)));
        assert!((GRACE..GRACE * 2).contains(&started.elapsed()));
        assert_eq!(output.written_count(), (64 << 10) / 100);
        requests.add();
        put(&mut output, &line);
        let started = Instant::now();
        assert!(matches!(output.write_out(), Err(Broken::AtOnce)));
        assert!(started.elapsed() < GRACE / 2, "at once, the second time");
    }
}

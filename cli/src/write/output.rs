//! The output of the events' lines. They are collected in a buffer, written before the next wait, and counted when
//! written.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nlring_print::text::shown;
use nlring_print::{Origin, Style};

use crate::host::signals::StopRequests;
use crate::outcome::Failure;
use crate::write::place::Place;
use crate::write::sink::Sink;

/// When the buffer holds this many bytes, it is written within the turn. It is the size of a pipe.
const BUFFER_BYTES: usize = 64 << 10;
/// How long a requested end waits for a reader that does not read.
const GRACE: Duration = Duration::from_secs(1);
/// How often a write that waits for its reader checks whether an end was requested.
const LOOK: Duration = Duration::from_millis(50);

/// Why no more lines can be written.
#[derive(Debug)]
pub enum Broken {
    /// The reader has closed its end.
    Closed,
    /// An end was requested, and the reader does not read.
    Stalled,
    /// An immediate end was requested.
    AtOnce,
    /// The system call failed, for example because the disk is full.
    Failed(io::Error),
}

pub struct Output {
    sink: Sink,
    /// The name of the output, for messages.
    name: String,
    /// The path to reopen the output by, if it is a regular file.
    path: Option<PathBuf>,
    buffer: Vec<u8>,
    /// Where in the buffer the text of each event ends. It may be several lines, and there may be other lines between
    /// events.
    event_ends: Vec<usize>,
    /// Where in the buffer each text that is not an event ends.
    record_ends: Vec<usize>,
    /// How many events have been formatted. `written_count` of them have been written.
    event_count: u64,
    written_count: u64,
    /// The number of events after which the output is full.
    limit: Option<u64>,
    /// Whether a write has failed. Then nothing more is written, and further events count as not written.
    is_broken: bool,
    /// Why the write failed, until that is reported.
    unreported: Option<Broken>,
    patience: Patience,
    /// What is added to each event and line, and their style.
    origin: Option<(Style, Rc<Origin>)>,
}

impl Output {
    /// Opens a file to append to it; `-` is standard output.
    pub fn open(path: &Path, requests: StopRequests) -> Result<Self, Failure> {
        if path == Path::new("-") {
            let sink = Sink::new(io::stdout().as_fd()).map_err(|error| {
                Failure::Other(format!("open standard output for the events: {error}"))
            })?;
            return Ok(Self::new(sink, "standard output".to_owned(), requests));
        }
        let name = shown(path).to_string();
        let file = Place::find(path).and_then(|place| place.append());
        let sink = file
            .and_then(|file| Sink::of_own_file(&file))
            .map_err(|error| Failure::Other(format!("open {name} for the events: {error}")))?;
        let path = sink.is_own_file().then(|| path.to_owned());
        Ok(Self {
            path,
            ..Self::new(sink, name, requests)
        })
    }

    fn new(sink: Sink, name: String, requests: StopRequests) -> Self {
        Self {
            sink,
            name,
            path: None,
            buffer: Vec::with_capacity(BUFFER_BYTES + (4 << 10)),
            event_ends: Vec::new(),
            record_ends: Vec::new(),
            event_count: 0,
            written_count: 0,
            limit: None,
            is_broken: false,
            unreported: None,
            patience: Patience {
                requests,
                end_at: None,
            },
            origin: None,
        }
    }

    /// Empties the file. Call it when startup has succeeded, so that a failed start leaves the file unchanged.
    pub fn truncate(&self) -> Result<(), Failure> {
        let result = self.sink.truncate();
        result.map_err(|error| Failure::Other(format!("truncate {}: {error}", self.name)))
    }

    /// Whether the output is a regular file that was opened by name, so that it can be reopened.
    pub fn can_reopen(&self) -> bool {
        self.path.is_some()
    }

    /// Continues in the file that now has the path, for example after a log's rotation. Collected lines go there.
    ///
    /// # Errors
    ///
    /// The new file cannot be opened. The output continues in the old one.
    pub fn reopen(&mut self) -> Result<(), Failure> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let file = Place::find(path).and_then(|place| place.append_to_regular_file());
        self.sink = file
            .and_then(|file| Sink::of_own_file(&file))
            .map_err(|error| {
                Failure::Other(format!(
                    "reopen {} for the events: {error}; they still go to the file that was opened before",
                    self.name
                ))
            })?;
        Ok(())
    }

    /// Sets when the run ends without a signal.
    pub fn set_end(&mut self, end_at: Option<Instant>) {
        self.patience.end_at = end_at;
    }

    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Sets the number of events after which the output is full.
    pub fn set_limit(&mut self, limit: Option<u64>) {
        self.limit = limit;
    }

    /// Whether the output has as many events as its limit allows.
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.event_count >= limit)
    }

    /// Whether no more events are written, because the output is full or because a write has failed.
    /// [`write_out`](Self::write_out) reports which.
    pub fn is_over(&self) -> bool {
        self.is_broken || self.is_full()
    }

    /// Lets `format` append the text of an event, or return false if it has none. Does nothing if the output is full.
    /// After a failed write, the event counts as not written.
    #[inline]
    pub fn event(&mut self, format: impl FnOnce(&mut Vec<u8>) -> bool) {
        if self.is_full() {
            return;
        }
        let from = self.buffer.len();
        if format(&mut self.buffer) {
            self.mark_origin(from);
            self.event_count += 1;
            self.event_ends.push(self.buffer.len());
        }
        if self.buffer.len() >= BUFFER_BYTES
            && let Err(broken) = self.write_buffer()
        {
            self.unreported = Some(broken);
        }
    }

    /// Lets `format` append a line that is not an event. Does nothing if the output is full.
    pub fn record(&mut self, format: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_full() {
            self.record_at_end(format);
        }
    }

    /// Lets `format` append a line after the last event, even if the output is full.
    pub fn record_at_end(&mut self, format: impl FnOnce(&mut Vec<u8>)) {
        let from = self.buffer.len();
        format(&mut self.buffer);
        self.mark_origin(from);
        self.record_ends.push(self.buffer.len());
    }

    /// Adds this origin to everything that is appended from now on.
    pub fn set_origin(&mut self, style: Style, origin: &Rc<Origin>) {
        self.origin = Some((style, Rc::clone(origin)));
    }

    #[inline]
    fn mark_origin(&mut self, from: usize) {
        if let Some((style, origin)) = &self.origin {
            style.mark_origin(&mut self.buffer, from, origin);
        }
    }

    /// Writes all collected lines. Lines that cannot be written are dropped, and do not count as written.
    ///
    /// # Errors
    ///
    /// A write has failed, now or after the last call. Each failure is reported once.
    pub fn write_out(&mut self) -> Result<(), Broken> {
        let written = self.write_buffer();
        match self.unreported.take() {
            Some(broken) => Err(broken),
            None => written,
        }
    }

    fn write_buffer(&mut self) -> Result<(), Broken> {
        let mut written_bytes = 0;
        let mut result = Ok(());
        while !self.is_broken && written_bytes < self.buffer.len() {
            match self.write_some(written_bytes) {
                Ok(count) => written_bytes += count,
                Err(broken) => {
                    self.is_broken = true;
                    result = Err(broken);
                }
            }
        }
        self.settle(written_bytes);
        result
    }

    /// Writes a part of the rest of the buffer, or waits a little and writes nothing.
    fn write_some(&self, from: usize) -> Result<usize, Broken> {
        let rest = self.buffer.get(from..).unwrap_or_default();
        match self.sink.write(rest) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if let Some(broken) = self.patience.spent() {
                    return Err(broken);
                }
                self.sink.wait(LOOK).map_err(Broken::Failed)?;
                Ok(0)
            }
            Err(error) if has_gone(&error) => Err(Broken::Closed),
            Err(error) => Err(Broken::Failed(error)),
        }
    }

    /// Counts the events that are completely written, removes a partial line, and empties the buffer.
    fn settle(&mut self, written_bytes: usize) {
        if written_bytes == self.buffer.len() {
            self.written_count += self.event_ends.len() as u64;
        } else {
            let whole = |ends: &[usize]| ends.partition_point(|&end| end <= written_bytes);
            let (events, records) = (whole(&self.event_ends), whole(&self.record_ends));
            self.written_count += events as u64;
            let last_end = |ends: &[usize], count: usize| ends[..count].last().copied();
            let whole_bytes =
                last_end(&self.event_ends, events).max(last_end(&self.record_ends, records));
            let torn_bytes = written_bytes - whole_bytes.unwrap_or(0);
            if torn_bytes > 0 {
                // If that fails, the part stays in the file, and does not count as written.
                let _ = self.sink.take_back(torn_bytes);
            }
        }
        self.event_ends.clear();
        self.record_ends.clear();
        self.buffer.clear();
    }

    /// All formatted events: those written, those in the buffer, and those that could not be written.
    #[inline]
    pub fn event_count(&self) -> u64 {
        self.event_count
    }

    /// Events whose whole text has been written.
    pub fn written_count(&self) -> u64 {
        self.written_count
    }

    /// Events that could not be written, and those in the buffer.
    pub fn not_written_count(&self) -> u64 {
        self.event_count - self.written_count
    }

    /// Whether the output broke because the reader of standard output, such as `head`, has read all that it wants.
    pub fn is_good_end(&self, broken: &Broken) -> bool {
        matches!(broken, Broken::Closed) && self.sink.is_piped_stdout()
    }

    /// The failure to report for a broken output.
    pub fn failure(&self, broken: &Broken) -> Failure {
        let name = &self.name;
        let reason = match broken {
            Broken::Failed(error) => error.to_string(),
            Broken::Closed => "its reader has gone".to_owned(),
            Broken::Stalled | Broken::AtOnce => "its reader does not read".to_owned(),
        };
        Failure::Output(format!("write the events to {name}: {reason}"))
    }
}

/// Whether the reader of a pipe or a socket has closed its end.
fn has_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

/// How long to wait for a reader: without limit until an end is requested or due, then for a short time.
struct Patience {
    requests: StopRequests,
    end_at: Option<Instant>,
}

impl Patience {
    /// Why the wait must end. None: it continues.
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
    fn the_output_accepts_no_more_events_than_its_limit() {
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
    fn a_full_disk_is_a_failure_and_all_that_comes_after_it_counts_as_not_written() {
        let mut output = output(File::create("/dev/full").unwrap());
        put(&mut output, "one\n");
        let broken = output.write_out().unwrap_err();
        assert_eq!(output.written_count(), 0);
        let text = output.failure(&broken).to_string();
        assert!(
            text.contains("write the events to test: No space left"),
            "{text}"
        );
        output.write_out().unwrap(); // reported once
        put(&mut output, "two\n");
        output.write_out().unwrap();
        assert_eq!((output.written_count(), output.not_written_count()), (0, 2));
    }

    #[test]
    fn a_reader_that_has_gone_is_a_failure_unless_it_read_standard_output() {
        let (reader, writer) = pipe().unwrap();
        let mut output = output(writer);
        drop(reader);
        put(&mut output, "one\n");
        let broken = output.write_out().unwrap_err();
        assert!(matches!(broken, Broken::Closed) && !output.is_good_end(&broken));
        assert_eq!((output.written_count(), output.not_written_count()), (0, 1));
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_an_end_only_for_a_while() {
        let (_reader, writer) = pipe().unwrap();
        let mut output = output(writer);
        let line = "x".repeat(99) + "\n";
        output.patience.requests.add();
        let started = Instant::now();
        while !output.is_over() {
            put(&mut output, &line);
        }
        assert!(matches!(output.write_out(), Err(Broken::Stalled)));
        assert!(started.elapsed() >= GRACE);
        assert_eq!(output.written_count(), (64 << 10) / 100);
    }

    #[test]
    fn an_end_at_once_does_not_wait_for_a_reader() {
        let (_reader, writer) = pipe().unwrap();
        let mut output = output(writer);
        for _ in 0..2 {
            output.patience.requests.add();
        }
        while !output.is_over() {
            put(&mut output, "line\n");
        }
        assert!(matches!(output.write_out(), Err(Broken::AtOnce)));
    }

    #[test]
    fn a_part_of_a_line_is_taken_back_from_a_file() {
        for records in [false, true] {
            let mut file = nameless_file();
            let mut output = Output::new(
                Sink::of_own_file(&file).unwrap(),
                "test".to_owned(),
                StopRequests::default(),
            );
            for _ in 0..3 {
                put(&mut output, "event\n");
                if records {
                    output.record(|buffer| buffer.extend_from_slice(b"record\n"));
                }
            }
            // As on a disk that is full after 16 bytes.
            output.write_some(0).unwrap();
            rustix::fs::ftruncate(&file, 16).unwrap();
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(16)).unwrap();
            output.settle(16);
            let mut text = String::new();
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
            file.read_to_string(&mut text).unwrap();
            let (want, count) = if records {
                ("event\nrecord\n", 1)
            } else {
                ("event\nevent\n", 2)
            };
            assert_eq!((text.as_str(), output.written_count()), (want, count));
        }
    }

    fn nameless_file() -> File {
        let name = std::env::temp_dir().join(format!("nlring-output-{}", std::process::id()));
        let mut options = File::options();
        let file = options
            .read(true)
            .append(true)
            .create_new(true)
            .open(&name)
            .unwrap();
        std::fs::remove_file(name).unwrap();
        file
    }
}

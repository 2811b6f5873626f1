//! In which order batches are handed over while there is a backlog.

use std::fs;
use std::sync::Mutex;

use super::*;
use crate::config::{self, Live, Records};
use crate::host::Pulses;
use crate::record::recording::Recording;
use crate::spool::{End, Syncs, Writer};

/// A call of an output, with the time of its batch in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Take(u64),
    Begin(u64),
    TakeAhead(u64),
    Join,
}
use Call::{Begin, Join, Take, TakeAhead};

/// An output. With each batch that it takes in order, and when the lanes join, another one is written, up to the last.
struct Receiver {
    directory: PathBuf,
    can_begin: bool,
    /// With this batch, all segments but the last are removed.
    removes_at: Option<u64>,
    calls: Arc<Mutex<Vec<Call>>>,
    acknowledged: Acknowledged,
    writer: Option<Writer>,
    last: u64,
    written: u64,
}

fn seconds(time: Timestamp) -> u64 {
    time.as_ns() / 1_000_000_000
}

fn covered(batch: &RecordBatch) -> Timestamp {
    batch::last_mark(batch).expect("each batch has a mark")
}

impl Receiver {
    fn note(&self, call: Call) {
        self.calls.lock().expect("no panic").push(call);
    }

    /// Removes segments, without leaving a trace.
    fn remove_segments(&self) {
        let entries = fs::read_dir(&self.directory).expect("a spool");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut segments: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "zst"))
            .collect();
        segments.sort_unstable();
        segments.pop();
        assert!(!segments.is_empty(), "there are several");
        for segment in segments {
            fs::remove_file(segment).expect("it is removed");
        }
    }

    /// Writes a batch with the mark of the next second, or closes the spool.
    fn write(&mut self) {
        if self.written == self.last {
            self.writer.take().expect("it is open").close();
            self.last = 0;
        } else if let Some(writer) = &mut self.writer {
            self.written += 1;
            let mut columns = Columns::default();
            let mark = Record {
                time: Timestamp::from_ns(self.written * 1_000_000_000),
                namespace: u16::MAX,
                body: Body::Mark,
            };
            columns.push(&mark, &[]);
            writer.append(&columns.take()).expect("it is written");
        }
    }
}

impl Output for Receiver {
    fn name(&self) -> &'static str {
        "receiver"
    }

    fn resume(&mut self, _saved: Acknowledged) -> Result<()> {
        Ok(())
    }

    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()> {
        self.note(Take(seconds(covered(batch))));
        self.acknowledged.position = behind;
        self.write();
        if self.removes_at == Some(seconds(covered(batch))) {
            self.remove_segments();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn acknowledged(&self) -> Acknowledged {
        self.acknowledged
    }

    fn ahead(&mut self) -> Option<&mut dyn Ahead> {
        Some(self)
    }
}

impl Ahead for Receiver {
    fn begin(&mut self, end: End) -> bool {
        if self.can_begin {
            self.note(Begin(seconds(end.covered)));
        }
        self.can_begin
    }

    fn take(&mut self, _behind: Position, batch: &RecordBatch) -> Result<()> {
        self.note(TakeAhead(seconds(covered(batch))));
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        self.note(Join);
        self.write();
        Ok(())
    }
}

/// The calls of an output that finds a spool with this many batches, which is written up to the last one meanwhile.
fn calls(
    name: &str,
    can_begin: bool,
    removes_at: Option<u64>,
    [backlog, last]: [u64; 2],
) -> Vec<Call> {
    let directory =
        std::env::temp_dir().join(format!("nlringd-pump-{name}-{}", std::process::id()));
    let spool = config::Spool {
        directory: directory.clone(),
        // Each segment has a few batches.
        segment: config::Bytes(2000),
        sync: config::Sync::Never,
        ..config::Spool::default()
    };
    let recording = Recording {
        node: "gw".to_owned(),
        records: Records::Flows,
        routes: false,
        open_interval: Duration::from_secs(900),
        clock_since_ns: 0,
    };
    let opened = Writer::open(Live::new(spool), recording, 0, Syncs::of_test());
    let (writer, _) = opened.expect("a spool");
    let tail = writer.tail();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut output = Receiver {
        directory: directory.clone(),
        can_begin,
        removes_at,
        calls: calls.clone(),
        acknowledged: Acknowledged::default(),
        writer: Some(writer),
        last,
        written: 0,
    };
    (0..backlog).for_each(|_| output.write());
    let cursor = Cursor::open(&directory, "receiver").expect("a cursor");
    let metrics = Metrics::new(Pulses::default());
    let mut pump = Pump::new(Box::new(output), cursor, directory.clone(), tail, metrics);
    pump.attempt(&mut None).expect("it works");
    fs::remove_dir_all(directory).expect("it is removed");
    calls.lock().expect("no panic").clone()
}

#[test]
fn the_latest_batches_go_ahead_of_a_backlog() {
    let expected = [
        Take(1),
        // The batch that was written meanwhile is the first one behind this end.
        Begin(7),
        Take(2),
        TakeAhead(8),
        Take(3),
        TakeAhead(9),
        Take(4),
        TakeAhead(10),
        Take(5),
        TakeAhead(11),
        Take(6),
        TakeAhead(12),
        Take(7),
        TakeAhead(13),
        Join,
        Take(14),
    ];
    assert_eq!(calls("backlog", true, None, [6, 14]), expected);
}

#[test]
fn without_a_backlog_and_if_the_output_cannot_the_order_is_that_of_the_spool() {
    for (name, can_begin, backlog) in [("live", true, 3), ("refused", false, 6)] {
        let expected: Vec<Call> = (1..=14).map(Take).collect();
        assert_eq!(calls(name, can_begin, None, [backlog, 14]), expected);
    }
}

#[test]
fn a_backlog_that_is_removed_ends_where_the_latest_batches_begin() {
    let calls = calls("removed", true, Some(3), [30, 60]);
    let joined = calls.iter().position(|call| *call == Join);
    let (before, after) = calls.split_at(joined.expect("the lanes join"));
    let taken = before.iter().filter(|call| matches!(call, Take(_)));
    assert!(taken.count() < 31, "some are removed");
    assert!(!before.contains(&Take(32)), "it is ahead: {before:?}");
    let ahead = before.iter().filter_map(|call| match call {
        TakeAhead(second) => Some(*second),
        _ => None,
    });
    let rest = after.iter().filter_map(|call| match call {
        Take(second) => Some(*second),
        _ => None,
    });
    let latest: Vec<u64> = ahead.chain(rest).collect();
    assert_eq!(latest, (32..=60).collect::<Vec<_>>(), "each once");
}

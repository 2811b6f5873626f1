//! The history of a host in a made-up time, with everything that loses records: nlringd is stopped and killed, the kernel
//! and the spool lose records, the clock is set.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nlring::conntrack::{Layer4, Tuple};
use nlring::{EventKind, Timestamp};
use nlring_testing::Random;

use crate::config::{self, Bytes, Live, Records, Span};
use crate::output::files::Files;
use crate::output::{Output as _, batch_of_loss};
use crate::record::columns::Columns;
use crate::record::recording::Recording;
use crate::record::{Body, FlowBody, LossBody, LossReason, Record};
use crate::spool::{Acknowledged, Read, Reader, Removal, Syncs, Writer};

const TICK_MS: i64 = 1000;
const BEGIN_MS: i64 = 1_700_000_000_000;
const LENGTH_MS: i64 = 120_000;

/// A flow. Times are those of a clock that is never set, in milliseconds.
#[derive(Clone, Debug)]
pub struct Flow {
    number: u16,
    begin: i64,
    end: i64,
    /// nlringd has it in its table.
    is_known: bool,
    /// When nlringd received the event of the beginning.
    observed: Option<Timestamp>,
}

#[derive(Debug)]
pub struct History {
    directory: PathBuf,
    flows: Vec<Flow>,
    /// From these times on, the clock is ahead by so much.
    clock: Vec<(i64, i64)>,
    /// nlringd was stopped at the end, so all records are in files.
    pub is_ended: bool,
    /// What happened, for messages.
    log: Vec<String>,
}

impl Flow {
    pub fn source(&self) -> IpAddr {
        let [high, low] = self.number.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
    }

    fn body(&self, kind: EventKind) -> FlowBody {
        let ports = Layer4::Ports { src: 1024, dst: 53 };
        let server = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        FlowBody {
            kind,
            orig: Tuple::new(self.source(), server, 17, ports),
            nat: None,
            zone: None,
            id: None,
            status: None,
            state: None,
            timeout_seconds: None,
            mark: None,
            counters_orig: None,
            counters_reply: None,
            start: None,
            observed_start: self.observed,
            stop: None,
            details: None,
            ended_between: None,
        }
    }
}

impl History {
    pub fn new(seed: u64) -> Self {
        let name = format!("nlringd-history-{}-{seed}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let mut random = Random::new(seed);
        let flows = (0..60).map(|number| {
            let begin = i64::from(random.below(120_000)) - 10_000;
            let longest = [50, 2000, 15_000, 60_000][random.index(4)];
            Flow {
                number,
                begin,
                end: begin + 1 + i64::from(random.below(longest)),
                is_known: false,
                observed: None,
            }
        });
        let history = Self {
            directory,
            flows: flows.collect(),
            clock: vec![(i64::MIN, BEGIN_MS)],
            is_ended: false,
            log: Vec::new(),
        };
        Host::new(history, random).live()
    }

    pub fn spool(&self) -> PathBuf {
        self.directory.join("spool")
    }

    pub fn was_set_back(&self) -> bool {
        let mut pairs = self.clock.windows(2);
        pairs.any(|pair| pair[1].1 < pair[0].1)
    }

    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// The complete files.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.join("files")).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let is_complete = |path: &PathBuf| path.extension().is_some_and(|end| end == "parquet");
        let mut files: Vec<_> = paths.filter(is_complete).collect();
        files.sort_by_key(|path| path.to_str().map(|path| path[path.len() - 27..].to_owned()));
        files
    }

    /// What the clock says at a time, in milliseconds.
    fn clock(&self, real: i64) -> i64 {
        let (_, ahead) = self
            .clock
            .iter()
            .rfind(|(since, _)| *since <= real)
            .expect("the first");
        real + ahead
    }

    fn timestamp(&self, real: i64) -> Timestamp {
        Timestamp::from_ns(u64::try_from(self.clock(real) * 1_000_000).expect("after 1970"))
    }

    /// A flow, and what the clock showed at a time at which it existed.
    pub fn flow_and_time(&self, random: &mut Random) -> (&Flow, i64) {
        let flow = &self.flows[random.index(self.flows.len())];
        let length = u32::try_from(flow.end - flow.begin).expect("short");
        let real = flow.begin + i64::from(random.below(length));
        (flow, self.clock(real))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    ClockSet(i64),
    Begins(usize),
    Open(usize),
    Ends(usize),
    LossEnds,
    Repaired,
}

/// The host while nlringd runs on it.
struct Host {
    history: History,
    random: Random,
    now: i64,
    recording: Recording,
    writer: Writer,
    reader: Reader,
    files: Files,
    saved: Acknowledged,
    cursor: Arc<AtomicU64>,
    covered: Option<Timestamp>,
    columns: Columns,
    has_records: bool,
    lost_since: Option<i64>,
    wrong_since: Option<Timestamp>,
    repair_at: Option<i64>,
    /// The output does not read.
    is_slow: bool,
    /// The larger, the less happens.
    calm: u32,
    spool: config::Spool,
    file_config: config::Files,
}

impl Host {
    fn new(history: History, mut random: Random) -> Self {
        let spool = config::Spool {
            directory: history.spool(),
            segment: Bytes([1, 3000][random.index(2)]),
            sync: config::Sync::Never,
            ..config::Spool::default()
        };
        let calm = [1, 4, 20][random.index(3)];
        let interval = [1, 3, 10, 30][random.index(4)];
        let file_config = config::Files {
            directory: history.directory.join("files"),
            rotate_interval: Span(Duration::from_secs(interval)),
            ..config::Files::default()
        };
        let recording = Recording {
            node: "gw".to_owned(),
            records: Records::Flows,
            routes: false,
            open_interval: Duration::from_secs(u64::from(2 + random.below(6))),
            clock_since_ns: 0,
        };
        let (writer, _) = Writer::open(
            Live::new(spool.clone()),
            recording.clone(),
            0,
            Syncs::of_test(),
        )
        .expect("a spool");
        let files = Files::new("gw", Live::new(file_config.clone()));
        files.create_directory().expect("a directory");
        let reader = Reader::new(
            spool.directory.clone(),
            writer.tail(),
            Acknowledged::default().position,
        );
        let mut host = Self {
            history,
            random,
            now: 0,
            recording,
            writer,
            reader,
            files,
            saved: Acknowledged::default(),
            cursor: Arc::default(),
            covered: None,
            columns: Columns::default(),
            has_records: false,
            lost_since: None,
            wrong_since: None,
            repair_at: None,
            is_slow: false,
            calm,
            spool,
            file_config,
        };
        host.begin(Vec::new());
        host
    }

    fn live(mut self) -> History {
        while self.now < LENGTH_MS {
            match self.random.below(25 * self.calm) {
                0 => self.stop(),
                1 => self.kill(),
                2 => self.is_slow = !self.is_slow,
                _ => self.tick(),
            }
        }
        match self.random.below(3) {
            0 => {
                self.stop();
                self.history.is_ended = true;
            }
            1 => self.kill(),
            _ => {}
        }
        self.history
    }

    fn push(&mut self, real: i64, body: Body) {
        let record = Record {
            time: self.history.timestamp(real),
            namespace: u16::MAX,
            body,
        };
        self.columns.push(&record, &[]);
        self.has_records = true;
    }

    fn append(&mut self) {
        if std::mem::take(&mut self.has_records) {
            self.writer.append(&self.columns.take()).expect("a batch");
        }
    }

    /// nlringd has started, and knows all existing flows.
    fn begin(&mut self, missing: Vec<LossBody>) {
        for loss in missing {
            self.push(self.now, Body::Loss(loss));
        }
        self.push(self.now, Body::Mark);
        self.append();
        for flow in &mut self.history.flows {
            flow.is_known = flow.begin <= self.now && flow.end > self.now;
            flow.observed = None;
        }
    }

    /// What happens until a time.
    fn steps(&mut self, until: i64) -> Vec<(i64, Step)> {
        let mut steps = Vec::new();
        let interval = i64::try_from(self.recording.open_interval.as_millis()).expect("short");
        let now = self.now;
        let mut add = |at: i64, step: Step| {
            if at > now && at <= until {
                steps.push((at, step));
            }
        };
        for (number, flow) in self.history.flows.iter().enumerate() {
            add(flow.begin, Step::Begins(number));
            add(flow.end, Step::Ends(number));
            let cycle = until / interval;
            for cycle in [cycle - 1, cycle] {
                // Each flow has another place in each cycle.
                let place = (cycle * 7919 + i64::from(flow.number) * 104_729).rem_euclid(interval);
                add(cycle * interval + place, Step::Open(number));
            }
        }
        if let Some(at) = self.repair_at {
            add(at, Step::Repaired);
        }
        if self.random.one_in(12 * self.calm) && self.lost_since.is_none() {
            let begin = self.now + i64::from(self.random.below(400));
            self.lost_since = Some(begin);
            add(
                begin + 1 + i64::from(self.random.below(500)),
                Step::LossEnds,
            );
        }
        if self.random.one_in(40 * self.calm) {
            let by = [-30_000, -3000, -1200, 1500, 20_000][self.random.index(5)];
            add(
                now + 1 + i64::from(self.random.below(900)),
                Step::ClockSet(by),
            );
        }
        steps.sort_by_key(|(at, _)| *at);
        steps
    }

    /// A second, at whose end there is a mark.
    fn tick(&mut self) {
        let (begin, end) = (self.now, self.now + TICK_MS);
        self.live_until(end);
        let (before, now) = (self.history.timestamp(begin), self.history.timestamp(end));
        let expected = before + Duration::from_secs(1);
        if now != expected {
            let back = expected.as_ns().saturating_sub(now.as_ns());
            self.push(
                end,
                Body::Loss(LossBody {
                    subject: None,
                    reason: LossReason::Clock,
                    count: None,
                    since: Timestamp::from_ns(before.as_ns() - back),
                    until: expected.max(now),
                }),
            );
        }
        let body = match self.wrong_since {
            None => Body::Mark,
            Some(_) => Body::MarkBeforeRepair,
        };
        self.push(end, body);
        self.append();
        if !self.is_slow {
            self.pump();
        }
        self.remove();
    }

    fn live_until(&mut self, end: i64) {
        for (at, step) in self.steps(end) {
            self.take(at, step);
        }
        self.now = end;
    }

    fn take(&mut self, at: i64, step: Step) {
        let is_lost = self.lost_since.is_some_and(|since| since <= at);
        match step {
            Step::ClockSet(by) => {
                self.append();
                let ahead = self.history.clock(at) - at + by;
                self.history.clock.push((at, ahead));
                self.history
                    .log
                    .push(format!("{at}: the clock is set by {by}"));
            }
            Step::Begins(number) if !is_lost => {
                let time = self.history.timestamp(at);
                let flow = &mut self.history.flows[number];
                (flow.is_known, flow.observed) = (true, Some(time));
            }
            Step::Ends(number) if !is_lost => self.record_end(at, number, None),
            Step::Open(number) if self.history.flows[number].is_known => {
                let body = self.history.flows[number].body(EventKind::Entry);
                self.push(at, Body::Open(body));
            }
            Step::LossEnds => self.record_loss(at),
            Step::Repaired => self.repair(at),
            _ => {}
        }
    }

    fn record_end(
        &mut self,
        at: i64,
        number: usize,
        ended_between: Option<(Timestamp, Timestamp)>,
    ) {
        let mut body = self.history.flows[number].body(EventKind::Delete);
        body.ended_between = ended_between;
        self.history.flows[number].is_known = false;
        self.push(at, Body::Flow(body));
    }

    fn record_loss(&mut self, at: i64) {
        let since = self.lost_since.take().expect("a loss");
        let until = self.history.timestamp(at);
        let since = self.history.timestamp(since).min(until);
        let since = self.wrong_since.map_or(since, |wrong| wrong.min(since));
        self.wrong_since = Some(since);
        self.repair_at = Some(at + 1 + i64::from(self.random.below(5000)));
        self.history.log.push(format!("{at}: a loss since {since}"));
        self.push(
            at,
            Body::Loss(LossBody {
                subject: None,
                reason: LossReason::Kernel,
                count: Some(1),
                since,
                until,
            }),
        );
    }

    /// The table equals the kernel's again.
    fn repair(&mut self, at: i64) {
        let Some(since) = self.wrong_since.filter(|_| self.lost_since.is_none()) else {
            return;
        };
        (self.wrong_since, self.repair_at) = (None, None);
        let now = self.history.timestamp(at);
        for number in 0..self.history.flows.len() {
            let flow = &mut self.history.flows[number];
            let is_there = flow.begin <= at && flow.end > at;
            if flow.is_known && !is_there {
                self.record_end(at, number, Some((since.min(now), now)));
            } else if !flow.is_known && is_there {
                (flow.is_known, flow.observed) = (true, None);
            }
        }
    }

    /// The output takes what is in the spool.
    fn pump(&mut self) {
        loop {
            match self.reader.next(Duration::ZERO).expect("a spool") {
                Read::Batch(behind, batch) => {
                    self.covered = crate::record::batch::last_mark(&batch).or(self.covered);
                    self.files.take(behind, &batch).expect("taken");
                }
                Read::Missing(behind, mut loss) => {
                    self.history
                        .log
                        .push(format!("{}: the spool has lost {loss:?}", self.now));
                    loss.since = self
                        .covered
                        .map_or(loss.since, |covered| covered.min(loss.since));
                    self.covered = Some(loss.until);
                    self.files
                        .take(behind, &batch_of_loss(loss))
                        .expect("taken");
                }
                Read::Nothing | Read::End => break,
            }
        }
        if self.random.percent(70) {
            self.saved = self.files.acknowledged();
            self.cursor
                .store(self.saved.position.segment, Ordering::Relaxed);
        }
    }

    /// Removes what the output has, and sometimes more.
    fn remove(&mut self) {
        let is_full = self.random.one_in(20 * self.calm);
        let config = config::Spool {
            max_bytes: Bytes(if is_full { 0 } else { u64::MAX }),
            ..self.spool.clone()
        };
        let removal = Removal::new(Live::new(config), vec![self.cursor.clone()]);
        removal.run(self.writer.needed()).expect("removed");
    }

    fn stop(&mut self) {
        self.lost_since = None;
        let end = self.now;
        self.repair(end);
        for number in 0..self.history.flows.len() {
            if self.history.flows[number].is_known {
                let body = self.history.flows[number].body(EventKind::Entry);
                self.push(end, Body::Open(body));
            }
        }
        self.push(end, Body::End);
        self.append();
        self.pump();
        self.files.finish().expect("finished");
        self.saved = self.files.acknowledged();
        self.history.log.push(format!("{end}: stopped"));
        self.restart(true);
    }

    fn kill(&mut self) {
        let end = self.now + i64::from(self.random.below(1000));
        self.live_until(end);
        if self.random.percent(50) {
            self.append();
        }
        self.history.log.push(format!("{end}: killed"));
        let is_power_loss = self.random.one_in(6);
        if is_power_loss {
            self.history.log.push("the segments are lost".to_owned());
            remove_segments(&self.spool.directory);
        }
        self.restart(!is_power_loss);
    }

    /// nlringd does not run for a while. The clock may be set meanwhile.
    fn restart(&mut self, may_be_set: bool) {
        self.columns = Columns::default();
        (
            self.has_records,
            self.lost_since,
            self.wrong_since,
            self.repair_at,
        ) = (false, None, None, None);
        self.now += 1 + i64::from(self.random.below(4000));
        if may_be_set && self.random.one_in(8) {
            let by = [-20_000, 20_000][self.random.index(2)];
            let ahead = self.history.clock(self.now) - self.now + by;
            self.history.clock.push((self.now, ahead));
            self.history
                .log
                .push(format!("{}: the clock is set by {by}", self.now));
        }
        self.recording.clock_since_ns = self.history.timestamp(self.now).as_ns();
        self.recording.open_interval = Duration::from_secs(u64::from(2 + self.random.below(6)));
        self.files = Files::new("gw", Live::new(self.file_config.clone()));
        self.files.resume(self.saved).expect("resumed");
        let newest = self
            .files
            .newest()
            .expect("a directory")
            .unwrap_or_default();
        let taken = newest.max(self.saved.position).segment;
        let (spool, recording) = (self.spool.clone(), self.recording.clone());
        // The lock of the writer before must go first.
        let elsewhere = config::Spool {
            directory: self.history.directory.join("elsewhere"),
            ..spool.clone()
        };
        let (placeholder, _) =
            Writer::open(Live::new(elsewhere), recording.clone(), 0, Syncs::of_test())
                .expect("a spool");
        drop(std::mem::replace(&mut self.writer, placeholder));
        let (writer, found) =
            Writer::open(Live::new(spool), recording, taken, Syncs::of_test()).expect("a spool");
        self.writer = writer;
        let found = found.or_of_outputs(self.saved.covered, &self.recording);
        self.covered = self.saved.covered;
        self.cursor
            .store(self.saved.position.segment, Ordering::Relaxed);
        self.reader = Reader::new(
            self.spool.directory.clone(),
            self.writer.tail(),
            self.saved.position,
        );
        let now = self.history.timestamp(self.now);
        self.history.log.push(format!("{}: started", self.now));
        self.begin(found.missing(now));
    }
}

fn remove_segments(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "zst") {
            fs::remove_file(path).expect("removed");
        }
    }
}

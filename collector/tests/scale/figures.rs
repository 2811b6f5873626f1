//! The figures of a run.

use std::ops::Sub;
use std::time::Duration;

use super::load::Made;
use super::run::Plan;
use super::stored::Stored;

/// What all programs of a kind have taken together: CPU time, and bytes on disks and networks.
#[derive(Clone, Copy, Default)]
pub struct Taken {
    /// The threads of nlringd.
    pub receive: Duration,
    pub spool: Duration,
    pub publish: Duration,
    pub servers: Duration,
    pub spool_bytes: u64,
    pub stream_bytes: u64,
    pub from_hosts: u64,
    pub between_servers: u64,
    pub to_worker: u64,
}

impl Sub for Taken {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            receive: self.receive.saturating_sub(before.receive),
            spool: self.spool.saturating_sub(before.spool),
            publish: self.publish.saturating_sub(before.publish),
            servers: self.servers.saturating_sub(before.servers),
            spool_bytes: self.spool_bytes - before.spool_bytes,
            stream_bytes: self.stream_bytes - before.stream_bytes,
            from_hosts: self.from_hosts - before.from_hosts,
            between_servers: self.between_servers - before.between_servers,
            to_worker: self.to_worker - before.to_worker,
        }
    }
}

pub struct Figures {
    pub made: Made,
    pub taken: Taken,
    pub worker_time: Duration,
    /// The most memory of the worker.
    pub worker_mib: u64,
    pub stored: Stored,
    /// How long a question about one flow takes.
    pub asked: Duration,
}

/// The columns of the table: a head, and how many digits follow the point. CPU time (us) and bytes (B) are those of a record.
const COLUMNS: [(&str, usize); 19] = [
    ("nodes", 0),
    ("servers", 0),
    ("flows/s", 0),
    ("of a node", 0),
    ("receive us", 2),
    ("spool us", 2),
    ("publish us", 2),
    ("servers us", 2),
    ("store us", 2),
    ("all us", 2),
    ("spool B", 1),
    ("stream B", 1),
    ("Parquet B", 1),
    ("to servers B", 1),
    ("among them B", 1),
    ("to worker B", 1),
    ("files", 0),
    ("MiB of worker", 0),
    ("query ms", 0),
];

pub fn print_heads() {
    let heads: Vec<&str> = COLUMNS.iter().map(|(head, _)| *head).collect();
    eprintln!("{}", heads.join(" | "));
}

#[allow(clippy::cast_precision_loss, reason = "few records and bytes")]
impl Figures {
    /// The CPU time of a record in all programs, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        let nlringd = self.taken.receive + self.taken.spool + self.taken.publish;
        self.us(nlringd + self.taken.servers + self.worker_time)
    }

    fn us(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.made.flows as f64
    }

    fn bytes(&self, bytes: u64) -> f64 {
        bytes as f64 / self.made.flows as f64
    }

    /// Prints a line of the table.
    pub fn print(&self, plan: &Plan) {
        let taken = &self.taken;
        let rate = self.made.flows as f64 / self.made.seconds;
        let figures = [
            f64::from(plan.hosts),
            f64::from(plan.servers),
            rate,
            rate / f64::from(plan.hosts),
            self.us(taken.receive),
            self.us(taken.spool),
            self.us(taken.publish),
            self.us(taken.servers),
            self.us(self.worker_time),
            self.cpu_us(),
            self.bytes(taken.spool_bytes),
            self.bytes(taken.stream_bytes),
            self.bytes(self.stored.bytes),
            self.bytes(taken.from_hosts),
            self.bytes(taken.between_servers),
            self.bytes(taken.to_worker),
            f64::from(self.stored.files),
            self.worker_mib as f64,
            self.asked.as_secs_f64() * 1e3,
        ];
        let cells = COLUMNS.iter().zip(figures);
        let cells = cells.map(|((head, digits), figure)| {
            let width = head.len();
            format!("{figure:width$.digits$}")
        });
        eprintln!("{}", cells.collect::<Vec<_>>().join(" | "));
    }
}

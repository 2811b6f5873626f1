//! The files that are written while a command runs: --stats and --table, when a signal requests them or at an interval.
//! A signal can also request that --output be reopened.

use std::time::{Duration, Instant};

use nlring::{Running, Socket, Statistics};

use super::handler::Handler;
use super::intake::Intake;
use super::stats_file::StatsFile;
use super::summary::Summary;
use super::table_file::TableFile;
use crate::host::cpu::thread_cpu;
use crate::host::signals::FileRequests;
use crate::write::console::Console;
use crate::write::output::Output;

/// What was known when the run began, from which each summary is made.
pub struct Account {
    base: Summary,
    pub started: Instant,
    cpu_before: Duration,
}

impl Account {
    pub fn begin(base: &Summary) -> Self {
        Self {
            base: base.clone(),
            started: Instant::now(),
            cpu_before: thread_cpu(),
        }
    }

    /// The summary of the run so far.
    pub fn summary<'s>(
        &self,
        sockets: impl Iterator<Item = (Statistics, &'s Socket)>,
        handler: &impl Handler,
        output: &Output,
        not_shown_count: u64,
    ) -> Summary {
        let mut summary = self.base.clone();
        for (statistics, socket) in sockets {
            summary.add(&statistics);
            summary.note_granted(socket.recv_buffer_bytes().unwrap_or(0));
        }
        handler.add_to(&mut summary);
        summary.events = output.written_count();
        summary.not_written = output.not_written_count();
        summary.not_shown = not_shown_count.saturating_sub(summary.other_events);
        summary.time = self.started.elapsed();
        summary.set_cpu(thread_cpu().saturating_sub(self.cpu_before));
        summary
    }
}

/// Which file must be written or reopened, and when.
pub struct Reports<'a> {
    requests: FileRequests,
    table: Option<TableFile>,
    stats: Option<&'a StatsFile>,
    interval: Option<Duration>,
    /// When the statistics are due by the interval.
    due: Option<Instant>,
    /// Whether the statistics must be written. They follow the table, because they count its requests.
    is_stats_owed: bool,
    account: &'a Account,
}

impl<'a> Reports<'a> {
    pub fn new(
        requests: FileRequests,
        table: Option<TableFile>,
        stats: Option<&'a StatsFile>,
        interval: Option<Duration>,
        account: &'a Account,
    ) -> Self {
        Self {
            requests,
            table,
            stats,
            interval,
            due: interval.map(|interval| account.started + interval),
            is_stats_owed: false,
            account,
        }
    }

    /// When a slice of the table or the statistics are due if no signal requests them earlier.
    pub fn due(&self, handler: &impl Handler) -> Option<Instant> {
        if self.is_table_due(handler) {
            Some(Instant::now())
        } else {
            self.due
        }
    }

    fn is_table_due(&self, handler: &impl Handler) -> bool {
        let table = self.table.as_ref();
        table.is_some_and(|table| table.is_due(handler))
    }

    /// The table, to be written at the end.
    pub fn into_table(self) -> Option<TableFile> {
        self.table
    }

    /// Does what is due. Call it when all lines are written. A failure is a warning, because the run continues without
    /// these files.
    pub fn after_turn<H: Handler>(
        &mut self,
        running: &Running,
        intake: &mut Intake<'_, H>,
        console: &mut Console,
    ) {
        if self.requests.take_reopen()
            && let Err(failure) = intake.output.reopen()
        {
            console.warn(failure);
        }
        if self.requests.take_report() {
            if let Some(table) = &mut self.table {
                table.ask();
            }
            self.is_stats_owed = true;
        }
        let now = Instant::now();
        if let (Some(due), Some(interval)) = (self.due, self.interval)
            && now >= due
        {
            self.due = Some(now + interval);
            self.is_stats_owed = true;
        }
        if let Some(table) = &mut self.table
            && let Err(failure) = table.advance(intake.handler)
        {
            console.warn(failure);
        }
        if self.is_stats_owed && !self.is_table_due(intake.handler) {
            self.is_stats_owed = false;
            self.write_stats(running, intake, console);
        }
    }

    fn write_stats<H: Handler>(
        &self,
        running: &Running,
        intake: &Intake<'_, H>,
        console: &mut Console,
    ) {
        let Some(stats) = self.stats else {
            return;
        };
        let sockets = intake
            .counted
            .iter()
            .filter_map(|&id| Some((running.statistics(id)?, running.socket(id)?)));
        let (handler, not_shown_count) = (&*intake.handler, intake.not_shown_count);
        let summary = self
            .account
            .summary(sockets, handler, intake.output, not_shown_count);
        if let Err(failure) = stats.write(&summary) {
            console.warn(failure);
        }
    }
}

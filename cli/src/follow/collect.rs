//! The one loop of all commands: take a turn, write its lines out, look at the clock; and the end, whatever brings it.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nlring::{
    Engine, Event, Message, MessageList, Missing, Notice, Reclaimed, Running, Socket, SocketId,
    Statistics, StopHandle, Turn,
};
use nlring_print::{Gap, since_1970_ns};

use super::gaps::Gaps;
use super::growth::Growth;
use super::retries::Retries;
use crate::follow::session::Session;
use crate::follow::summary::{StatsFile, Summary};
use crate::host::cpu::thread_cpu;
use crate::host::signals::{FileRequests, StopRequests};
use crate::outcome::{End, Failure};
use crate::write::console::Console;
use crate::write::output::{Broken, Output};

/// The longest wait for an event. A signal ends a wait; one that comes just before the wait is seen after it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What a command makes of its sockets' messages.
pub trait Lines {
    /// Gives the output the message's events: as a rule one, none when it is not to be shown.
    fn write(&mut self, incoming: &Incoming<'_>, output: &mut Output);

    /// Appends the line of a gap.
    fn write_gap(&mut self, gap: &Gap<'_>, out: &mut Vec<u8>);

    /// Something of the stream is missing.
    fn note_missing(&mut self, _missing: &Missing) {}

    /// Work that must not be done for each event, after a turn's lines are written.
    fn after_turn(
        &mut self,
        _running: &Running,
        _output: &mut Output,
        _console: &mut Console,
    ) -> Result<(), Failure> {
        Ok(())
    }

    /// When that work is due though no event comes.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Writes what else is to be written when a signal asks for a report.
    fn report(&mut self, _console: &mut Console) {}

    /// Whether that is being written now: the statistics, which count it, come after it.
    fn is_reporting(&self) -> bool {
        false
    }

    /// The end, after the last event: gives the output what is still to be told.
    /// A stop ends what waits for the kernel.
    fn finish(&mut self, _stop: &StopHandle, _output: &mut Output, _console: &mut Console) {}

    /// Adds what these lines alone know.
    fn add_to(&self, _summary: &mut Summary) {}
}

/// A message, and where and when it came in.
pub struct Incoming<'a> {
    pub socket: SocketId,
    pub message: Message<'a>,
    /// When it was taken from the socket: `CLOCK_REALTIME`, nanoseconds since 1970.
    pub received_ns: u64,
}

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub count: Option<u64>,
    pub duration: Option<Duration>,
}

impl Session<'_> {
    /// Follows the engine's events to an end. Only the `counted` sockets are in the summary and have lines for gaps.
    pub fn collect(
        &mut self,
        engine: Engine,
        counted: &[SocketId],
        limits: Limits,
        lines: &mut impl Lines,
    ) -> Result<End, Failure> {
        let requests = self.forward_signals(engine.stop_handle())?;
        let stop = StopHandle::new()?;
        let mut running = engine.start()?;
        self.summary.backend = Some(running.backend().to_string());
        self.summary.backend_reason = Some(running.backend_reason().to_owned());
        self.warn_if_delay_is_cut(&running);

        let account = Account::begin(self.summary);
        let end_at = limits.duration.map(|duration| account.started + duration);
        self.output.set_end(end_at);
        self.output.set_limit(limits.count);
        if self.truncates {
            self.output.truncate()?;
        }
        self.console.start_status(self.output.sink());
        let gaps = Gaps::new(self.console.is_log_beside(self.output.sink()));
        let mut taker = Taker {
            output: &mut self.output,
            lines,
            counted,
            requests: self.requests.clone(),
            growth: Growth::up_to(self.recv_buffer_max_bytes),
            not_shown_count: 0,
            retries: Retries::default(),
            gaps,
        };
        let mut reports = Reports::new(requests, self.stats, self.stats_interval, &account);

        let result = take_turns(&mut running, &mut taker, end_at, self.console, &mut reports);
        let (result, sockets) = end(running, &mut taker, result, self.console);
        taker.retries.after_turn(self.console);
        taker.take_gaps_left(&sockets);
        let not_shown_count = taker.not_shown_count;
        if matches!(result, Ok(End::Stopped | End::Due)) {
            self.requests.stop_on_next(stop.clone());
            lines.finish(&stop, &mut self.output, self.console);
        }
        let written = match self.output.write_out() {
            Ok(()) => Ok(()),
            Err(broken) => ended_by(&self.output, &broken).map(drop),
        };
        let ended = sockets.iter().filter(|ended| counted.contains(&ended.id));
        let sockets = ended.map(|ended| (ended.statistics, &ended.socket));
        *self.summary = account.summary(sockets, lines, &self.output, not_shown_count);
        let with_counts = |failure| match failure {
            Failure::Output(text) => {
                Failure::Output(format!("{text}; {}", self.summary.fate_of_events()))
            }
            failure => failure,
        };
        let (result, written) = (result.map_err(with_counts), written.map_err(with_counts));
        match (result, written) {
            (Ok(_), Err(failure)) => Err(failure),
            (result, written) => {
                self.further_failures.extend(written.err());
                result
            }
        }
    }
}

/// What a run began with.
struct Account {
    /// What is known from the start.
    base: Summary,
    started: Instant,
    cpu_before: Duration,
}

impl Account {
    fn begin(base: &Summary) -> Self {
        Self {
            base: base.clone(),
            started: Instant::now(),
            cpu_before: thread_cpu(),
        }
    }

    /// What it has come to.
    fn summary<'s>(
        &self,
        sockets: impl Iterator<Item = (Statistics, &'s Socket)>,
        lines: &impl Lines,
        output: &Output,
        not_shown_count: u64,
    ) -> Summary {
        let mut summary = self.base.clone();
        for (statistics, socket) in sockets {
            summary.add(&statistics);
            summary.note_granted(socket.recv_buffer_bytes().unwrap_or(0));
        }
        lines.add_to(&mut summary);
        summary.events = output.written_count();
        summary.not_written = output.not_written_count();
        summary.not_shown = not_shown_count.saturating_sub(summary.other_events);
        summary.time = self.started.elapsed();
        summary.set_cpu(thread_cpu().saturating_sub(self.cpu_before));
        summary
    }
}

/// The files that are written while it runs: because a signal asks for them, or at an interval.
struct Reports<'a> {
    requests: FileRequests,
    stats: Option<&'a StatsFile>,
    interval: Option<Duration>,
    /// When the statistics are due by the interval.
    due: Option<Instant>,
    /// They are to be written, once the table that they count is.
    is_stats_owed: bool,
    account: &'a Account,
}

impl<'a> Reports<'a> {
    fn new(
        requests: FileRequests,
        stats: Option<&'a StatsFile>,
        interval: Option<Duration>,
        account: &'a Account,
    ) -> Self {
        Self {
            requests,
            stats,
            interval,
            due: interval.map(|interval| account.started + interval),
            is_stats_owed: false,
            account,
        }
    }

    /// Does what is due with the files, as of now. All lines are written, and the events go on whatever becomes of this.
    fn after_turn<L: Lines>(
        &mut self,
        running: &Running,
        taker: &mut Taker<'_, L>,
        console: &mut Console,
    ) {
        if self.requests.take_reopen()
            && let Err(failure) = taker.output.reopen()
        {
            console.warn(failure);
        }
        if self.requests.take_report() {
            taker.lines.report(console);
            self.is_stats_owed = true;
        }
        let now = Instant::now();
        if let (Some(due), Some(interval)) = (self.due, self.interval)
            && now >= due
        {
            self.due = Some(now + interval);
            self.is_stats_owed = true;
        }
        if self.is_stats_owed && !taker.lines.is_reporting() {
            self.is_stats_owed = false;
            self.write_stats(running, taker, console);
        }
    }

    fn write_stats<L: Lines>(
        &self,
        running: &Running,
        taker: &Taker<'_, L>,
        console: &mut Console,
    ) {
        let Some(stats) = self.stats else {
            return;
        };
        let sockets = taker
            .counted
            .iter()
            .filter_map(|&id| Some((running.statistics(id)?, running.socket(id)?)));
        let summary =
            self.account
                .summary(sockets, taker.lines, taker.output, taker.not_shown_count);
        if let Err(failure) = stats.write(&summary) {
            console.warn(failure);
        }
    }
}

/// Takes turns until something ends it. Lines of the last turn may be left to write.
fn take_turns<L: Lines>(
    running: &mut Running,
    taker: &mut Taker<'_, L>,
    end_at: Option<Instant>,
    console: &mut Console,
    reports: &mut Reports<'_>,
) -> Result<End, Failure> {
    loop {
        let now = Instant::now();
        if end_at.is_some_and(|end_at| now >= end_at) {
            return Ok(End::Due);
        }
        let dues = [
            end_at,
            console.status_due(),
            taker.lines.due(),
            taker.gaps.due(),
            reports.due,
        ];
        let next = dues.into_iter().flatten().min();
        let timeout = next.map_or(LONGEST_WAIT, |next| {
            next.saturating_duration_since(now).min(LONGEST_WAIT)
        });
        match running.poll(Some(timeout), |event, _| taker.take(event))? {
            Turn::Break(result) => return result,
            Turn::Stopped => return Ok(End::Stopped),
            Turn::Idle | Turn::Delivered => {}
        }
        if let Err(broken) = taker.output.write_out() {
            return ended_by(taker.output, &broken);
        }
        taker.lines.after_turn(running, taker.output, console)?;
        if taker.output.is_over() {
            return taker.output_is_over();
        }
        if let Err(broken) = taker.output.write_out() {
            return ended_by(taker.output, &broken);
        }
        taker.growth.after_turn(running, console)?;
        taker.retries.after_turn(console);
        taker.gaps.report(console);
        reports.after_turn(running, taker, console);
        if console
            .status_due()
            .is_some_and(|due| Instant::now() >= due)
        {
            let mut live = Summary::default();
            let statistics = taker
                .counted
                .iter()
                .filter_map(|&id| running.statistics(id));
            statistics.for_each(|statistics| live.add(&statistics));
            console.show_status(live.received, live.dropped);
        }
    }
}

/// Ends the engine: after an orderly end what is queued is delivered, else it is counted as unread. A failure beside the
/// one that is returned is a warning.
fn end<L: Lines>(
    running: Running,
    taker: &mut Taker<'_, L>,
    result: Result<End, Failure>,
    console: &mut Console,
) -> (Result<End, Failure>, Vec<Reclaimed>) {
    let result = match result {
        Ok(_) if taker.requests.stop_at_once() => Ok(End::AtOnce),
        result => result,
    };
    if !matches!(result, Ok(End::Stopped | End::Due)) {
        let sockets = running.discard();
        warn_of_failures(&sockets, console);
        return (result, sockets);
    }
    let finished = running.finish(|event, _| taker.take(event));
    let result = match finished.outcome {
        Ok(None) => result,
        Ok(Some(result)) => result,
        Err(error) => Err(error.into()),
    };
    if let Some(error) = finished.failure {
        console.warn(error);
    }
    warn_of_failures(&finished.sockets, console);
    (result, finished.sockets)
}

fn warn_of_failures(sockets: &[Reclaimed], console: &mut Console) {
    let failures = sockets.iter().filter_map(|ended| ended.failure.as_ref());
    failures.for_each(|failure| console.warn(failure));
}

fn ended_by(output: &Output, broken: &Broken) -> Result<End, Failure> {
    match broken {
        Broken::AtOnce => Ok(End::AtOnce),
        broken if output.is_good_end(broken) => Ok(End::Closed),
        broken => Err(output.failure(broken)),
    }
}

/// Turns events into lines.
struct Taker<'a, L> {
    output: &'a mut Output,
    lines: &'a mut L,
    counted: &'a [SocketId],
    requests: StopRequests,
    growth: Growth,
    /// Messages that made no event.
    not_shown_count: u64,
    retries: Retries,
    gaps: Gaps,
}

impl<L: Lines> Taker<'_, L> {
    /// Takes all of an event, also when this ends the run: the list counts as received, so each message of it counts as
    /// shown, as not written, or as not shown.
    fn take(&mut self, event: Event<'_>) -> ControlFlow<Result<End, Failure>> {
        self.growth.note(&event);
        self.retries.note(&event);
        self.take_gap(&event);
        match event {
            Event::Messages(socket, list) => self.take_list(socket, &list),
            Event::Notice(_, Notice::Failed(error)) => {
                return ControlFlow::Break(Err(error.into()));
            }
            Event::Lost(..) | Event::Notice(..) => {} // what is not missing is counted
        }
        if self.requests.stop_at_once() {
            return ControlFlow::Break(Ok(End::AtOnce));
        }
        if self.output.is_over() {
            return ControlFlow::Break(self.output_is_over());
        }
        ControlFlow::Continue(())
    }

    fn take_list(&mut self, socket: SocketId, list: &MessageList<'_>) {
        let received_ns = list.received_at().map_or(0, since_1970_ns);
        let is_counted = self.counted.contains(&socket);
        for message in list {
            let before = self.output.event_count();
            let incoming = Incoming {
                socket,
                message,
                received_ns,
            };
            self.lines.write(&incoming, self.output);
            if is_counted && self.output.event_count() == before {
                self.not_shown_count += 1;
            }
        }
    }

    /// Gives what is missing its line, at its place among those of events.
    fn take_gap(&mut self, event: &Event<'_>) {
        let (Some(missing), Some(gap)) = (event.missing(), Gap::of(event)) else {
            return;
        };
        self.gaps.note(&gap);
        let lines = &mut *self.lines;
        lines.note_missing(&missing);
        self.output.record(|out| lines.write_gap(&gap, out));
    }

    /// At the end: what is missing and has no line yet.
    fn take_gaps_left(&mut self, sockets: &[Reclaimed]) {
        let mut summary = Summary::default();
        let counted = sockets
            .iter()
            .filter(|ended| self.counted.contains(&ended.id));
        counted.for_each(|ended| summary.add(&ended.statistics));
        for gap in self.gaps.left(&summary) {
            let lines = &mut *self.lines;
            lines.note_missing(&Missing::Unreadable);
            self.output.record_at_end(|out| lines.write_gap(&gap, out));
        }
    }

    fn output_is_over(&mut self) -> Result<End, Failure> {
        match self.output.write_out() {
            Err(broken) => ended_by(self.output, &broken),
            Ok(()) => Ok(End::Counted),
        }
    }
}

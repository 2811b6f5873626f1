//! The loop that all commands share: it takes a turn, writes the lines out and looks at the clock, until something ends
//! the run.

use std::time::{Duration, Instant};

use nlring::{Engine, Reclaimed, Running, SocketId, StopHandle, Turn};

use super::gaps::Gaps;
use super::growth::Growth;
use super::handler::Handler;
use super::intake::{Intake, end_of_output};
use super::reports::{Account, Reports};
use super::retries::Retries;
use super::session::Session;
use super::summary::Summary;
use crate::args::FollowArguments;
use crate::outcome::{End, Failure};
use crate::write::console::Console;

/// The longest wait for an event. A signal ends a wait, but one that arrives just before the wait is only noticed after
/// it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// When a run ends without a signal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub count: Option<u64>,
    pub duration: Option<Duration>,
}

impl Limits {
    pub fn of(follow: &FollowArguments) -> Self {
        Self {
            count: follow.count,
            duration: follow.duration,
        }
    }
}

impl Session<'_> {
    /// Follows the engine's events to an end. Only the `counted` sockets are in the summary and have lines of gaps.
    pub fn collect(
        &mut self,
        engine: Engine,
        counted: &[SocketId],
        limits: Limits,
        handler: &mut impl Handler,
    ) -> Result<End, Failure> {
        self.give_up_capabilities();
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
        let mut intake = Intake {
            output: &mut self.output,
            handler,
            counted: counted.iter().copied().collect(),
            requests: self.requests.clone(),
            growth: Growth::up_to(self.recv_buffer_max_bytes),
            not_shown_count: 0,
            retries: Retries::default(),
            gaps,
        };
        let mut reports = Reports::new(
            requests,
            self.table.take(),
            self.stats,
            self.stats_interval,
            &account,
        );

        let result = take_turns(
            &mut running,
            &mut intake,
            end_at,
            self.console,
            &mut reports,
        );
        let (result, sockets) = end(running, &mut intake, result, self.console);
        intake.retries.after_turn(self.console);
        intake.write_gaps_left(&sockets);
        let (not_shown_count, counted) = (intake.not_shown_count, intake.counted);
        let table = reports.into_table();
        if matches!(result, Ok(End::Stopped | End::Due)) {
            self.requests.stop_on_next(stop.clone());
            handler.finish(&stop, &mut self.output, self.console);
        }
        let written = match self.output.write_out() {
            Ok(()) => Ok(()),
            Err(broken) => end_of_output(&self.output, &broken).map(drop),
        };
        let ended = sockets.iter().filter(|ended| counted.contains(&ended.id));
        let sockets = ended.map(|ended| (ended.statistics, &ended.socket));
        *self.summary = account.summary(sockets, handler, &self.output, not_shown_count);
        if let Some(table) = table {
            let written = table.end(handler, self.console);
            self.further_failures.extend(written.err());
        }
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

/// Takes turns until something ends the run. Lines of the last turn may still be in the buffer.
fn take_turns<H: Handler>(
    running: &mut Running,
    intake: &mut Intake<'_, H>,
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
            intake.handler.due(),
            intake.gaps.due(),
            reports.due(intake.handler),
        ];
        let next = dues.into_iter().flatten().min();
        let timeout = next.map_or(LONGEST_WAIT, |next| {
            next.saturating_duration_since(now).min(LONGEST_WAIT)
        });
        match running.poll(Some(timeout), |event, _| intake.feed(event))? {
            Turn::Break(result) => return result,
            Turn::Stopped => return Ok(End::Stopped),
            Turn::Idle | Turn::Delivered => {}
        }
        if let Err(broken) = intake.output.write_out() {
            return end_of_output(intake.output, &broken);
        }
        intake.update_sockets(running, console);
        intake.handler.after_turn(running, intake.output, console);
        if intake.output.is_over() {
            return intake.output_is_over();
        }
        if let Err(broken) = intake.output.write_out() {
            return end_of_output(intake.output, &broken);
        }
        intake.growth.after_turn(running, console)?;
        intake.retries.after_turn(console);
        intake.gaps.report(console);
        reports.after_turn(running, intake, console);
        if console
            .status_due()
            .is_some_and(|due| Instant::now() >= due)
        {
            let mut live = Summary::default();
            let statistics = intake
                .counted
                .iter()
                .filter_map(|&id| running.statistics(id));
            statistics.for_each(|statistics| live.add(&statistics));
            console.show_status(live.received, live.dropped);
        }
    }
}

/// Ends the engine. An orderly end delivers what is queued; any other end counts it as unread. Failures in addition to
/// the returned one become warnings.
fn end<H: Handler>(
    running: Running,
    intake: &mut Intake<'_, H>,
    result: Result<End, Failure>,
    console: &mut Console,
) -> (Result<End, Failure>, Vec<Reclaimed>) {
    let result = match result {
        Ok(_) if intake.requests.stop_at_once() => Ok(End::AtOnce),
        result => result,
    };
    if !matches!(result, Ok(End::Stopped | End::Due)) {
        let sockets = running.discard();
        warn_of_failures(&sockets, console);
        return (result, sockets);
    }
    let finished = running.finish(|event, _| intake.feed(event));
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

//! The mirror behind `nlring route --mirror`: what it makes of the events, as lines.

use std::time::Instant;

use nlring::EventKind;
use nlring::route::{Change, Mirror, MirrorOptions, Route};
use nlring::{Message, Missing, Resync, ResyncReason, Running, SocketId, StopHandle};
use nlring_print::realtime_now_ns;

use super::RouteFormatter;
use crate::args::{RouteArguments, RouteEvent};
use crate::follow::keeper::MirrorWatch;
use crate::follow::session::Session;
use crate::follow::summary::Summary;
use crate::follow::table_file::{TableFile, Worth};
use crate::outcome::Failure;
use crate::write::console::Console;
use crate::write::output::Output;

pub struct RouteMirror {
    mirror: Mirror,
    socket: SocketId,
    shown: Shown,
    table: Option<TableFile>,
    watch: MirrorWatch,
}

/// Which changes are shown.
#[derive(Clone, Copy)]
struct Shown {
    new: bool,
    delete: bool,
    /// What the mirror hands out: not before the first round is over, unless the table is to be shown.
    mirrored: bool,
    /// The events themselves, until the first round is over: unless the table is to be shown first, and can be.
    events: bool,
}

impl Shown {
    fn shows(self, kind: EventKind) -> bool {
        match kind {
            EventKind::New | EventKind::Update | EventKind::Entry => self.new,
            EventKind::Delete => self.delete,
        }
    }

    /// A round failed: if it was the first, the events no longer wait for the table.
    fn note_failure(&mut self, is_complete: bool) {
        self.events |= !is_complete;
    }
}

impl RouteMirror {
    pub fn open(
        arguments: &RouteArguments,
        socket: SocketId,
        session: &Session<'_>,
    ) -> Result<Self, Failure> {
        let table = &arguments.collector.table;
        let mut options = MirrorOptions::new().resync_interval(table.resync_interval);
        if let Some(interval) = table.audit_interval.to_option() {
            options = options.audit_interval(interval);
        }
        if let Some(bytes) = table.mirror_memory_bytes {
            options = options.memory_bytes(bytes);
        }
        Ok(Self {
            mirror: Mirror::new(options),
            socket,
            shown: Shown {
                new: arguments.events.contains(&RouteEvent::New),
                delete: arguments.events.contains(&RouteEvent::Delete),
                mirrored: table.snapshot,
                events: !table.snapshot,
            },
            table: (table.table.as_deref())
                .map(|path| TableFile::open(path, session))
                .transpose()?,
            watch: MirrorWatch::default(),
        })
    }

    /// Takes a message of the socket, whatever it is.
    pub fn take(
        &mut self,
        message: &Message<'_>,
        received_ns: u64,
        formatter: &RouteFormatter,
        output: &mut Output,
    ) {
        let shown = &mut self.shown;
        // Until the first dump is merged the mirror hands out nothing: its table comes first. Where that is not to be shown, or
        // cannot be read, the events need not wait.
        if shown.events
            && let Some(route) = &Route::decode(message)
            && shown.shows(route.kind)
        {
            output.event(|out| formatter.write_event(out, route, received_ns));
        }
        self.mirror.feed_message(message, |change| {
            show(&change, received_ns, formatter, shown, output);
        });
    }

    pub fn note_missing(&mut self, missing: &Missing) {
        self.watch.note_loss(Instant::now());
        self.mirror.note_missing(missing);
    }

    pub fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        match &self.table {
            Some(table) if table.is_due(self.worth()) => Some(now),
            _ => self.mirror.due(now),
        }
    }

    /// Whether a table that was asked for is yet to be put in its place.
    pub fn is_writing_table(&self) -> bool {
        let table = self.table.as_ref();
        table.is_some_and(|table| table.is_due(self.worth()))
    }

    fn worth(&self) -> Worth {
        if !self.mirror.is_complete() {
            Worth::Nothing
        } else if self.mirror.is_synced() {
            Worth::Right
        } else if self.mirror.health().is_full {
            Worth::Incomplete
        } else {
            Worth::Doubtful("events were lost, or routes have changed without one")
        }
    }

    /// Does what the mirror has to do.
    pub fn after_turn(
        &mut self,
        running: &Running,
        formatter: &RouteFormatter,
        output: &mut Output,
        console: &mut Console,
    ) {
        if let Some(socket) = running.socket(self.socket) {
            let (shown, received_ns) = (&mut self.shown, realtime_now_ns());
            let advanced = self.mirror.advance(socket, |change| {
                show(&change, received_ns, formatter, shown, output);
            });
            if advanced.is_err() {
                // The mirror keeps the error.
                self.shown.note_failure(self.mirror.is_complete());
            }
        }
        self.watch
            .look(&self.mirror.health(), Instant::now(), console);
        if let Err(failure) = self.write_slice(formatter) {
            console.warn(failure);
        }
    }

    /// The last event has come: reports what was missed. A stop ends the wait for the dump that shows it.
    pub fn finish(
        &mut self,
        stop: &StopHandle,
        formatter: &RouteFormatter,
        output: &mut Output,
        console: &mut Console,
    ) {
        let (shown, received_ns) = (&mut self.shown, realtime_now_ns());
        let finished = self.mirror.finish_until(stop, |change| {
            show(&change, received_ns, formatter, shown, output);
        });
        if let Err(error) = finished {
            console.warn(format_args!(
                "the mirror could not be compared with the kernel's table at the end: {error}"
            ));
        }
    }

    pub fn add_to(&self, summary: &mut Summary) {
        summary.requests += self.mirror.request_count();
        summary.add_health(&self.mirror.health());
    }

    /// Writes the table, and tells what it is worth.
    pub fn end(self, formatter: &RouteFormatter, session: &mut Session<'_>) -> Result<(), Failure> {
        let worth = self.worth();
        let entries = self.mirror.iter_from(0);
        let format = |line: &mut Vec<u8>, route| formatter.write_table_entry(line, &route);
        match self.table {
            Some(table) => table.end(worth, entries, format, session.console),
            None => Ok(()),
        }
    }

    /// Has the table written: a first slice now, and if there is more of it, another after each turn.
    pub fn write_table(&mut self, formatter: &RouteFormatter) -> Result<(), Failure> {
        if let Some(table) = &mut self.table {
            table.ask();
        }
        self.write_slice(formatter)
    }

    fn write_slice(&mut self, formatter: &RouteFormatter) -> Result<(), Failure> {
        let (mirror, worth) = (&self.mirror, self.worth());
        let Some(table) = &mut self.table else {
            return Ok(());
        };
        let entries = |position| mirror.iter_from(position);
        let format = |line: &mut Vec<u8>, route| formatter.write_table_entry(line, &route);
        table.advance(worth, entries, format)
    }
}

fn show(
    change: &Change<'_>,
    received_ns: u64,
    formatter: &RouteFormatter,
    shown: &mut Shown,
    output: &mut Output,
) {
    match change {
        Change::Route {
            route, is_resynced, ..
        } if shown.mirrored && shown.shows(route.kind) => output.event(|out| {
            let is_written = formatter.write_event(out, route, received_ns);
            if *is_resynced && is_written {
                formatter.style().mark_resynced(out);
            }
            is_written
        }),
        Change::Resynced(resync) => {
            (shown.mirrored, shown.events) = (true, false);
            if is_telling(resync) {
                output.record(|out| formatter.style().write_resync(out, resync));
            }
        }
        _ => {}
    }
}

/// The table is also looked at after each change of a device, which as a rule brings nothing.
fn is_telling(resync: &Resync) -> bool {
    resync.reason != ResyncReason::Change
        || resync.new_count + resync.update_count + resync.destroy_count > 0
}

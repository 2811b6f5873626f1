//! The mirror behind `nlring conntrack --mirror`: what it makes of the events, as lines.

use std::time::Instant;

use nlring::EventKind;
use nlring::conntrack::{Change, Flow, Mirror, MirrorOptions};
use nlring::{Message, Missing, Running, SocketId, StopHandle};
use nlring_print::conntrack::{FlowFormat, LabelNames};
use nlring_print::realtime_now_ns;

use crate::args::{ConntrackArguments, ConntrackEvent};
use crate::follow::keeper::MirrorWatch;
use crate::follow::session::Session;
use crate::follow::summary::Summary;
use crate::follow::table_file::{TableFile, Worth};
use crate::outcome::Failure;
use crate::write::console::Console;
use crate::write::output::Output;

pub struct FlowMirror {
    mirror: Mirror,
    socket: SocketId,
    shown: Shown,
    table: Option<TableFile>,
    watch: MirrorWatch,
    /// The lines of --table.
    table_format: FlowFormat,
}

/// Which changes are shown.
#[derive(Clone, Copy)]
struct Shown {
    new: bool,
    update: bool,
    destroy: bool,
    /// What stands for events: not that of the first round, unless the table is to be shown.
    resynced: bool,
}

impl Shown {
    fn of(arguments: &ConntrackArguments) -> Self {
        use ConntrackEvent::{All, Destroy, New, Update};
        let has = |event| {
            [All, event]
                .iter()
                .any(|event| arguments.events.contains(event))
        };
        Self {
            new: has(New),
            update: has(Update),
            destroy: has(Destroy),
            resynced: arguments.collector.table.snapshot,
        }
    }

    fn shows(self, kind: EventKind, is_resynced: bool) -> bool {
        let shows_kind = match kind {
            EventKind::New => self.new,
            EventKind::Update | EventKind::Entry => self.update,
            EventKind::Delete => self.destroy,
        };
        shows_kind && (self.resynced || !is_resynced)
    }
}

impl FlowMirror {
    pub fn open(
        arguments: &ConntrackArguments,
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
            shown: Shown::of(arguments),
            table: (table.table.as_deref())
                .map(|path| TableFile::open(path, session))
                .transpose()?,
            watch: MirrorWatch::default(),
            table_format: FlowFormat::Json(match table.table {
                Some(_) => LabelNames::load().unwrap_or_default(),
                None => LabelNames::default(),
            }),
        })
    }

    /// Takes a message of the socket, whatever it is.
    pub fn take(
        &mut self,
        message: &Message<'_>,
        received_ns: u64,
        format: &FlowFormat,
        output: &mut Output,
    ) {
        let shown = &mut self.shown;
        self.mirror.feed_message(message, |change| {
            show(&change, received_ns, format, shown, output);
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
            Worth::Doubtful("events were lost")
        }
    }

    /// Does what the mirror has to do.
    pub fn after_turn(
        &mut self,
        running: &Running,
        format: &FlowFormat,
        output: &mut Output,
        console: &mut Console,
    ) {
        if let Some(socket) = running.socket(self.socket) {
            let (shown, received_ns) = (&mut self.shown, realtime_now_ns());
            let advanced = self.mirror.advance(socket, |change| {
                show(&change, received_ns, format, shown, output);
            });
            drop(advanced); // the mirror keeps the error
        }
        self.watch
            .look(&self.mirror.health(), Instant::now(), console);
        if let Err(failure) = self.write_slice() {
            console.warn(failure);
        }
    }

    /// The last event has come: reports what is held back, and what was missed. A stop ends the wait for the dump that shows it.
    pub fn finish(
        &mut self,
        stop: &StopHandle,
        format: &FlowFormat,
        output: &mut Output,
        console: &mut Console,
    ) {
        let (shown, received_ns) = (&mut self.shown, realtime_now_ns());
        let finished = self.mirror.finish_until(stop, |change| {
            show(&change, received_ns, format, shown, output);
        });
        if let Err(error) = finished {
            console.warn(format_args!(
                "the mirror could not be compared with the kernel's table at the end: {error}"
            ));
        }
    }

    pub fn add_to(&self, summary: &mut Summary) {
        summary.repeated += self.mirror.repeated_count();
        summary.requests += self.mirror.request_count();
        summary.add_health(&self.mirror.health());
    }

    /// Writes the table, and tells what it is worth.
    pub fn end(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let worth = self.worth();
        let entries = self.mirror.iter_from(0);
        match self.table {
            Some(table) => {
                let format = |line: &mut Vec<u8>, flow: Flow<'_>| {
                    self.table_format.write_entry(line, &flow, 0);
                };
                table.end(worth, entries, format, session.console)
            }
            None => Ok(()),
        }
    }

    /// Has the table written: a first slice now, and if there is more of it, another after each turn.
    pub fn write_table(&mut self) -> Result<(), Failure> {
        if let Some(table) = &mut self.table {
            table.ask();
        }
        self.write_slice()
    }

    fn write_slice(&mut self) -> Result<(), Failure> {
        let (mirror, table_format, worth) = (&self.mirror, &self.table_format, self.worth());
        let Some(table) = &mut self.table else {
            return Ok(());
        };
        let entries = |position| mirror.iter_from(position);
        let format = |line: &mut Vec<u8>, flow: Flow<'_>| table_format.write_entry(line, &flow, 0);
        table.advance(worth, entries, format)
    }
}

fn show(
    change: &Change<'_>,
    received_ns: u64,
    format: &FlowFormat,
    shown: &mut Shown,
    output: &mut Output,
) {
    match change {
        Change::Flow {
            flow, is_resynced, ..
        } if shown.shows(flow.kind, *is_resynced) => output.event(|out| {
            format.write_event(out, flow, received_ns);
            if *is_resynced {
                format.style().mark_resynced(out);
            }
            true
        }),
        Change::Resynced(resync) => {
            shown.resynced = true;
            output.record(|out| format.style().write_resync(out, resync));
        }
        _ => {}
    }
}

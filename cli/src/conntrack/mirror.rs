//! The mirror of `nlring conntrack --mirror`: its changes as lines.

use std::io;
use std::time::Instant;

use nlring::EventKind;
use nlring::conntrack::{Change, Filter, Flow, Mirror};
use nlring::{Message, Missing, Running, SocketId, StopHandle, Timestamp};
use nlring_print::conntrack::{FlowFormat, LabelNames};

use crate::args::{ConntrackArguments, ConntrackEvent};
use crate::follow::keeper::{Keeper, warn_of_last_round};
use crate::follow::summary::Summary;
use crate::follow::table_file::Writing;
use crate::outcome::Failure;
use crate::write::console::Console;
use crate::write::output::Output;

/// Why the table of a mirror may be wrong.
const DOUBT: &str = "events were lost";

pub struct FlowMirror {
    mirror: Mirror,
    socket: SocketId,
    shown: Shown,
    keeper: Keeper,
    /// The lines of --table.
    table_format: FlowFormat,
}

/// Which changes are shown.
struct Shown {
    new: bool,
    update: bool,
    destroy: bool,
    /// Changes that the mirror found by comparing. Those of the first round are the whole table: only --snapshot shows
    /// them.
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

    fn shows(&self, flow: &Flow<'_>, is_resynced: bool) -> bool {
        let shows_kind = match flow.kind {
            EventKind::New => self.new,
            EventKind::Update | EventKind::Entry => self.update,
            EventKind::Delete => self.destroy,
        };
        shows_kind && (self.resynced || !is_resynced)
    }
}

impl FlowMirror {
    /// One of `count` mirrors, that of a socket. The filter says which flows it has.
    pub fn new(
        arguments: &ConntrackArguments,
        filter: Filter,
        socket: SocketId,
        count: usize,
    ) -> Result<Self, Failure> {
        let table = &arguments.collector.table;
        Ok(Self {
            mirror: Mirror::with_filter(table.mirror_options(count), filter)?,
            socket,
            shown: Shown::of(arguments),
            keeper: Keeper::new(DOUBT),
            table_format: FlowFormat::Json(match table.table {
                Some(_) => LabelNames::load().unwrap_or_default(),
                None => LabelNames::default(),
            }),
        })
    }

    /// Feeds the mirror a message of the socket, whatever its type.
    pub fn feed(&mut self, message: &Message<'_>, format: &FlowFormat, output: &mut Output) {
        let shown = &mut self.shown;
        self.mirror.feed_message(message, |change| {
            show(&change, format, shown, output);
        });
    }

    pub fn note_missing(&mut self, missing: &Missing) {
        self.keeper.note_missing();
        self.mirror.note_missing(missing);
    }

    pub fn due(&self) -> Option<Instant> {
        self.mirror.due(Instant::now())
    }

    /// Lets the mirror compare itself with the kernel's table, if that is due.
    pub fn after_turn(
        &mut self,
        running: &Running,
        format: &FlowFormat,
        output: &mut Output,
        console: &mut Console,
    ) {
        let mirror = &mut self.mirror;
        if let Some(socket) = running.socket(self.socket) {
            let shown = &mut self.shown;
            let advanced = mirror.advance(socket, |change| {
                show(&change, format, shown, output);
            });
            drop(advanced); // the mirror's health has the error
        }
        self.keeper.look(&mirror.health(), console);
    }

    /// Shows what is held back after the last event, and what was missed, for which it needs a last dump. `stop` ends
    /// the wait for it.
    pub fn finish(
        &mut self,
        stop: &StopHandle,
        format: &FlowFormat,
        output: &mut Output,
        console: &mut Console,
    ) {
        let shown = &mut self.shown;
        let finished = self.mirror.finish_until(stop, |change| {
            show(&change, format, shown, output);
        });
        warn_of_last_round(finished, console);
    }

    pub fn add_to(&self, summary: &mut Summary) {
        summary.repeated += self.mirror.repeated_count();
        summary.requests += self.mirror.request_count();
        summary.add_health(&self.mirror.health());
    }

    pub fn is_complete(&self) -> bool {
        self.mirror.is_complete()
    }

    /// Writes entries of --table.
    pub fn write_table(&self, table: &mut Writing) -> io::Result<bool> {
        let mirror = &self.mirror;
        let worth = (self.keeper).worth(mirror.is_complete(), &mirror.health());
        table.write(
            worth,
            |position| mirror.iter_from(position),
            |line, flow| {
                self.table_format
                    .write_entry(line, &flow, Timestamp::UNIX_EPOCH);
            },
        )
    }
}

fn show(change: &Change<'_>, format: &FlowFormat, shown: &mut Shown, output: &mut Output) {
    match change {
        Change::Flow {
            flow,
            is_resynced,
            received_at,
        } if shown.shows(flow, *is_resynced) => output.event(|out| {
            format.write_event(out, flow, *received_at);
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

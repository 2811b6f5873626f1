//! The mirror behind `nlring route --mirror`: what it makes of the events, as lines.

use std::time::Instant;

use nlring::route::{Change, EventKind, Mirror, MirrorOptions};
use nlring::{Message, Resync, ResyncReason, Running, SocketId};

use super::RouteFormatter;
use crate::args::{RouteArguments, RouteEvent};
use crate::collect::Missed;
use crate::gap::now_ns;
use crate::outcome::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::summary::Summary;
use crate::table::TableFile;

pub struct RouteMirror {
    mirror: Mirror,
    socket: SocketId,
    shown: Shown,
    table: Option<TableFile>,
}

/// Which changes are shown.
#[derive(Clone, Copy)]
struct Shown {
    new: bool,
    delete: bool,
    /// What stands for events: not that of the first round, unless the table is to be shown.
    resynced: bool,
}

impl Shown {
    fn shows(self, kind: EventKind, is_resynced: bool) -> bool {
        let shows_kind = match kind {
            EventKind::New => self.new,
            EventKind::Delete => self.delete,
        };
        shows_kind && (self.resynced || !is_resynced)
    }
}

impl RouteMirror {
    pub fn open(arguments: &RouteArguments, socket: SocketId) -> Result<Self, Failure> {
        let table = &arguments.collector.table;
        Ok(Self {
            mirror: Mirror::new(MirrorOptions::new().resync_interval(table.resync_interval)),
            socket,
            shown: Shown {
                new: arguments.events.contains(&RouteEvent::New),
                delete: arguments.events.contains(&RouteEvent::Delete),
                resynced: table.snapshot,
            },
            table: table.table.as_deref().map(TableFile::open).transpose()?,
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
        self.mirror.take_message(message, |change| {
            show(&change, received_ns, formatter, shown, output);
        });
    }

    pub fn note_missed(&mut self, socket: SocketId, missed: Missed) {
        match missed {
            _ if socket != self.socket => {}
            Missed::Datagrams(loss) => self.mirror.note_loss(&loss),
            Missed::Unreadable => self.mirror.note_unreadable(),
        }
    }

    pub fn due(&self) -> Option<Instant> {
        self.mirror.due(Instant::now())
    }

    /// Does what the mirror has to do.
    pub fn after_turn(
        &mut self,
        running: &Running,
        formatter: &RouteFormatter,
        output: &mut Output,
    ) -> Result<(), Failure> {
        if let Some(socket) = running.socket(self.socket) {
            let (shown, received_ns) = (&mut self.shown, now_ns());
            self.mirror.advance(socket, |change| {
                show(&change, received_ns, formatter, shown, output);
            })?;
        }
        Ok(())
    }

    pub fn add_to(&self, summary: &mut Summary) {
        summary.requests += self.mirror.request_count();
    }

    /// Writes the table, and tells what it is worth.
    pub fn end(self, formatter: &RouteFormatter, session: &mut Session<'_>) -> Result<(), Failure> {
        if !self.mirror.is_synced() {
            session.console.warn(
                "events were lost, and the end came before the table was held against the kernel's: it may be wrong",
            );
        }
        self.write_table(formatter)
    }

    /// Writes the table as it is now.
    pub fn write_table(&self, formatter: &RouteFormatter) -> Result<(), Failure> {
        match &self.table {
            Some(table) => table.write(self.mirror.iter(), |line, route| {
                formatter.write_json_entry(&route, line);
            }),
            None => Ok(()),
        }
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
        } if shown.shows(route.kind, *is_resynced) => output.event(|out| {
            let is_written = formatter.write(route, received_ns, out);
            if *is_resynced && is_written {
                formatter.mark_resynced(out);
            }
            is_written
        }),
        Change::Resynced(resync) => {
            shown.resynced = true;
            if is_telling(resync) {
                output.record(|out| formatter.write_resync(resync, out));
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

//! The mirror of `nlring route --mirror`: its changes as lines.

use std::io;
use std::time::Instant;

use nlring::EventKind;
use nlring::route::{Change, Filter, Mirror, Route};
use nlring::{Message, Missing, Resync, ResyncReason, Running, SocketId, StopHandle, Timestamp};

use super::RouteFormatter;
use crate::args::{RouteArguments, RouteEvent};
use crate::follow::keeper::{Keeper, warn_of_last_round};
use crate::follow::summary::Summary;
use crate::follow::table_file::Writing;
use crate::outcome::Failure;
use crate::write::console::Console;
use crate::write::output::Output;

/// Why the table of a mirror may be wrong.
const DOUBT: &str = "events were lost, or routes have changed without one";

pub struct RouteMirror {
    mirror: Mirror,
    socket: SocketId,
    shown: Shown,
    keeper: Keeper,
}

/// Which changes are shown.
struct Shown {
    /// Which of the events themselves. The mirror has the same filter.
    filter: Filter,
    new: bool,
    delete: bool,
    /// The mirror's changes: after the first round, and with --snapshot also those of the first round.
    mirrored: bool,
    /// The events themselves: until the first round is over, unless --snapshot shows the table before them.
    events: bool,
}

impl Shown {
    fn shows(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::New | EventKind::Update | EventKind::Entry => self.new,
            EventKind::Delete => self.delete,
        }
    }

    /// Records that a round failed. If it was the first, the events no longer wait for the table.
    fn note_failure(&mut self, is_complete: bool) {
        self.events |= !is_complete;
    }
}

impl RouteMirror {
    /// One of `count` mirrors, that of a socket. The filter says which routes it has.
    pub fn new(
        arguments: &RouteArguments,
        filter: Filter,
        socket: SocketId,
        count: usize,
    ) -> Result<Self, Failure> {
        let table = &arguments.collector.table;
        Ok(Self {
            mirror: Mirror::with_filter(table.mirror_options(count), filter.clone())?,
            socket,
            shown: Shown {
                filter,
                new: arguments.events.contains(&RouteEvent::New),
                delete: arguments.events.contains(&RouteEvent::Delete),
                mirrored: table.snapshot,
                events: !table.snapshot,
            },
            keeper: Keeper::new(DOUBT),
        })
    }

    /// Feeds the mirror a message of the socket, whatever its type.
    pub fn feed(
        &mut self,
        message: &Message<'_>,
        received_at: Timestamp,
        formatter: &RouteFormatter,
        output: &mut Output,
    ) {
        let shown = &mut self.shown;
        // The mirror reports nothing before its first round is over, because its table comes first. If the table is not
        // shown, or cannot be read, the events need not wait for it.
        if shown.events
            && let Some(route) = &Route::decode(message)
            && shown.shows(route.kind)
            && shown.filter.matches(route)
        {
            output.event(|out| formatter.write_event(out, route, received_at));
        }
        self.mirror.feed_message(message, |change| {
            show(&change, received_at, formatter, shown, output);
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
        formatter: &RouteFormatter,
        output: &mut Output,
        console: &mut Console,
    ) {
        let mirror = &mut self.mirror;
        if let Some(socket) = running.socket(self.socket) {
            let (shown, received_at) = (&mut self.shown, Timestamp::now());
            let advanced = mirror.advance(socket, |change| {
                show(&change, received_at, formatter, shown, output);
            });
            if advanced.is_err() {
                // The mirror's health has the error.
                self.shown.note_failure(mirror.is_complete());
            }
        }
        self.keeper.look(&mirror.health(), console);
    }

    /// Shows what was missed after the last event, for which it needs a last dump. `stop` ends the wait for it.
    pub fn finish(
        &mut self,
        stop: &StopHandle,
        formatter: &RouteFormatter,
        output: &mut Output,
        console: &mut Console,
    ) {
        let (shown, received_at) = (&mut self.shown, Timestamp::now());
        let finished = self.mirror.finish_until(stop, |change| {
            show(&change, received_at, formatter, shown, output);
        });
        warn_of_last_round(finished, console);
    }

    pub fn add_to(&self, summary: &mut Summary) {
        summary.requests += self.mirror.request_count();
        summary.add_health(&self.mirror.health());
    }

    pub fn is_complete(&self) -> bool {
        self.mirror.is_complete()
    }

    /// Writes entries of --table.
    pub fn write_table(&self, formatter: &RouteFormatter, table: &mut Writing) -> io::Result<bool> {
        let mirror = &self.mirror;
        let worth = (self.keeper).worth(mirror.is_complete(), &mirror.health());
        table.write(
            worth,
            |position| mirror.iter_from(position),
            |line, route| formatter.write_table_entry(line, &route),
        )
    }
}

fn show(
    change: &Change<'_>,
    received_at: Timestamp,
    formatter: &RouteFormatter,
    shown: &mut Shown,
    output: &mut Output,
) {
    match change {
        Change::Route {
            route, is_resynced, ..
        } if shown.mirrored && shown.shows(route.kind) => output.event(|out| {
            let is_written = formatter.write_event(out, route, received_at);
            if *is_resynced && is_written {
                formatter.style().mark_resynced(out);
            }
            is_written
        }),
        Change::Resynced(resync) => {
            (shown.mirrored, shown.events) = (true, false);
            if is_worth_a_line(resync) {
                output.record(|out| formatter.style().write_resync(out, resync));
            }
        }
        _ => {}
    }
}

/// Whether a resync is worth a line. The mirror also compares its table after each change of a device, usually without
/// finding a difference.
fn is_worth_a_line(resync: &Resync) -> bool {
    resync.reason != ResyncReason::Change
        || resync.new_count + resync.update_count + resync.destroy_count > 0
}

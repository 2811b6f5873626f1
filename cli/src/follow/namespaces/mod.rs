//! Following the same events in many network namespaces (`--all-netns`): one socket and one handler for each, in one
//! engine, so that lines are in the order in which their events were received.
//!
//! One socket with `NETLINK_LISTEN_ALL_NSID` could also receive the events of other namespaces. Even so, each namespace
//! has its own socket: the one socket would only receive from namespaces that have an id, all events would share its
//! receive buffer, its drop counter would not say whose events were lost, and a mirror's barriers and dumps need a
//! socket inside the namespace.

mod member;
mod members;
mod names;
mod schedule;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nlring::{Engine, Missing, Namespace, Reclaimed, Running, SocketId, StopHandle, route};
use nlring_print::text::escaped;
use nlring_print::{NamespaceChange, Style};

use super::collector::Collector;
use super::handler::{Handler, Incoming, SocketChanges};
use super::session::Session;
use super::summary::Summary;
use super::table_file::Writing;
use crate::args::AllNetns;
use crate::host::kept::Kept;
use crate::host::known_namespaces::{Found, Key, Known};
use crate::host::namespace_watch::{NameChange, NamespaceWatch};
use crate::outcome::Failure;
use crate::write::console::Console;
use crate::write::output::Output;
use member::{Member, PAUSE, Stage, origin};
use members::Members;
use names::Names;
use schedule::Schedule;

/// How often to look for changes that nothing reports: of processes' namespaces, and of ids.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest and the longest pause before another look while a name is just being added.
const SOON: [Duration; 2] = [Duration::from_micros(250), Duration::from_millis(5)];
/// How long names that are bound to no namespace are checked again soon. Later they count as leftovers.
const BINDING: Duration = Duration::from_secs(1);
/// After a look, no other begins for this many times as long as it took: with thousands of namespaces that come and go,
/// looks take at most a quarter of the time.
const REST: u32 = 3;
/// How long the handlers may work after a turn. The others work after the next one.
const WORK: Duration = Duration::from_millis(1);

/// The capabilities that are needed to follow the requested namespaces.
pub fn kept(which: AllNetns) -> Kept {
    Kept::NAMESPACES.and_if(which == AllNetns::Processes, Kept::PROCESSES)
}

/// Looks for the requested namespaces.
pub fn find(which: AllNetns) -> Result<Known, Failure> {
    Known::find(which == AllNetns::Processes)
        .map_err(|error| Failure::Other(format!("look for network namespaces: {error}")))
}

/// All namespaces, each with its socket and handler.
pub struct Namespaces<C: Collector> {
    collector: C,
    which: AllNetns,
    members: Members<C::Handler>,
    /// The place of the member whose events are handled now.
    selected: usize,
    /// When the members work, by their places.
    schedule: Schedule<usize>,
    /// The places of the members whose end has begun.
    ending: Vec<usize>,
    watch: NamespaceWatch,
    names: Names,
    scan_at: Instant,
    /// The earliest time of the next look.
    rest_until: Instant,
    /// When the names last changed.
    changed_at: Instant,
    /// Namespaces that could not be opened, of which the user was warned.
    refused: HashSet<Key>,
    /// Looks up the ids of namespaces. None: it could not be opened, and lines have no ids.
    ids: Option<route::Requests>,
    /// The counts of namespaces that are gone.
    ended: Summary,
}

impl<C: Collector> Namespaces<C> {
    /// Opens a socket in each namespace, and adds it to the engine. A namespace that vanishes in the meantime is left
    /// out.
    pub fn open(
        collector: C,
        which: AllNetns,
        engine: &mut Engine,
        session: &mut Session<'_>,
    ) -> Result<Self, Failure> {
        let watch = NamespaceWatch::start().unwrap_or_else(|error| {
            session.console.warn(format_args!(
                "namespaces that appear are noticed only after up to a second: {error}"
            ));
            NamespaceWatch::none()
        });
        let now = Instant::now();
        let mut this = Self {
            collector,
            which,
            members: Members::new(),
            selected: 0,
            schedule: Schedule::new(),
            ending: Vec::new(),
            watch,
            names: Names::default(),
            scan_at: now + SCAN_INTERVAL,
            rest_until: now,
            changed_at: now,
            refused: HashSet::new(),
            ids: route::Requests::open().ok(),
            ended: Summary::default(),
        };
        this.watch.attach();
        let mut opened = Vec::new();
        let known = find(this.which)?;
        for found in known.namespaces {
            let namespace = found.open()?;
            opened.extend(namespace.map(|namespace| (found, namespace)));
        }
        let places = opened.iter();
        let places =
            places.map(|(found, namespace)| (found.label.clone(), Some(namespace.clone())));
        let places: Vec<_> = places.collect();
        this.collector.look_around(&places, session.console);
        let count = opened.len();
        for (found, namespace) in opened {
            let (socket, recv_buffer) = this.collector.socket(Some(&namespace), session.console)?;
            session.note_recv_buffer(recv_buffer);
            let id = engine.add(socket)?;
            this.join(found, namespace, id, count)?;
        }
        this.note_handled(known.names);
        Ok(this)
    }

    pub fn collector(&self) -> &C {
        &self.collector
    }

    /// The sockets of all members.
    pub fn sockets(&self) -> Vec<SocketId> {
        self.members.iter().map(|member| member.socket).collect()
    }

    /// Creates a member for a namespace whose socket the engine has. Returns its place.
    fn join(
        &mut self,
        found: Found,
        namespace: Namespace,
        socket: SocketId,
        count: usize,
    ) -> Result<usize, Failure> {
        let ids = self.ids.as_mut();
        let nsid = ids.and_then(|ids| id_of(&namespace, ids));
        let handler = self.collector.handler(socket, Some(&namespace), count)?;
        let place = self.members.add(Member {
            origin: Rc::new(origin(&found.label, nsid)),
            found,
            namespace,
            nsid,
            socket,
            handler,
            has_work: true,
            stage: Stage::Followed,
        });
        self.schedule.plan_now(place);
        Ok(place)
    }

    fn followed(&self) -> impl Iterator<Item = &Member<C::Handler>> {
        let members = self.members.iter();
        members.filter(|member| matches!(member.stage, Stage::Followed))
    }

    /// Writes a line of a member.
    fn report(&self, place: usize, change: NamespaceChange, output: &mut Output) {
        if let Some(member) = self.members.get(place) {
            let style = self.collector.style();
            output.set_origin(style, &member.origin);
            output.record(|out| style.write_namespace(out, change));
        }
    }

    /// Checks which namespaces exist: starts following new ones, and begins the end of those that are gone.
    fn scan(
        &mut self,
        running: &mut Running,
        output: &mut Output,
        console: &mut Console,
    ) -> Vec<SocketId> {
        self.watch.attach();
        let now = Instant::now();
        let known = match find(self.which) {
            Ok(known) => known,
            Err(failure) => {
                console.warn(failure);
                self.scan_at = now + SCAN_INTERVAL;
                return Vec::new();
            }
        };
        let unchanged = now - self.changed_at;
        let is_binding = known.has_unbound_names && unchanged < BINDING;
        let [shortest, longest] = SOON;
        let soon = (unchanged / 2).clamp(shortest, longest);
        self.scan_at = now + if is_binding { soon } else { SCAN_INTERVAL };
        let keys: HashSet<Key> = known.namespaces.iter().map(|found| found.key).collect();
        self.refused.retain(|key| keys.contains(key));
        for (place, member) in self.members.iter_mut() {
            if matches!(member.stage, Stage::Followed) && !keys.contains(&member.found.key) {
                member.leave(running);
                self.schedule.plan_at(place, None);
                self.ending.push(place);
            }
        }
        let (count, names) = (known.namespaces.len(), known.names);
        let mut added = Vec::new();
        for found in known.namespaces {
            match self.members.of_namespace(found.key) {
                Some(place) => self.refresh(place, found),
                None => added.extend(self.follow(found, count, running, output, console)),
            }
        }
        self.note_handled(names);
        added
    }

    /// Records the names whose namespaces are followed, or could not be opened.
    fn note_handled(&mut self, names: Vec<(OsString, Key)>) {
        let members = self.members.iter().map(|member| member.found.key);
        let handled: HashSet<Key> = members.chain(self.refused.iter().copied()).collect();
        for (name, _) in names.into_iter().filter(|(_, key)| handled.contains(key)) {
            self.names.note_handled(name);
        }
    }

    /// Records a change of the names. A name that is gone before its namespace was opened is counted.
    fn note(&mut self, change: &NameChange, console: &mut Console) {
        if *change == NameChange::Unknown {
            console.warn(
                "network namespaces may have come and gone unnoticed, because there were more changes than the kernel \
                 keeps (fs.inotify.max_queued_events)",
            );
        }
        if let Some(name) = self.names.note(change) {
            if self.ended.missed_namespaces == 0 {
                console.warn(format_args!(
                    "the network namespace {} was gone before it could be followed (the summary counts such namespaces)",
                    escaped(name.as_bytes())
                ));
            }
            self.ended.missed_namespaces += 1;
        }
    }

    /// Records what is new about a member: its name or its id.
    fn refresh(&mut self, place: usize, found: Found) {
        let Some(member) = self.members.get_mut(place) else {
            return;
        };
        let ids = self.ids.as_mut();
        let nsid = ids.and_then(|ids| id_of(&member.namespace, ids));
        if member.found != found || member.nsid != nsid {
            member.origin = Rc::new(origin(&found.label, nsid));
            (member.found, member.nsid) = (found, nsid);
        }
    }

    /// Follows a namespace that has appeared. If that fails the user is warned once, and the next look tries again.
    fn follow(
        &mut self,
        found: Found,
        count: usize,
        running: &mut Running,
        output: &mut Output,
        console: &mut Console,
    ) -> Option<SocketId> {
        let key = found.key;
        let name = found.label.to_string();
        match self.try_follow(found, count, running, console) {
            Ok(Some((id, place))) => {
                self.refused.remove(&key);
                self.report(place, NamespaceChange::Appeared, output);
                Some(id)
            }
            Ok(None) => None,
            Err(failure) => {
                if self.refused.insert(key) {
                    console.warn(format_args!("{name} is not followed: {failure}"));
                }
                None
            }
        }
    }

    fn try_follow(
        &mut self,
        found: Found,
        count: usize,
        running: &mut Running,
        console: &mut Console,
    ) -> Result<Option<(SocketId, usize)>, Failure> {
        let Some(namespace) = found.open()? else {
            return Ok(None);
        };
        let (socket, _) = self.collector.socket(Some(&namespace), console)?;
        let id = running.add(socket)?;
        match self.join(found, namespace, id, count) {
            Ok(place) => Ok(Some((id, place))),
            Err(failure) => {
                let _ = running.remove(id); // nothing else knows the socket
                Err(failure)
            }
        }
    }

    /// Advances the ends that have begun by a step. Returns the sockets of those that are complete.
    fn advance_ends(&mut self, running: &mut Running, output: &mut Output) -> Vec<Reclaimed> {
        let mut reclaimed = Vec::new();
        for place in self.ending.clone() {
            let member = self.members.get_mut(place);
            let Some(ended) = member.and_then(|member| member.advance_end(running)) else {
                continue;
            };
            self.ended.add(&ended.statistics);
            if let Some(member) = self.members.get(place) {
                member.handler.add_to(&mut self.ended);
            }
            self.report(place, NamespaceChange::Disappeared, output);
            reclaimed.push(ended);
        }
        reclaimed
    }

    /// Removes the members whose end was complete after the last turn.
    fn remove_ended(&mut self) {
        let members = &mut self.members;
        self.ending.retain(|&place| {
            let stage = members.get(place).map(|member| member.stage);
            let is_ended = matches!(stage, Some(Stage::Ended));
            if is_ended {
                members.remove(place);
            }
            !is_ended
        });
    }
}

/// The id of a namespace, as netlink reports it.
fn id_of(namespace: &Namespace, ids: &mut route::Requests) -> Option<i32> {
    ids.namespace_id(namespace).ok()?
}

impl<C: Collector> Handler for Namespaces<C> {
    fn handle(&mut self, incoming: &Incoming<'_>, output: &mut Output) {
        if let Some(member) = self.members.get_mut(self.selected) {
            member.handler.handle(incoming, output);
            member.note_work(self.selected, &mut self.schedule);
        }
    }

    fn style(&self) -> Style {
        self.collector.style()
    }

    fn select(&mut self, socket: SocketId, output: &mut Output) {
        let place = self.members.of_socket(socket);
        if let Some((place, member)) =
            place.and_then(|place| Some((place, self.members.get(place)?)))
        {
            self.selected = place;
            output.set_origin(self.collector.style(), &member.origin);
        }
    }

    fn note_missing(&mut self, missing: &Missing) {
        if let Some(member) = self.members.get_mut(self.selected) {
            member.handler.note_missing(missing);
            member.note_work(self.selected, &mut self.schedule);
        }
    }

    fn update_sockets(
        &mut self,
        running: &mut Running,
        output: &mut Output,
        console: &mut Console,
    ) -> SocketChanges {
        self.remove_ended();
        let start = Instant::now();
        if let Some(name_changes) = self.watch.take_changes() {
            self.scan_at = start;
            for change in name_changes {
                self.changed_at = start;
                self.note(&change, console);
            }
        }
        let mut changes = SocketChanges::default();
        if start >= self.scan_at.max(self.rest_until) {
            changes.added = self.scan(running, output, console);
            self.rest_until = Instant::now() + start.elapsed() * REST;
        }
        changes.ended = self.advance_ends(running, output);
        changes
    }

    fn after_turn(&mut self, running: &Running, output: &mut Output, console: &mut Console) {
        let (start, style) = (Instant::now(), self.collector.style());
        self.schedule.plan_due(start);
        // The others work after the next turn.
        while start.elapsed() < WORK
            && let Some(place) = self.schedule.next()
        {
            if let Some(member) = self.members.get_mut(place) {
                output.set_origin(style, &member.origin);
                member.has_work = false;
                member.handler.after_turn(running, output, console);
                self.schedule.plan_at(place, member.handler.due());
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let ends_at = (!self.ending.is_empty()).then(|| now + PAUSE);
        let scan_at = self.scan_at.max(self.rest_until);
        let dues = [self.schedule.due(now), ends_at, Some(scan_at)];
        dues.into_iter().flatten().min()
    }

    fn finish(&mut self, stop: &StopHandle, output: &mut Output, console: &mut Console) {
        let style = self.collector.style();
        for (_, member) in self.members.iter_mut() {
            if matches!(member.stage, Stage::Followed) {
                output.set_origin(style, &member.origin);
                member.handler.finish(stop, output, console);
            }
        }
    }

    fn has_table(&self) -> bool {
        let mut followed = self.followed();
        followed.all(|member| member.handler.has_table())
    }

    fn write_table(&self, table: &mut Writing) -> io::Result<bool> {
        for member in self.followed() {
            if table.select(member.socket, &member.origin) && !member.handler.write_table(table)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add_to(&self, summary: &mut Summary) {
        summary.add_ended(&self.ended);
        for member in self.members.iter() {
            if !matches!(member.stage, Stage::Ended) {
                member.handler.add_to(summary);
            }
        }
    }
}

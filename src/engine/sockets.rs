//! The sockets of an engine, by id, and what is to be done and said about each.

use std::collections::HashSet;
use std::io;
use std::time::{Instant, SystemTime};

use slab::Slab;

use super::completion::End;
use super::event::{Notice, SocketId};
use super::loss::{DropCounter, Loss, Statistics};
use super::options::AddOptions;
use super::retry::{Failures, Verdict, given_up, may_pass};
use super::stop::StopHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::socket::{Protocol, Socket};

/// How a socket's receive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Has no memory yet.
    New,
    /// To be armed, for the first time or again.
    Unarmed,
    Armed,
    /// Being cancelled.
    Leaving,
    /// Nothing is in flight and the memory is given back.
    Gone,
}

/// What is to be told about a socket besides its messages, at the end of the turn.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub starved: bool,
    /// How many, and the last one's sender.
    pub foreign: Option<(u64, u32)>,
    pub lost: Option<Loss>,
    pub delayed: Option<Loss>,
    pub retried: Option<Error>,
    pub stalled: Option<Error>,
    pub failed: Option<Error>,
    pub removed: bool,
}

/// A socket in the engine.
#[derive(Debug)]
pub(super) struct Entry {
    pub id: SocketId,
    pub socket: Socket,
    pub options: AddOptions,
    pub state: State,
    pub statistics: Statistics,
    pub pending: Pending,
    /// Its datagrams are netlink messages; uevents are not.
    pub is_framed: bool,
    /// A datagram has come since the drop counter was read.
    pub drops_owed: bool,
    /// Receives, and attempts to arm them, that failed since the last datagram.
    pub failures: Failures,
    /// How many datagrams its memory holds.
    pub room: usize,
    granted_bytes: usize,
    drops: DropCounter,
    cookie: u64,
}

impl Entry {
    /// Whether a datagram of this sender is wanted.
    pub(super) fn accepts(&self, sender_port_id: u32) -> bool {
        sender_port_id == 0 || self.options.accept_any_sender
    }

    /// Reads the drop counter. True when there is something to report.
    ///
    /// A failure, of which none is known where it worked when the socket was added, is reported as one of a receive. The
    /// counter goes on, and the next reading has what this one did not see.
    pub(super) fn read_drops(&mut self, now: SystemTime) -> bool {
        let reading = match self.socket.drops() {
            Ok(reading) => reading,
            Err(error) => {
                self.note_retried(error);
                return true;
            }
        };
        self.drops_owed = false;
        let Some(loss) = self.drops.update(reading, now) else {
            return false;
        };
        // Where this cannot be read the worse is reported: that they are lost.
        let pending = if self.socket.broadcast_error() {
            self.statistics.delivery_failures += loss.count;
            &mut self.pending.delayed
        } else {
            self.statistics.dropped += loss.count;
            &mut self.pending.lost
        };
        *pending = Some(pending.take().map_or(loss, |earlier| earlier.merge(loss)));
        true
    }

    /// Lets the socket be received from again, and leaves to its next engine the drops that were not reported.
    fn release(&mut self) {
        let (count, until) = self.drops.last_reading();
        self.socket.set_reported_drops(count, until);
        self.socket.set_in_engine(false);
    }

    /// Notes that a receive has failed and is tried again.
    pub(super) fn note_retried(&mut self, error: Error) {
        self.statistics.retried += 1;
        self.pending.retried = Some(error);
    }

    /// Notes that the socket's memory could not be set up or its receive not be armed. The latter is tried again where it
    /// may pass, and given up in the end.
    pub(super) fn note_not_armed(&mut self, error: Error, now: Instant) {
        if self.state == State::New || !may_pass(error.raw_os_error()) {
            return self.fail(error);
        }
        match self.failures.note(now) {
            Verdict::GiveUp => self.fail(given_up(error)),
            verdict => {
                self.statistics.retried += 1;
                if verdict == Verdict::TryAgain {
                    self.pending.stalled = Some(error);
                }
            }
        }
    }

    /// Counts a datagram that the kernel left too few bytes of.
    pub(super) fn note_short(&mut self, written_bytes: u32) -> Notice {
        self.statistics.received += 1;
        self.statistics.short += 1;
        self.statistics.bytes += u64::from(written_bytes);
        Notice::Short {
            written_bytes: written_bytes as usize,
        }
    }

    /// Counts a datagram of a sender that is not wanted.
    pub(super) fn note_foreign(&mut self, port_id: u32) {
        self.statistics.foreign += 1;
        let count = self.pending.foreign.map_or(0, |(count, _)| count);
        self.pending.foreign = Some((count + 1, port_id));
    }

    /// Whether it is gone and that has not been told.
    pub(super) fn has_farewell(&self) -> bool {
        self.state == State::Gone && (self.pending.failed.is_some() || self.pending.removed)
    }

    /// Gives the socket up: it is told of once nothing is in flight.
    pub(super) fn fail(&mut self, error: Error) {
        self.pending.failed.get_or_insert(error);
        self.state = State::Leaving;
    }

    /// What is to be told next; loss first.
    pub(super) fn next_pending(&mut self) -> Option<PendingEvent> {
        let pending = &mut self.pending;
        if let Some(loss) = pending.lost.take() {
            return Some(PendingEvent::Lost(loss));
        }
        if let Some(loss) = pending.delayed.take() {
            return Some(PendingEvent::Notice(Notice::Delayed(loss)));
        }
        if let Some(error) = pending.retried.take() {
            return Some(PendingEvent::Notice(Notice::Retried(error)));
        }
        if let Some(error) = pending.stalled.take() {
            return Some(PendingEvent::Notice(Notice::Stalled(error)));
        }
        if let Some((count, port_id)) = pending.foreign.take() {
            return Some(PendingEvent::Notice(Notice::Foreign { count, port_id }));
        }
        if std::mem::take(&mut pending.starved) {
            return Some(PendingEvent::Notice(Notice::Starved));
        }
        if self.state == State::Gone {
            if let Some(error) = pending.failed.take() {
                pending.removed = false;
                return Some(PendingEvent::Notice(Notice::Failed(error)));
            }
            if std::mem::take(&mut pending.removed) {
                return Some(PendingEvent::Notice(Notice::Removed));
            }
        }
        None
    }
}

pub(super) enum PendingEvent {
    Lost(Loss),
    Notice(Notice),
}

/// All sockets, in slots.
#[derive(Debug)]
pub(super) struct Sockets {
    slab: Slab<Entry>,
    /// The kernel's numbers of the sockets in the slab.
    cookies: HashSet<u64>,
    generation: u32,
    /// A state has changed that the next turn must act on.
    pub unsettled: bool,
    /// Something is pending.
    pub has_pending: bool,
    /// The drop counters are to be read soon: a socket has reported an overrun, or a reading has failed.
    pub must_read_drops: bool,
    /// A receive fails again and again: the next wait is to begin with a pause.
    pub pause_owed: bool,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            cookies: HashSet::new(),
            generation: 0,
            unsettled: false,
            has_pending: false,
            must_read_drops: false,
            pause_owed: false,
        }
    }

    /// Takes a socket in: from here on its overruns are counted, not reported as errors.
    pub(super) fn insert(&mut self, mut socket: Socket, options: AddOptions) -> Result<SocketId> {
        options.check()?;
        let slot = u16::try_from(self.slab.vacant_key()).map_err(|_| {
            Error::with_kind("add a socket", ErrorKind::InvalidInput)
                .with_remedy("an engine holds up to 65,536 sockets")
        })?;
        socket.set_no_enobufs(true)?;
        socket.drops()?;
        let is_framed = socket.protocol()? != Protocol::KOBJECT_UEVENT;
        let granted_bytes = socket.recv_buffer_bytes()?;
        let cookie = socket.cookie()?;
        if !self.cookies.insert(cookie) {
            return Err(
                Error::with_kind("add a socket", ErrorKind::InvalidInput).with_remedy(
                    "the engine has this socket already, by another descriptor of it: open a second socket",
                ),
            );
        }
        socket.set_in_engine(true);
        let (reported, since) = socket.reported_drops();
        let drops = DropCounter::new(reported, since);
        self.generation += 1;
        let id = SocketId {
            slot,
            generation: self.generation,
        };
        self.slab.insert(Entry {
            id,
            socket,
            options,
            state: State::New,
            statistics: Statistics::default(),
            pending: Pending::default(),
            is_framed,
            drops_owed: true,
            failures: Failures::default(),
            room: 0,
            granted_bytes,
            drops,
            cookie,
        });
        self.unsettled = true;
        Ok(id)
    }

    pub(super) fn get(&self, id: SocketId) -> Option<&Entry> {
        self.slab.get(id.slot.into()).filter(|entry| entry.id == id)
    }

    pub(super) fn in_slot(&mut self, slot: u16) -> Option<&mut Entry> {
        self.slab.get_mut(slot.into())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slab.iter_mut().map(|(_, entry)| entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slab.iter().map(|(_, entry)| entry)
    }

    /// Marks a socket for removal.
    pub(super) fn remove(&mut self, id: SocketId) -> Result<()> {
        let entry = self
            .slab
            .get_mut(id.slot.into())
            .filter(|entry| entry.id == id);
        let Some(entry) =
            entry.filter(|entry| !matches!(entry.state, State::Gone | State::Leaving))
        else {
            return Err(Error::with_kind("remove a socket", ErrorKind::NoSuchSocket));
        };
        entry.state = State::Leaving;
        entry.pending.removed = true;
        self.unsettled = true;
        Ok(())
    }

    /// Takes a socket out that is gone, once that was told.
    fn take(&mut self, id: SocketId) -> Option<Entry> {
        self.get(id)
            .filter(|entry| entry.state == State::Gone && !entry.has_farewell())?;
        let mut entry = self.slab.remove(id.slot.into());
        self.cookies.remove(&entry.cookie);
        entry.release();
        Some(entry)
    }

    pub(super) fn reclaim(&mut self, id: SocketId) -> Result<Ended> {
        let entry = self
            .take(id)
            .ok_or_else(|| Error::with_kind("reclaim a socket", ErrorKind::NoSuchSocket))?;
        Ok(entry.into())
    }

    pub(super) fn smallest_buffer_bytes(&self) -> Option<usize> {
        self.iter()
            .filter(|entry| entry.state != State::Gone)
            .map(|entry| entry.granted_bytes)
            .min()
    }

    /// Reads drop counters: that of a socket can have moved only if it was full, and so has been drained since.
    pub(super) fn read_drops(&mut self, wanted: impl Fn(&Entry) -> bool) {
        let now = SystemTime::now();
        for (_, entry) in &mut self.slab {
            self.has_pending |= wanted(entry) && entry.read_drops(now);
            self.must_read_drops |= entry.drops_owed; // the reading has failed
        }
    }

    /// Notes that the engine's own call has failed, and is tried again.
    pub(super) fn note_stalled(&mut self, error: Error, is_first: bool) {
        let is_there = |entry: &&mut Entry| entry.state != State::Gone;
        let Some(entry) = self.iter_mut().find(is_there) else {
            return;
        };
        entry.statistics.retried += 1;
        if is_first {
            entry.pending.stalled = Some(error);
            self.has_pending = true;
        }
    }

    /// Sees to it that what has gone is told of.
    pub(super) fn note_farewells(&mut self) {
        self.has_pending |= self.slab.iter().any(|(_, entry)| entry.has_farewell());
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.slab.into_iter().map(|(_, mut entry)| {
            entry.release();
            entry
        })
    }
}

/// A socket that an engine has given back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// The id it had.
    pub id: SocketId,
    /// The socket.
    pub socket: Socket,
    /// What became of its datagrams.
    pub statistics: Statistics,
    /// A failure of this socket that no notice has reported: it could not be received from, or what it had queued could
    /// not be counted.
    pub failure: Option<Error>,
}

impl From<Entry> for Ended {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            socket: entry.socket,
            statistics: entry.statistics,
            failure: entry.pending.failed,
        }
    }
}

/// Notes how a receive has ended, and what is to be done.
pub(super) fn note_end(slot: u16, end: End, is_armed: bool, sockets: &mut Sockets) {
    sockets.must_read_drops |= end == End::Overrun;
    sockets.has_pending |= matches!(end, End::Starved | End::Retry(_));
    sockets.unsettled = true;
    let Some(entry) = sockets.in_slot(slot) else {
        return;
    };
    let mut must_pause = false;
    let error = |errno| {
        Error::failed_call(
            "receive from a netlink socket",
            io::Error::from_raw_os_error(errno),
        )
    };
    match end {
        End::Failed(errno) => entry.fail(error(errno)),
        End::Retry(errno) => match entry.failures.note_of_receive(Instant::now()) {
            Verdict::GiveUp => entry.fail(given_up(error(errno))),
            verdict => {
                entry.note_retried(error(errno));
                must_pause = verdict == Verdict::Pause;
            }
        },
        End::Starved => {
            entry.statistics.starved += 1;
            entry.pending.starved = true;
        }
        End::Overrun => entry.drops_owed = true,
        End::None | End::Rearm | End::Cancelled => {}
    }
    if entry.state == State::Armed && !is_armed {
        entry.state = State::Unarmed;
    }
    sockets.pause_owed |= must_pause;
}

/// What a callback may do to its engine.
#[derive(Debug)]
pub struct Control<'a> {
    pub(super) sockets: &'a mut Sockets,
    pub(super) stop: &'a StopHandle,
}

impl Control<'_> {
    /// Adds a socket; it is armed after this turn. The id is valid at once.
    ///
    /// # Errors
    ///
    /// As [`Engine::add`](crate::Engine::add).
    pub fn add(&mut self, socket: Socket) -> Result<SocketId> {
        self.add_with(socket, AddOptions::default())
    }

    /// Adds a socket with options; it is armed after this turn.
    ///
    /// # Errors
    ///
    /// As [`Engine::add_with`](crate::Engine::add_with).
    pub fn add_with(&mut self, socket: Socket, options: AddOptions) -> Result<SocketId> {
        self.stop.require_home("add a socket")?;
        self.sockets.insert(socket, options)
    }

    /// Marks a socket for removal: its last messages come in later turns, then [`Notice::Removed`].
    ///
    /// # Errors
    ///
    /// As [`Running::remove`](crate::Running::remove).
    pub fn remove(&mut self, id: SocketId) -> Result<()> {
        self.stop.require_home("remove a socket")?;
        self.sockets.remove(id)
    }

    /// Takes a socket back after its [`Notice::Removed`] or [`Notice::Failed`].
    ///
    /// # Errors
    ///
    /// As [`Running::reclaim`](crate::Running::reclaim).
    pub fn reclaim(&mut self, id: SocketId) -> Result<Ended> {
        self.stop.require_home("reclaim a socket")?;
        self.sockets.reclaim(id)
    }

    /// What became of a socket's datagrams so far; those of the list in hand are among them.
    pub fn statistics(&self, id: SocketId) -> Option<Statistics> {
        self.sockets.get(id).map(|entry| entry.statistics)
    }

    /// Lends a socket, for options, memberships and sending. [`Socket::recv`] on it is an error: the engine receives.
    pub fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(id).map(|entry| &entry.socket)
    }

    /// Ends the engine, as its [`StopHandle`] does.
    pub fn stop(&self) {
        self.stop.stop();
    }
}

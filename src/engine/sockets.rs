//! The sockets of an engine, by id, and what is to be done and said about each.

use std::collections::HashSet;
use std::io;
use std::time::SystemTime;

use slab::Slab;

use super::completion::End;
use super::event::{Notice, SocketId};
use super::loss::{DropCounter, Loss, Statistics};
use super::options::AddOptions;
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
    /// Receives that failed since the last datagram.
    pub failure_count: u8,
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

    /// Reads the drop counter. True when it has moved.
    pub(super) fn read_drops(&mut self, now: SystemTime) -> bool {
        self.drops_owed = false;
        // It cannot fail for an open socket where it did not when the socket was added.
        let Some(loss) = self
            .socket
            .drops()
            .ok()
            .and_then(|reading| self.drops.update(reading, now))
        else {
            return false;
        };
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
    /// A socket has reported an overrun: the drop counters are to be read.
    pub overran: bool,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            cookies: HashSet::new(),
            generation: 0,
            unsettled: false,
            has_pending: false,
            overran: false,
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
            failure_count: 0,
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
}

impl From<Entry> for Ended {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            socket: entry.socket,
            statistics: entry.statistics,
        }
    }
}

/// A socket is given up after this many failed receives without a datagram between them.
const MOST_FAILURES: u8 = 16;

/// Notes how a receive has ended, and what is to be done.
pub(super) fn note_end(slot: u16, end: End, is_armed: bool, sockets: &mut Sockets) {
    sockets.overran |= end == End::Overrun;
    sockets.has_pending |= matches!(end, End::Starved | End::Retry(_));
    sockets.unsettled = true;
    let Some(entry) = sockets.in_slot(slot) else {
        return;
    };
    let error = |errno| {
        Error::system(
            "receive from a netlink socket",
            io::Error::from_raw_os_error(errno),
        )
    };
    match end {
        End::Failed(errno) => entry.fail(error(errno)),
        End::Retry(errno) if entry.failure_count >= MOST_FAILURES => entry.fail(error(errno)),
        End::Retry(errno) => {
            entry.failure_count += 1;
            entry.pending.retried = Some(error(errno));
        }
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

//! The sockets of an engine, by id.

use std::collections::HashSet;

use slab::Slab;

use super::add_error::AddError;
use super::completion::ReceiveEnd;
use super::entry::{Entry, Pending, PendingEvent, State};
use super::event::SocketId;
use super::loss::{DropCounter, Statistics};
use super::options::AddOptions;
use super::reclaimed::Reclaimed;
use super::retry::Failures;
use crate::error::{Error, ErrorKind, Result};
use crate::socket::{Protocol, Socket};
use crate::timestamp::Timestamp;

/// The properties of a socket that passed the checks of [`Sockets::check`].
#[derive(Clone, Copy)]
struct Admission {
    slot: u16,
    is_framed: bool,
    granted_bytes: usize,
    cookie: u64,
}

/// All sockets of an engine, each in a slot.
#[derive(Debug)]
pub(super) struct Sockets {
    slab: Slab<Entry>,
    /// The `SO_COOKIE` of each socket in the slab.
    cookies: HashSet<u64>,
    /// How many sockets were added, which is also the generation of the last id.
    generation: u32,
    /// A socket's state has changed, and [`Running`](super::Running) must act on it.
    pub unsettled: bool,
    /// A socket may have pending events.
    pub has_pending: bool,
    /// The slot of the socket that had the last pending event. The search for the next one starts here.
    pending_slot: usize,
    /// How many slots were visited for pending events.
    #[cfg(test)]
    pub looked_at_count: usize,
    /// The drop counters must be read soon, because a socket has reported an overrun, or a reading has failed.
    pub must_read_drops: bool,
    /// The next wait must begin with a pause, because a receive keeps failing.
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
            pending_slot: 0,
            #[cfg(test)]
            looked_at_count: 0,
            must_read_drops: false,
            pause_owed: false,
        }
    }

    /// Adds a socket. From here on the engine counts its overruns, and the kernel no longer reports them as errors.
    pub(super) fn insert(
        &mut self,
        socket: Socket,
        options: AddOptions,
    ) -> Result<SocketId, AddError> {
        match self.check(&socket, options) {
            Ok(admission) => Ok(self.insert_checked(socket, options, admission)),
            Err(error) => Err(AddError::new(socket, error)),
        }
    }

    /// Checks whether the engine can receive from a socket. Changes the socket only at the end, if all checks pass.
    fn check(&self, socket: &Socket, options: AddOptions) -> Result<Admission> {
        options.check()?;
        let slot = u16::try_from(self.slab.vacant_key()).map_err(|_| {
            Error::with_kind("add a socket", ErrorKind::InvalidInput)
                .with_remedy("an engine holds up to 65,536 sockets")
        })?;
        let is_framed = socket.protocol()? != Protocol::KOBJECT_UEVENT;
        socket.drops()?;
        let granted_bytes = socket.recv_buffer_bytes()?;
        let cookie = socket.cookie()?;
        if self.cookies.contains(&cookie) {
            return Err(
                Error::with_kind("add a socket", ErrorKind::InvalidInput).with_remedy(
                    "the engine already has this socket, through another descriptor: open a second socket",
                ),
            );
        }
        socket.set_no_enobufs(true)?;
        Ok(Admission {
            slot,
            is_framed,
            granted_bytes,
            cookie,
        })
    }

    fn insert_checked(
        &mut self,
        mut socket: Socket,
        options: AddOptions,
        admission: Admission,
    ) -> SocketId {
        let Admission {
            slot,
            is_framed,
            granted_bytes,
            cookie,
        } = admission;
        self.cookies.insert(cookie);
        socket.set_in_engine(true);
        let (reported, since) = socket.reported_drops();
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
            drops: DropCounter::new(reported, since),
            cookie,
        });
        self.unsettled = true;
        id
    }

    /// How many sockets were added, including those that are gone.
    pub(super) fn added_count(&self) -> u32 {
        self.generation
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

    /// The next pending event of a socket. It continues at the socket that had the last one, so that all events of many
    /// sockets take one round.
    pub(super) fn next_pending(&mut self) -> Option<(SocketId, PendingEvent)> {
        if !self.has_pending {
            return None;
        }
        let slot_count = self.slab.capacity();
        for _ in 0..slot_count {
            #[cfg(test)]
            {
                self.looked_at_count += 1;
            }
            let entry = self.slab.get_mut(self.pending_slot);
            if let Some((id, event)) =
                entry.and_then(|entry| Some((entry.id, entry.next_pending()?)))
            {
                return Some((id, event));
            }
            self.pending_slot = (self.pending_slot + 1) % slot_count;
        }
        (self.has_pending, self.pending_slot) = (false, 0);
        None
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

    /// Takes out a socket that is gone and whose last notice was delivered.
    fn take(&mut self, id: SocketId) -> Option<Entry> {
        self.get(id)
            .filter(|entry| entry.state == State::Gone && !entry.has_farewell())?;
        let mut entry = self.slab.remove(id.slot.into());
        self.cookies.remove(&entry.cookie);
        entry.release();
        Some(entry)
    }

    pub(super) fn reclaim(&mut self, id: SocketId) -> Result<Reclaimed> {
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

    /// Reads the drop counters of the `wanted` sockets. A counter changes only while its queue is full, and a full
    /// queue is drained soon, so sockets without traffic can be left out.
    pub(super) fn read_drops(&mut self, wanted: impl Fn(&Entry) -> bool) {
        let now = Timestamp::now();
        for (_, entry) in &mut self.slab {
            self.has_pending |= wanted(entry) && entry.read_drops(now);
            self.must_read_drops |= entry.drops_owed; // still set: the reading failed
        }
    }

    /// Records that a call for all sockets failed and is being retried. One of the sockets reports and counts it.
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

    /// Records that there is something to report if a socket is gone.
    pub(super) fn note_farewells(&mut self) {
        self.has_pending |= self.slab.iter().any(|(_, entry)| entry.has_farewell());
    }

    /// Records how the receive of a slot has ended.
    pub(super) fn note_end(&mut self, slot: u16, end: ReceiveEnd, is_armed: bool) {
        self.must_read_drops |= end == ReceiveEnd::Overrun;
        self.has_pending |= matches!(end, ReceiveEnd::Starved | ReceiveEnd::Retry(_));
        self.unsettled = true;
        if let Some(entry) = self.in_slot(slot) {
            let must_pause = entry.note_end(end, is_armed);
            self.pause_owed |= must_pause;
        }
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.slab.into_iter().map(|(_, mut entry)| {
            entry.release();
            entry
        })
    }
}

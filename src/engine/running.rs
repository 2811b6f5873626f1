//! The loop. A turn is: wait, drain, deliver, recycle.

use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use super::backend::{Backend, Choice};
use super::delivery::{Delivery, deliver};
use super::event::{Event, SocketId, Turn};
use super::loss::Statistics;
use super::options::AddOptions;
use super::receive::Receive;
use super::sockets::{Control, Entry, Sockets, State};
use super::stop::StopHandle;
use super::wait::{Pacer, Wait};
use crate::error::{Error, ErrorKind, Result};
use crate::socket::Socket;
use crate::sys::socket as sys;

/// Drop counters are read after a drain, but no more often than this: each reading is a system call a socket.
const DROPS_INTERVAL: Duration = Duration::from_millis(1);
/// A reading that was put off is made up for when it has been quiet for this long.
const DROPS_LATEST: Duration = Duration::from_millis(10);
/// How long an ending may go on delivering what is queued.
const FINISH_DEADLINE: Duration = Duration::from_secs(1);
/// How long an ending may go on counting what is not delivered.
const DISCARD_DEADLINE: Duration = Duration::from_millis(500);

/// A started [`Engine`](crate::Engine), bound to its thread.
///
/// Dropping it ends the receives and closes the sockets; what was not delivered is not counted. To have it counted, use
/// [`finish`](Self::finish) or [`discard`](Self::discard).
pub struct Running {
    receive: Box<dyn Receive>,
    sockets: Sockets,
    delivery: Delivery,
    pacer: Pacer,
    stop: StopHandle,
    backend: Backend,
    reason: String,
    drops_read_at: Instant,
    /// A reading of the drop counters was put off.
    drops_owed: bool,
    /// The ring takes submissions of one thread only.
    _not_send: PhantomData<*const ()>,
}

/// What is left of an engine that [`finish`](Running::finish)ed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished<B> {
    /// Some: the callback broke off with this value, and what was left is counted as unread. An error: the backend failed.
    pub outcome: Result<Option<B>>,
    /// All sockets, out of their groups.
    pub sockets: Vec<Ended>,
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

impl Running {
    pub(super) fn start(
        choice: Choice,
        sockets: Sockets,
        stop: StopHandle,
        wait: Wait,
    ) -> Result<Self> {
        let Choice {
            mut receive,
            backend,
            reason,
        } = choice;
        receive
            .start(&stop)
            .map_err(|error| Error::system("start the engine", error))?;
        let now = Instant::now();
        let mut this = Self {
            receive,
            sockets,
            delivery: Delivery::default(),
            pacer: Pacer::new(wait, now),
            stop,
            backend,
            reason,
            drops_read_at: now,
            drops_owed: true,
            _not_send: PhantomData,
        };
        this.settle()?;
        Ok(this)
    }

    /// One turn: waits for datagrams, as the policy says and no longer than `timeout` (None: for ever, zero: not at all),
    /// and hands what came to `f`, in order.
    ///
    /// # Errors
    ///
    /// The backend failed; a single socket's failure is a [`Notice`](crate::Notice) instead. What was received is not lost:
    /// the next call goes on.
    pub fn poll<B>(
        &mut self,
        timeout: Option<Duration>,
        mut f: impl FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    ) -> Result<Turn<B>> {
        if self.stop.is_stopped() {
            return Ok(Turn::Stopped);
        }
        match self.turn(timeout, &mut f)? {
            Turn::Idle if self.stop.is_stopped() => Ok(Turn::Stopped),
            turn => Ok(turn),
        }
    }

    /// Turns until the callback breaks (Some) or the stop handle is used (None). Then the groups are left, and
    /// what is queued is delivered, for at most a second.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn run<B>(
        &mut self,
        mut f: impl FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>> {
        loop {
            match self.poll(None, &mut f)? {
                Turn::Idle | Turn::Delivered => {}
                Turn::Break(value) => return Ok(Some(value)),
                Turn::Stopped => return self.end(&mut f),
            }
        }
    }

    /// Ends with delivery: leaves all groups, delivers what is queued, for at most a second, and reads the drop counters
    /// last. What is left then, or after a break, is counted as unread. Gives the sockets back.
    pub fn finish<B>(
        mut self,
        mut f: impl FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    ) -> Finished<B> {
        let outcome = self.end(&mut f);
        Finished {
            outcome,
            sockets: self.discard(),
        }
    }

    /// Ends without delivery: leaves all groups, and counts what is queued as unread. Gives the sockets back.
    pub fn discard(mut self) -> Vec<Ended> {
        self.leave_groups();
        self.quiesce();
        let deadline = Instant::now() + DISCARD_DEADLINE;
        for entry in self
            .sockets
            .iter_mut()
            .filter(|entry| entry.state != State::Gone)
        {
            while Instant::now() < deadline {
                match sys::discard(entry.socket.as_fd()) {
                    Ok(count) => entry.statistics.unread += count as u64,
                    Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => break,
                    Err(_) => {} // a signal, or an overrun that is told of once
                }
            }
        }
        self.sockets.read_drops();
        let Self {
            receive, sockets, ..
        } = self;
        drop(receive);
        sockets.into_entries().map(Ended::from).collect()
    }

    /// Adds a socket with the default options, and arms it.
    ///
    /// # Errors
    ///
    /// As [`Engine::add`](crate::Engine::add).
    pub fn add(&mut self, socket: Socket) -> Result<SocketId> {
        self.add_with(socket, AddOptions::default())
    }

    /// Adds a socket, and arms it.
    ///
    /// # Errors
    ///
    /// As [`Engine::add_with`](crate::Engine::add_with).
    pub fn add_with(&mut self, socket: Socket, options: AddOptions) -> Result<SocketId> {
        let id = self.sockets.insert(socket, options)?;
        self.settle_if_empty()?;
        Ok(id)
    }

    /// Marks a socket for removal: its last messages come in later turns, then [`Notice::Removed`](crate::Notice::Removed).
    /// What the kernel still queues stays in the socket, and so do its memberships.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoSuchSocket`]: it has gone, or is going.
    pub fn remove(&mut self, id: SocketId) -> Result<()> {
        self.sockets.remove(id)?;
        self.settle_if_empty()
    }

    /// Takes a socket back after its [`Notice::Removed`](crate::Notice::Removed) or [`Notice::Failed`](crate::Notice::Failed).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoSuchSocket`]: it is none of this engine's, was reclaimed, or is not gone yet.
    pub fn reclaim(&mut self, id: SocketId) -> Result<Ended> {
        let entry = self.sockets.take(id);
        entry
            .map(Ended::from)
            .ok_or_else(|| Error::with_kind("reclaim a socket", ErrorKind::NoSuchSocket))
    }

    /// Lends a socket, for options, memberships and sending.
    pub fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(id).map(|entry| &entry.socket)
    }

    /// What became of a socket's datagrams so far.
    pub fn statistics(&self, id: SocketId) -> Option<Statistics> {
        self.sockets.get(id).map(|entry| entry.statistics)
    }

    /// The backend in use, never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Why that one.
    pub fn backend_reason(&self) -> &str {
        &self.reason
    }

    /// What ends the engine from elsewhere.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// How long a wait may gather datagrams, after the cut to what the smallest receive buffer holds. None: the
    /// policy does not gather. Less than the delay of [`Wait::Batch`] means that it was cut.
    pub fn longest_delay(&self) -> Option<Duration> {
        self.pacer.longest_delay()
    }

    /// A descriptor for epoll(7) or an async runtime: readable when [`poll`](Self::poll) with a time-out of zero should be
    /// called; sometimes for nothing. None unless [`pollable`](crate::EngineBuilder::pollable) was asked for.
    pub fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.receive.pollable_fd()
    }

    fn turn<B, F>(&mut self, timeout: Option<Duration>, f: &mut F) -> Result<Turn<B>>
    where
        F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    {
        self.receive.set_readable(false);
        self.delivery.recycle(self.receive.as_mut()); // what a panic of the callback left
        if self.delivery.is_empty() {
            self.wait(timeout)?;
            self.drain();
        }
        let turn = deliver(
            self.receive.as_ref(),
            &mut self.sockets,
            &mut self.delivery,
            &self.stop,
            f,
        );
        self.delivery.recycle(self.receive.as_mut());
        self.settle_if_empty()?;
        if !self.delivery.is_empty() || self.sockets.has_pending || self.sockets.unsettled {
            self.receive.set_readable(true);
        }
        Ok(turn)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let timeout = if self.sockets.has_pending {
            Some(Duration::ZERO)
        } else if self.drops_owed {
            Some(timeout.map_or(DROPS_LATEST, |timeout| timeout.min(DROPS_LATEST)))
        } else {
            timeout
        };
        self.receive
            .wait(self.pacer.plan(timeout))
            .map_err(|error| Error::system("wait for netlink datagrams", error))
    }

    /// Takes what has come, and the drop counters when it is time.
    fn drain(&mut self) {
        self.receive
            .drain(&mut self.sockets, &mut self.delivery.taken);
        let count = self.delivery.taken.len();
        let now = Instant::now();
        self.delivery.received_at = SystemTime::now();
        self.pacer.note_turn(count, now);
        self.drops_owed |= count > 0 || std::mem::take(&mut self.sockets.overran);
        let interval = if self.receive.pollable_fd().is_some() {
            Duration::ZERO
        } else {
            DROPS_INTERVAL
        };
        if self.drops_owed && now.saturating_duration_since(self.drops_read_at) >= interval {
            self.sockets.read_drops();
            (self.drops_read_at, self.drops_owed) = (now, false);
        }
    }

    fn settle_if_empty(&mut self) -> Result<()> {
        if self.sockets.unsettled && self.delivery.is_empty() {
            self.settle()
        } else {
            Ok(())
        }
    }

    /// Acts on what has changed: sets new sockets up, arms, cancels, frees. Only when nothing is in hand.
    fn settle(&mut self) -> Result<()> {
        self.sockets.unsettled = false;
        for entry in self.sockets.iter_mut() {
            if let Err(error) = settle_entry(entry, self.receive.as_mut(), &mut self.delivery) {
                entry.fail(Error::system("arm a receive", error));
                let _ = settle_entry(entry, self.receive.as_mut(), &mut self.delivery);
            }
        }
        let has_farewell = self.sockets.iter().any(Entry::has_farewell);
        self.sockets.has_pending |= has_farewell;
        self.pacer
            .set_smallest_buffer(self.sockets.smallest_buffer_bytes());
        self.receive
            .submit()
            .map_err(|error| Error::system("submit receives", error))
    }

    fn leave_groups(&mut self) {
        for entry in self
            .sockets
            .iter()
            .filter(|entry| entry.state != State::Gone)
        {
            for group in entry.socket.groups().unwrap_or_default() {
                let _ = entry.socket.drop_membership(group); // it is in the group, so this cannot fail
            }
        }
    }

    /// Delivers until the queues are empty or the deadline has passed.
    fn end<B, F>(&mut self, f: &mut F) -> Result<Option<B>>
    where
        F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    {
        self.leave_groups();
        let deadline = Instant::now() + FINISH_DEADLINE;
        loop {
            let turn = self.turn(Some(Duration::ZERO), f)?;
            match turn {
                Turn::Break(value) => return Ok(Some(value)),
                Turn::Idle if !self.is_queued() => break,
                _ if Instant::now() >= deadline => break,
                _ => {}
            }
        }
        self.sockets.read_drops();
        if self.sockets.has_pending
            && let Turn::Break(value) = deliver(
                self.receive.as_ref(),
                &mut self.sockets,
                &mut self.delivery,
                &self.stop,
                f,
            )
        {
            return Ok(Some(value));
        }
        Ok(None)
    }

    /// Whether a socket that is received from has datagrams in its queue.
    fn is_queued(&self) -> bool {
        let receiving = |entry: &&Entry| matches!(entry.state, State::Armed | State::Unarmed);
        self.sockets
            .iter()
            .filter(receiving)
            .any(|entry| sys::has_queued(entry.socket.as_fd()))
    }

    /// Ends all receives without delivery; what they bring is unread.
    fn quiesce(&mut self) {
        const DEADLINE: Duration = Duration::from_secs(1);
        let deadline = Instant::now() + DEADLINE;
        self.delivery.recycle(self.receive.as_mut());
        for entry in self
            .sockets
            .iter_mut()
            .filter(|entry| entry.state != State::Gone)
        {
            entry.state = State::Leaving;
        }
        loop {
            self.delivery.discard(&mut self.sockets);
            self.delivery.recycle(self.receive.as_mut());
            let all_quiet = self
                .sockets
                .iter()
                .all(|entry| self.receive.is_quiet(entry.id.slot));
            if all_quiet || Instant::now() >= deadline {
                return;
            }
            for entry in self.sockets.iter() {
                let _ = self.receive.cancel(entry.id.slot, entry.socket.as_fd());
            }
            let plan = super::wait::Plan {
                gather: Duration::ZERO,
                timeout: Some(Duration::from_millis(10)),
                spin: false,
            };
            let _ = self.receive.wait(plan);
            self.receive
                .drain(&mut self.sockets, &mut self.delivery.taken);
        }
    }
}

/// Takes one socket to its next state.
fn settle_entry(
    entry: &mut Entry,
    receive: &mut dyn Receive,
    delivery: &mut Delivery,
) -> std::io::Result<()> {
    let (slot, fd) = (entry.id.slot, entry.socket.as_fd());
    if entry.state == State::New {
        delivery.reserve(receive.attach(slot, entry.options)?);
        entry.state = State::Unarmed;
    }
    match entry.state {
        State::Unarmed => {
            receive.arm(slot, fd)?;
            entry.state = State::Armed;
        }
        State::Leaving => {
            receive.cancel(slot, fd)?;
            if receive.is_quiet(slot) {
                receive.detach(slot);
                entry.state = State::Gone;
            }
        }
        State::New | State::Armed | State::Gone => {}
    }
    Ok(())
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

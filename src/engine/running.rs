//! The loop of an engine. A turn waits, drains, delivers and recycles.

use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::add_error::AddError;
use super::backend::{Backend, Choice};
use super::control::Control;
use super::delivery::{Delivery, deliver};
use super::entry::{Entry, State};
use super::event::{Event, SocketId, Turn};
use super::loss::Statistics;
use super::options::AddOptions;
use super::receive::Receive;
use super::reclaimed::Reclaimed;
use super::retry::{self, Failures, Verdict, given_up, may_pass, persist};
use super::sockets::Sockets;
use super::stop::StopHandle;
use super::wait::{Pacer, Wait};
use crate::error::{Error, Result};
use crate::socket::Socket;
use crate::timestamp::Timestamp;

/// The shortest time between two readings of the drop counters, because each costs a system call per socket.
const DROPS_INTERVAL: Duration = Duration::from_millis(1);
/// How long deferred work (reading drop counters, arming again) waits when no datagram arrives.
const SOON: Duration = Duration::from_millis(10);

/// The operation that errors of a turn name.
const RECEIVE: &str = "wait for netlink datagrams";

/// A started [`Engine`](crate::Engine). It belongs to the thread and the process that started it.
///
/// [`run`](Self::run) hands every event to a callback until it breaks or the engine is stopped. [`poll`](Self::poll)
/// takes one turn, for a program with its own loop.
///
/// Dropping it ends the receives and closes the sockets, without counting the queued datagrams.
/// [`finish`](Self::finish) and [`discard`](Self::discard) count them.
///
/// After fork(2) or daemon(3) each call in the child is an error of kind
/// [`ErrorKind::Forked`](crate::ErrorKind::Forked), see [`Engine`](crate::Engine#fork). A callback may fork, and may
/// use its event in the child.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::time::Duration;
/// use nlring::{Engine, Event, Protocol, Socket, Turn, route};
///
/// let socket = Socket::builder(Protocol::ROUTE).group(route::Group::Ipv4Route).open()?;
/// let mut engine = Engine::builder().build()?;
/// engine.add(socket)?;
/// let mut running = engine.start()?;
///
/// let mut route_count = 0;
/// let turn = running.poll(Some(Duration::from_millis(10)), |event, _control| {
///     match event {
///         Event::Messages(_, list) => {
///             let routes = list.iter().filter_map(|message| route::Route::decode(&message));
///             route_count += routes.count();
///         }
///         Event::Lost(socket, loss) => eprintln!("{} datagrams lost on {socket}", loss.count),
///         Event::Notice(socket, notice) => eprintln!("{socket}: {notice}"),
///     }
///     ControlFlow::<()>::Continue(())
/// })?;
/// assert!(matches!(turn, Turn::Idle | Turn::Delivered));
/// # Ok::<(), nlring::Error>(())
/// ```
#[must_use = "an engine that is dropped receives nothing"]
pub struct Running {
    pub(super) receive: Box<dyn Receive>,
    pub(super) sockets: Sockets,
    pub(super) delivery: Delivery,
    pacer: Pacer,
    pub(super) stop: StopHandle,
    backend: Backend,
    reason: String,
    drops_read_at: Instant,
    /// The drop counters must still be read.
    drops_owed: bool,
    /// Waits and submissions that failed since the last success.
    failures: Failures,
    /// A failure of the backend that no call has returned yet, because the callback broke or a socket was added.
    pub(super) late_failure: Option<Error>,
    /// The kernel accepts submissions from one thread only.
    _not_send: PhantomData<*const ()>,
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
            failures: Failures::default(),
            late_failure: None,
            _not_send: PhantomData,
        };
        this.settle()?;
        Ok(this)
    }

    /// Takes one turn: waits for datagrams by the wait policy, and calls `f` with each event, in order.
    ///
    /// The wait takes no longer than `timeout`. `None` waits without limit, and zero does not wait. A turn without an
    /// event returns [`Turn::Idle`]. This may happen before the time-out, because a signal or deferred work, such as
    /// reading drop counters, ends a wait. Then call `poll` again.
    ///
    /// # Errors
    ///
    /// - The backend failed. The next call continues, and delivers what was received. A temporary failure (`EAGAIN`,
    ///   `ENOMEM`) is an error only after 10 seconds without a success; before that it is
    ///   [`Notice::Stalled`](crate::Notice::Stalled). The failure of a single socket is
    ///   [`Notice::Failed`](crate::Notice::Failed).
    /// - [`ErrorKind::Forked`](crate::ErrorKind::Forked): another process built the engine.
    pub fn poll<B>(
        &mut self,
        timeout: Option<Duration>,
        mut f: impl FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    ) -> Result<Turn<B>> {
        self.stop.require_home(RECEIVE)?;
        if self.stop.is_stopped() {
            return Ok(Turn::Stopped);
        }
        match self.turn(timeout, &mut f)? {
            Turn::Idle if self.stop.is_stopped() => Ok(Turn::Stopped),
            turn => Ok(turn),
        }
    }

    /// Takes turns until the callback breaks or the engine is stopped.
    ///
    /// Returns `Some` with the value of the callback's [`ControlFlow::Break`]. The engine can be run again: the next
    /// call continues with the event after that.
    ///
    /// Returns `None` after [`StopHandle::stop`] or [`Control::stop`]. Before it returns, the engine leaves all groups,
    /// and delivers what is queued for at most a second.
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

    /// Adds a socket with the default options, and arms it.
    ///
    /// # Errors
    ///
    /// As [`Engine::add`](crate::Engine::add).
    pub fn add(&mut self, socket: Socket) -> Result<SocketId, AddError> {
        self.add_with(socket, AddOptions::default())
    }

    /// Adds a socket, and arms it.
    ///
    /// # Errors
    ///
    /// As [`Engine::add_with`](crate::Engine::add_with).
    pub fn add_with(&mut self, socket: Socket, options: AddOptions) -> Result<SocketId, AddError> {
        if let Err(error) = self.stop.require_home("add a socket") {
            return Err(AddError::new(socket, error));
        }
        let id = self.sockets.insert(socket, options)?;
        if let Err(error) = self.settle_if_empty() {
            self.late_failure = Some(error); // the next turn fails too, or `finish` returns it
        }
        Ok(id)
    }

    /// Marks a socket for removal: its last messages come in later turns, then
    /// [`Notice::Removed`](crate::Notice::Removed). The socket keeps its groups, and the datagrams in its queue.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NoSuchSocket`](crate::ErrorKind::NoSuchSocket): the socket is gone, or is being removed.
    /// - [`ErrorKind::Forked`](crate::ErrorKind::Forked): another process built the engine.
    pub fn remove(&mut self, id: SocketId) -> Result<()> {
        self.stop.require_home("remove a socket")?;
        self.sockets.remove(id)?;
        self.settle_if_empty()
    }

    /// Takes a socket back after its [`Notice::Removed`](crate::Notice::Removed) or
    /// [`Notice::Failed`](crate::Notice::Failed).
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NoSuchSocket`](crate::ErrorKind::NoSuchSocket): the socket is not in this engine, was reclaimed,
    ///   or is not gone yet.
    /// - [`ErrorKind::Forked`](crate::ErrorKind::Forked): another process built the engine.
    pub fn reclaim(&mut self, id: SocketId) -> Result<Reclaimed> {
        self.stop.require_home("reclaim a socket")?;
        self.sockets.reclaim(id)
    }

    /// Lends a socket, for options, memberships and sending. [`Socket::recv`] on it is an error, because the engine
    /// receives from it. `None`: the engine has no such socket.
    pub fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(id).map(|entry| &entry.socket)
    }

    /// What became of a socket's datagrams so far. `None`: the engine has no such socket.
    pub fn statistics(&self, id: SocketId) -> Option<Statistics> {
        self.sockets.get(id).map(|entry| entry.statistics)
    }

    /// The backend in use. [`Backend::Auto`] only with a [`Replay`](crate::Replay).
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Why this backend was chosen: what prevents a better one, and what to do about it.
    pub fn backend_reason(&self) -> &str {
        &self.reason
    }

    /// A handle that stops this engine from another thread or a signal handler.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// How long a wait may gather datagrams. `None`: the policy does not gather. This is less than the delay of
    /// [`Wait::Batch`] if the smallest receive buffer cannot hold the events of that time. The engine uses the sizes
    /// that the buffers had when their sockets were added.
    pub fn longest_delay(&self) -> Option<Duration> {
        self.pacer.longest_delay()
    }

    /// A descriptor for epoll(7) or an async runtime. When it is readable, call [`poll`](Self::poll) with a time-out of
    /// zero; sometimes the turn is idle. `None` unless [`EngineBuilder::pollable`](crate::EngineBuilder::pollable) is
    /// on.
    pub fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.receive.pollable_fd()
    }

    pub(super) fn turn<B, F>(&mut self, timeout: Option<Duration>, f: &mut F) -> Result<Turn<B>>
    where
        F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    {
        self.stop.require_home(RECEIVE)?; // a callback may have forked while the engine ends
        self.receive.set_readable(false);
        self.delivery.recycle(self.receive.as_mut()); // the rest of a turn whose callback panicked
        if self.delivery.is_empty() {
            self.wait(timeout)?;
            self.drain();
        }
        let turn = self.deliver(f);
        self.delivery.recycle(self.receive.as_mut());
        let settled = self.settle_if_empty();
        if !self.delivery.is_empty() || self.sockets.has_pending {
            self.receive.set_readable(true);
        }
        match settled {
            // Returns the callback's value. The next turn fails too, or `finish` returns the failure.
            Err(error) if matches!(turn, Turn::Break(_)) => {
                self.late_failure = Some(error);
                Ok(turn)
            }
            settled => settled.map(|()| turn),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let latest = if self.sockets.has_pending {
            Some(Duration::ZERO)
        } else if self.sockets.unsettled {
            Some(SOON)
        } else {
            None
        };
        let timeout = [timeout, latest].into_iter().flatten().min();
        if std::mem::take(&mut self.sockets.pause_owed) {
            pause(timeout);
        }
        let must_read_drops = self.drops_owed || self.sockets.must_read_drops;
        let alarm = must_read_drops.then_some(SOON);
        match self.receive.wait(self.pacer.plan(timeout, alarm)) {
            Ok(()) => {
                self.failures.note_success();
                Ok(())
            }
            Err(error) => self.note_failed_call(error, timeout),
        }
    }

    /// Records a failed call, and pauses if it failed before. Returns the error if the call cannot work or is given up.
    fn note_failed_call(&mut self, error: Error, timeout: Option<Duration>) -> Result<()> {
        self.receive.set_readable(true);
        if !may_pass(error.raw_os_error()) {
            return Err(error);
        }
        let verdict = self.failures.note(Instant::now());
        match verdict {
            Verdict::TryAgain => {}
            Verdict::Pause => pause(timeout),
            Verdict::GiveUp => return Err(given_up(error)),
        }
        let is_first = verdict == Verdict::TryAgain;
        self.sockets.note_stalled(error, is_first);
        Ok(())
    }

    /// Takes the received datagrams, and reads the drop counters when they are due.
    fn drain(&mut self) {
        let Delivery { taken, room, .. } = &mut self.delivery;
        self.receive.drain(&mut self.sockets, taken, *room);
        let now = Instant::now();
        self.delivery.received_at = Timestamp::now();
        self.pacer.note_turn(self.delivery.taken.len(), now);
        self.delivery.note_drops_owed(&mut self.sockets);
        self.drops_owed |=
            !self.delivery.taken.is_empty() || std::mem::take(&mut self.sockets.must_read_drops);
        let is_pollable = self.receive.pollable_fd().is_some(); // the next call may come only with the next datagram
        let elapsed = now.saturating_duration_since(self.drops_read_at);
        if self.drops_owed && (is_pollable || elapsed >= DROPS_INTERVAL) {
            self.sockets.read_drops(|entry| entry.drops_owed);
            (self.drops_read_at, self.drops_owed) = (now, false);
        }
    }

    pub(super) fn deliver<B, F>(&mut self, f: &mut F) -> Turn<B>
    where
        F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
    {
        let _guard = ReadableOnPanic(self.receive.as_ref());
        deliver(
            self.receive.as_ref(),
            &mut self.sockets,
            &mut self.delivery,
            &self.stop,
            f,
        )
    }

    fn settle_if_empty(&mut self) -> Result<()> {
        if self.sockets.unsettled && self.delivery.is_empty() {
            self.settle()
        } else {
            Ok(())
        }
    }

    /// Sets up new sockets, arms, cancels and frees. No datagram may be in hand.
    fn settle(&mut self) -> Result<()> {
        self.sockets.unsettled = false;
        let mut must_retry = false;
        let mut has_stalled = false;
        for entry in self.sockets.iter_mut() {
            let was_leaving = entry.state == State::Leaving;
            if let Err(error) = settle_entry(entry, self.receive.as_mut()) {
                if !was_leaving {
                    entry.note_not_armed(error, Instant::now());
                }
                must_retry = true;
                has_stalled |= entry.pending.stalled.is_some();
            }
        }
        self.sockets.unsettled = must_retry;
        self.sockets.has_pending |= has_stalled;
        self.sockets.note_farewells();
        self.delivery
            .set_room(self.sockets.iter().map(|entry| entry.room).sum());
        self.pacer
            .set_smallest_buffer(self.sockets.smallest_buffer_bytes());
        self.submit_if_pollable()
    }

    /// Submits now, because a program may wait for the pollable descriptor instead of in the engine.
    fn submit_if_pollable(&mut self) -> Result<()> {
        if self.receive.pollable_fd().is_none() {
            return Ok(());
        }
        if self.sockets.has_pending || self.sockets.unsettled {
            self.receive.set_readable(true);
        }
        match self.receive.submit() {
            Ok(()) => Ok(()),
            Err(error) => self.note_failed_call(error, Some(Duration::ZERO)),
        }
    }
}

/// Pauses before a failed call is retried, for no longer than `timeout`.
fn pause(timeout: Option<Duration>) {
    thread::sleep(timeout.map_or(retry::PAUSE, |timeout| timeout.min(retry::PAUSE)));
}

/// Makes the pollable descriptor readable if the callback panics, because events may remain.
struct ReadableOnPanic<'a>(&'a dyn Receive);

impl Drop for ReadableOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_readable(true);
        }
    }
}

/// Brings one socket to its next state.
fn settle_entry(entry: &mut Entry, receive: &mut dyn Receive) -> Result<()> {
    let (slot, fd) = (entry.id.slot, entry.socket.as_fd());
    if entry.state == State::New {
        let attached = persist(|| receive.attach(slot, entry.options));
        entry.room = attached.map_err(|error| Error::system("arm a receive", error))?;
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
                entry.room = 0;
                entry.state = State::Gone;
                entry.read_drops(Timestamp::now());
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

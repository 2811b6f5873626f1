//! A stream of owned items for async programs. Behind the feature `tokio`.
//!
//! A started engine belongs to its thread, and lends its messages. Here one thread runs the engine, copies each list of
//! messages once, and sends it over a bounded channel. The items are `Send` and `'static`, so `tokio::spawn` accepts
//! them. The callback of [`Running`](crate::Running) stays the main interface: it copies nothing.
//!
//! ```
//! use nlring::{Engine, Notice, Protocol, Replay, Socket};
//! use nlring::stream::{EventStream, Item};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nlring::Result<()> {
//! # let datagram = [16u32.to_ne_bytes(), 20u32.to_ne_bytes(), [0; 4], [0; 4]].concat();
//! let script = Replay::new().datagram(datagram).starved(); // in place of the kernel
//! let mut engine = Engine::builder().replay(script).build()?;
//! engine.add(Socket::open(Protocol::ROUTE)?)?;
//!
//! let mut stream = EventStream::builder().spawn(engine)?;
//! let counting = tokio::spawn(async move {
//!     let mut message_count = 0;
//!     while let Some(item) = stream.recv().await {
//!         match item? {
//!             Item::Messages(_, list) => message_count += list.message_count(),
//!             Item::Lost(socket, loss) => println!("{} datagrams lost on {socket}", loss.count),
//!             Item::Skipped(socket, skipped) => println!("{} messages skipped on {socket}", skipped.messages),
//!             Item::Notice(socket, notice) => println!("{socket}: {notice}"),
//!         }
//!     }
//!     Ok::<_, nlring::Error>(message_count)
//! });
//! assert_eq!(counting.await.expect("no panic")?, 1);
//! # Ok(()) }
//! ```

mod courier;
mod list;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use futures_core::Stream;
use tokio::sync::mpsc::{self, Receiver};

pub use list::OwnedList;

use crate::engine::{Engine, Loss, Notice, Reclaimed, SocketId, StopHandle};
use crate::error::{Error, ErrorKind, Result};
use crate::message::MessageList;
use courier::Courier;

/// What a stream yields. The items of one socket are in the kernel's order.
#[derive(Debug)]
pub enum Item {
    /// Messages of one socket.
    Messages(SocketId, OwnedList),
    /// The kernel dropped datagrams.
    Lost(SocketId, Loss),
    /// The stream skipped messages at this place, because the channel was full. Only with [`WhenFull::Skip`].
    Skipped(SocketId, Skipped),
    /// Anything else that the engine reports.
    Notice(SocketId, Notice),
}

/// What a stream skipped because its channel was full. The engine received it: its statistics count it as received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Lists of messages.
    pub lists: u64,
    /// Datagrams in those lists.
    pub datagrams: u64,
    /// Messages in those lists.
    pub messages: u64,
    /// Losses within the skipped part, which no [`Item::Lost`] reports: the sum of their counts, and the time from the
    /// first to the last.
    pub lost: Option<Loss>,
}

impl Skipped {
    fn add_list(&mut self, list: &MessageList<'_>) {
        self.lists += 1;
        self.datagrams += list.datagrams().len() as u64;
        self.messages += list.message_count() as u64;
    }

    fn add_loss(&mut self, loss: Loss) {
        self.lost = Some(self.lost.map_or(loss, |earlier| earlier.merge(loss)));
    }
}

/// What happens to messages when the channel is full because the reader is slow. Losses and notices always wait for
/// room, unless they belong to what is being skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The engine's thread waits for the reader, and datagrams accumulate in the sockets' receive buffers. When one of
    /// these is full, the kernel drops datagrams, and the engine reports each loss.
    #[default]
    Wait,
    /// The stream skips messages, counts them, and reports them with [`Item::Skipped`] at their place. The sockets'
    /// queues stay short.
    Skip,
}

/// Builds an [`EventStream`].
#[derive(Clone, Debug)]
#[must_use = "a builder builds nothing until `spawn`"]
pub struct StreamBuilder {
    capacity: usize,
    when_full: WhenFull,
}

impl StreamBuilder {
    /// How many items the channel holds, from 1 to 65,536; 64 by default. A list of messages, which is up to 64
    /// datagrams, is one item.
    pub fn capacity(mut self, count: usize) -> Self {
        self.capacity = count;
        self
    }

    /// What happens to messages when the channel is full; [`WhenFull::Wait`] by default.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Starts a thread, and the engine on it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`]: the capacity is out of range. [`ErrorKind::System`] or [`ErrorKind::WouldBlock`]:
    /// the system cannot start another thread. If the engine cannot start, the stream yields that error as its only
    /// item.
    pub fn spawn(self, engine: Engine) -> Result<EventStream> {
        if !(1..=1 << 16).contains(&self.capacity) {
            return Err(Error::with_kind("start a stream", ErrorKind::InvalidInput)
                .with_remedy("the capacity must be from 1 to 65,536 items"));
        }
        let (sender, receiver) = mpsc::channel(self.capacity);
        let total = Arc::new(Mutex::new(Skipped::default()));
        let stop = engine.stop_handle();
        let courier = Courier {
            sender,
            when_full: self.when_full,
            unreported: Vec::new(),
            total: Arc::clone(&total),
        };
        let thread = thread::Builder::new()
            .name("nlring".into())
            .spawn(move || courier::run(engine, courier))
            .map_err(|error| Error::system("start a thread", error))?;
        Ok(EventStream {
            receiver,
            total,
            stop,
            thread: Some(thread),
        })
    }
}

/// The events of an engine as owned items, in order.
///
/// It ends, with `None`, when the [stop handle](Self::stop_handle) was used and everything queued was delivered, or
/// after an error. Dropping it stops the engine and waits for its thread, up to a second.
#[must_use = "dropping a stream stops its engine"]
pub struct EventStream {
    receiver: Receiver<Result<Item>>,
    total: Arc<Mutex<Skipped>>,
    stop: StopHandle,
    thread: Option<JoinHandle<Vec<Reclaimed>>>,
}

impl EventStream {
    /// Starts to build a stream.
    pub fn builder() -> StreamBuilder {
        StreamBuilder {
            capacity: 64,
            when_full: WhenFull::default(),
        }
    }

    /// The next item. `None`: the stream has ended. If the future is dropped, no item is lost.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::start`] and [`Running::poll`](crate::Running::poll). The stream ends after an error.
    pub async fn recv(&mut self) -> Option<Result<Item>> {
        self.receiver.recv().await
    }

    /// What has been skipped so far, over all sockets.
    pub fn skipped(&self) -> Skipped {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle that ends the stream from another task or thread. The engine leaves its groups and delivers what is
    /// queued, for up to a second; then the stream yields `None`.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Ends the stream and returns the sockets. Unread items are dropped: to read them all, use the [stop
    /// handle](Self::stop_handle) and read until `None` first. Empty if the engine could not start.
    ///
    /// Waits up to a second for the engine's thread. After `None` it does not wait.
    pub fn finish(mut self) -> Vec<Reclaimed> {
        self.join()
    }

    fn join(&mut self) -> Vec<Reclaimed> {
        self.receiver.close(); // so that the thread no longer waits for room
        self.stop.stop();
        let thread = self.thread.take();
        thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Stream for EventStream {
    type Item = Result<Item>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.join();
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("skipped", &self.skipped())
            .finish_non_exhaustive()
    }
}

//! Receive netlink events as fast as the kernel sends them, and know exactly which were lost.
//!
//! An [`Engine`] receives from many netlink [`Socket`]s through io_uring and lends the messages to a callback, without
//! a copy or an allocation per message. It reads the kernel's drop counters, so a loss is an [`Event`] in the stream,
//! with its size and time. [`conntrack`] and [`route`] decode messages of these two families, send requests, and keep
//! mirrors of the kernel's tables.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use nlring::{Engine, Event, Protocol, Socket, conntrack};
//!
//! let socket = Socket::builder(Protocol::NETFILTER)
//!     .group(conntrack::Group::New)
//!     .group(conntrack::Group::Destroy)
//!     .recv_buffer_bytes(8 << 20)
//!     .open()?;
//! let mut engine = Engine::builder().build()?;
//! engine.add(socket)?;
//! engine.start()?.run(|event, _control| {
//!     match event {
//!         Event::Messages(_, list) => {
//!             for flow in list.iter().filter_map(|message| conntrack::Flow::decode(&message)) {
//!                 println!("{:?} {} -> {}", flow.kind, flow.orig.src, flow.orig.dst);
//!             }
//!         }
//!         Event::Lost(socket, loss) => eprintln!("{} datagrams lost on {socket}", loss.count),
//!         Event::Notice(socket, notice) => eprintln!("{socket}: {notice}"),
//!     }
//!     ControlFlow::<()>::Continue(())
//! })?;
//! # Ok::<(), nlring::Error>(())
//! ```
//!
//! # Where to start
//!
//! | To | use |
//! |---|---|
//! | receive events | [`Engine`], [`Running`], [`Event`] |
//! | decode them | [`conntrack::Flow`], [`route::Route`], or [`Message`] and [`Attributes`]; instants are [`Timestamp`]s |
//! | receive only some events | [`conntrack::Filter`], [`Socket::set_filter`] |
//! | receive flows on several threads | [`conntrack::Shards`] |
//! | receive no more events than a limit | [`conntrack::Sampler`] |
//! | keep a table equal to the kernel's | [`conntrack::Mirror`], [`route::Mirror`] |
//! | dump, look up and change entries | [`conntrack::Requests`], [`route::Requests`] |
//! | follow a family of generic netlink | [`generic`] |
//! | send other requests | [`Requester`], [`Batch`] |
//! | use a socket without an engine | [`Socket`], [`MessageBuilder`] |
//! | receive and send requests in another network namespace | [`Namespace`], [`SocketBuilder::namespace`] |
//!
//! # The path of a datagram
//!
//! 1. The kernel sends an event to a multicast group: it puts a datagram into the receive queue of each socket in the
//!    group. If a queue is full, it raises the drop counter of that socket instead.
//! 2. **Wait.** The engine sleeps according to its [`Wait`] policy. Waking up costs more than anything else, so under
//!    load it gathers events, but never for longer than the receive buffers can hold them.
//! 3. **Drain.** The ring's multishot receive has put each datagram into a buffer, with its sender, group and
//!    namespace. The engine takes the completions off the ring and reads the drop counters.
//! 4. **Deliver.** The engine checks every length once. Up to 64 datagrams of a socket become a [`MessageList`], which
//!    the callback borrows. The engine counts and reports truncated, malformed and foreign datagrams instead of parsing
//!    them.
//! 5. **Recycle.** The buffers go back to the kernel.
//!
//! A message cannot outlive its callback:
//!
//! ```compile_fail,E0521
//! # use std::ops::ControlFlow;
//! # use nlring::{Engine, Event, Message};
//! # fn demo(mut running: nlring::Running) -> nlring::Result<()> {
//! let mut kept: Vec<Message<'_>> = Vec::new();
//! running.run(|event, _| {
//!     if let Event::Messages(_, list) = event {
//!         kept.extend(list.iter()); // the kernel fills the buffer again when the callback has returned
//!     }
//!     ControlFlow::<()>::Continue(())
//! })?;
//! # Ok(()) }
//! ```
//!
//! A running engine cannot leave its thread:
//!
//! ```compile_fail,E0277
//! # fn demo(running: nlring::Running) {
//! std::thread::spawn(move || drop(running));
//! # }
//! ```
//!
//! An engine also belongs to its process. After a fork every call in the child is an error, see
//! [`Engine`](Engine#fork).
//!
//! # Losses
//!
//! No datagram that the kernel built for a socket is lost silently. [`Statistics`] are exact, per socket, in datagrams:
//! `received + dropped + unread` is the number that the kernel tried to deliver.
//!
//! - `received` includes those that were `truncated`, `malformed`, `short` or `foreign`.
//! - `dropped` is the kernel's own counter (`SK_MEMINFO_DROPS`). Whenever it rises, an [`Event::Lost`] has the two
//!   moments between which the loss happened.
//! - `unread` is what was still in the queue when the engine ended without delivering it. If it could not be counted
//!   completely, `unread_is_incomplete` is set.
//!
//! Two other counters do not mean losses: `starved` counts how often the engine ran out of buffers, and `retried`
//! counts system calls that failed temporarily and were repeated.
//!
//! # Tables
//!
//! Events report changes. A dump reports the current table. A [`conntrack::Mirror`] or [`route::Mirror`] combines both:
//! whenever the kernel's table stops changing, the mirror equals it, even after a loss. After a loss it reports the
//! changes that the lost events would have reported.
//!
//! # Kernels
//!
//! | Linux | what it adds |
//! |---|---|
//! | 4.12 | drop counters (`SO_MEMINFO`). This is the oldest kernel that works, with [`Backend::Recvmmsg`] |
//! | 5.6 | [`Backend::Oneshot`] |
//! | 6.0 | [`Backend::Multishot`] |
//! | 6.1 | deferred task work: fewer wake-ups |
//! | 6.12 | gathering in one system call (`min_wait_usec`) |
//! | 6.12 and 6.18 since 2026-04 | datagrams packed back to back (`min_left`): less memory, fewer starved turns |
//!
//! [`Backend::Auto`] tries what works, whatever the kernel's version.
//!
//! # Features
//!
//! - `io-uring`, on by default: the backends of io_uring. Without it the engine receives with recvmmsg(2) only.
//! - `latency`: the module `latency`, which records latencies with the crate `hdrhistogram`.
//! - `serde`: `Serialize` for decoded values. The names are those of the Rust fields, except that instants are numbers
//!   of nanoseconds since 1970 whose names end in `_ns` (`start_ns`, `stop_ns`, `observed_start_ns`, `event_ns`). Kinds
//!   and families are words (`"new"`, `"ipv4"`), addresses and the kernel's names are text, labels, hops and metrics
//!   are lists, and absent values are null.
//! - `tokio`: the module `stream`, a stream of owned items for async programs.

#[cfg(not(target_os = "linux"))]
compile_error!("nlring builds for Linux only, because no other system has netlink");

pub mod conntrack;
mod engine;
mod error;
mod event_kind;
mod family;
pub mod filter;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod generic;
#[cfg(feature = "latency")]
pub mod latency;
pub mod message;
mod mirror;
mod request;
pub mod route;
#[cfg(feature = "serde")]
mod serialize;
mod socket;
#[cfg(feature = "tokio")]
pub mod stream;
mod sys;
mod timestamp;

pub use engine::{
    AddError, AddOptions, Backend, Control, Engine, EngineBuilder, Event, Finished, Loss, Missing,
    Notice, Reclaimed, Replay, Running, SocketId, Statistics, StopHandle, Turn, Wait,
};
pub use error::{Error, ErrorKind, Result};
pub use event_kind::EventKind;
pub use family::Family;
pub use message::{
    Attribute, Attributes, Content, Datagram, ErrorMessage, Header, Malformed, MalformedReason,
    Message, MessageBuilder, MessageList, Messages,
};
pub use mirror::{MirrorHealth, MirrorOptions, Resync, ResyncReason};
pub use request::{Batch, Dump, Replies, Requester};
pub use socket::{
    Namespace, NotNetlink, Protocol, RecvBuffer, RecvFlags, Socket, SocketBuilder, sockopt,
};
pub use timestamp::Timestamp;

/// Compiles the example of the README together with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

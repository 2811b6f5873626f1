//! Receive netlink at the rate the kernel makes it, and know exactly what was lost.
//!
//! An [`Engine`] keeps receives in flight on many netlink [`Socket`]s through io_uring, into buffers registered once, and
//! hands what came to a callback as a [`MessageList`]: nothing is copied or allocated per message. The kernel's drop
//! counters are read along the way, so that a loss is an [`Event`] in the stream and not a surprise in /proc.
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
//! # The life of a datagram
//!
//! 1. The kernel multicasts an event: it clones a datagram into the receive queue of each socket in the group, or, where a
//!    queue is full, raises that socket's drop counter.
//! 2. **Wait.** The engine sleeps as its [`Wait`] policy says. Waking costs more than anything else, so under load it
//!    gathers, never longer than the receive buffers can absorb.
//! 3. **Drain.** The ring's multishot receive has put each datagram into a buffer of its own or, where the kernel packs,
//!    behind the one before, with sender, group and namespace; the engine takes the completions off the queue, and reads
//!    the drop counters.
//! 4. **Deliver.** Every length is checked once. Up to 64 datagrams of a socket become a [`MessageList`], lent to the
//!    callback; what is truncated, malformed or foreign is counted and told of, never parsed by luck.
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
//!         kept.extend(list.iter()); // the buffer is used again when the callback returns
//!     }
//!     ControlFlow::<()>::Continue(())
//! })?;
//! # Ok(()) }
//! ```
//!
//! and a running engine cannot leave its thread:
//!
//! ```compile_fail,E0277
//! # fn demo(running: nlring::Running) {
//! std::thread::spawn(move || drop(running));
//! # }
//! ```
//!
//! An engine belongs to its process, too: in a fork of it each call is an error ([`Engine`](Engine#fork)).
//!
//! # The loss model
//!
//! No datagram that the kernel built for a socket is lost silently. [`Statistics`] are exact, per socket, in datagrams:
//! `received + dropped + unread` is what the kernel tried to deliver. `received` includes those that were `truncated`,
//! `malformed`, `short` or `foreign`. `dropped` is the kernel's own counter (`SK_MEMINFO_DROPS`), and each move of it is an
//! [`Event::Lost`] with the two moments between which it happened. `unread` is what was still queued at an end without
//! delivery; where it could not be counted to the end, `unread_is_incomplete` says so. `retried` counts the system calls that
//! failed for a moment and were made again. `starved` counts how often the engine's own buffers ran out, by which nothing is lost.
//!
//! # State
//!
//! Events tell of changes; what there is, a dump tells: [`conntrack::Requests`] and [`route::Requests`] ask for it, and for
//! single entries, and change them. [`conntrack::Mirror`] and [`route::Mirror`] bring both together: a table that is the kernel's
//! own whenever that rests, also after a loss, with events that stand in for the lost ones.
//!
//! # Kernels
//!
//! | Linux | what it brings |
//! |---|---|
//! | 4.12 | drop counters (`SO_MEMINFO`): the oldest that works, by [`Backend::Recvmmsg`] |
//! | 5.6 | [`Backend::Oneshot`] |
//! | 6.0 | [`Backend::Multishot`] |
//! | 6.1 | deferred task work: fewer wake-ups |
//! | 6.12 | gathering in one system call (`min_wait_usec`) |
//! | 6.12 and 6.18 of 2026-04 on | datagrams packed back to back (`min_left`): less memory, fewer starved turns |
//!
//! [`Backend::Auto`] finds out by trying, not by version.
//!
//! # Features
//!
//! Both are off by default.
//!
//! - `latency`: a module of that name with a recorder of latencies, on the crate `hdrhistogram`.
//! - `serde`: `Serialize` for what is decoded. The names are those of the Rust fields, except that instants are numbers of
//!   nanoseconds since 1970 whose names end in `_ns` (`start_ns`, `stop_ns`, `observed_start_ns`, `event_ns`). Kinds and
//!   families are words (`"new"`, `"ipv4"`), addresses and the kernel's names are text, labels, hops and metrics are lists,
//!   and what is absent is null.

#[cfg(not(target_os = "linux"))]
compile_error!("netlink is Linux's: nlring builds for Linux only");

pub mod conntrack;
mod engine;
mod error;
mod event_kind;
mod family;
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
mod sys;

pub use engine::{
    AddError, AddOptions, Backend, Control, Engine, EngineBuilder, Event, Finished, Loss, Missing,
    Notice, Reclaimed, Running, SocketId, Statistics, StopHandle, Turn, Wait,
};
pub use error::{Error, ErrorKind, Result};
pub use event_kind::EventKind;
pub use family::Family;
pub use message::{
    Attribute, Attributes, Content, Datagram, ErrorMessage, Header, Malformed, MalformedReason,
    Message, MessageBuilder, MessageList, Messages,
};
pub use mirror::{MirrorHealth, Resync, ResyncReason};
pub use request::{Batch, Dump, Replies, Requester};
pub use socket::{NotNetlink, Protocol, RecvBuffer, RecvFlags, Socket, SocketBuilder, sockopt};

/// The example of the README is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

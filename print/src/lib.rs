//! Conntrack and rtnetlink events as lines: the text that `conntrack -E` and `ip monitor` print, and JSON.
//!
//! - [`conntrack::FlowFormat`] writes flows and expectations, and [`route::RouteFormat`] writes routes. Each appends to
//!   a `Vec<u8>` and allocates nothing else. [`monitor::MonitorFormat`] writes all objects of rtnetlink.
//! - [`Style`] writes the lines that belong to no family: a [`Gap`] in the stream of events, a mirror's resync, the
//!   mark of the events that the mirror found by comparing, and the beginning, changes and end of sampling.
//! - [`text`] has the escaping that keeps names from outside from manipulating a terminal. All writers use it.
//!
//! The fields of the JSON objects are described in docs/json.md of the repository.
//!
//! This program prints new connections, as `conntrack -E` does, and a line wherever events were lost:
//!
//! ```no_run
//! use std::io::{self, Write as _};
//! use std::ops::ControlFlow;
//!
//! use nlring::conntrack::{Flow, Group};
//! use nlring::{Engine, Event, Protocol, Socket, Timestamp};
//! use nlring_print::conntrack::FlowFormat;
//! use nlring_print::Gap;
//!
//! let socket = Socket::builder(Protocol::NETFILTER).open()?;
//! socket.add_membership(Group::New)?;
//! let mut engine = Engine::builder().build()?;
//! engine.add(socket)?;
//! let (format, mut lines) = (FlowFormat::default(), Vec::new());
//! engine.start()?.run(|event, _| {
//!     if let Some(gap) = Gap::of(&event) {
//!         format.style().write_gap(&mut lines, &gap);
//!     }
//!     if let Event::Messages(_, list) = &event {
//!         for flow in list.iter().filter_map(|message| Flow::decode(&message)) {
//!             format.write_event(&mut lines, &flow, Timestamp::now());
//!         }
//!     }
//!     let written = io::stdout().write_all(&lines);
//!     lines.clear();
//!     match written {
//!         Ok(()) => ControlFlow::Continue(()),
//!         Err(error) => ControlFlow::Break(error),
//!     }
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod conntrack;
mod gap;
pub mod json;
mod local_time;
pub mod monitor;
mod origin;
mod resync;
pub mod route;
mod sampling;
mod style;
pub mod text;

pub use gap::Gap;
pub use local_time::LocalTime;
pub use origin::{NamespaceChange, Origin};
pub use style::Style;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: nlring_testing::allocator::Counting = nlring_testing::allocator::Counting;

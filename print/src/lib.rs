//! Conntrack and route events as lines: the text that `conntrack -E` and `ip monitor route` print, and JSON.
//!
//! - [`conntrack::FlowFormat`] writes flows and expectations, and [`route::RouteFormat`] writes routes. Each appends to
//!   a `Vec<u8>` and allocates nothing else.
//! - [`Style`] writes what is not of one family: a [`Gap`] in the stream of events, a mirror's resync, and the mark of
//!   the events that the mirror found by comparing.
//! - [`text`] has the escaping that keeps names from outside from steering a terminal. All writers use it.
//!
//! The fields of the JSON objects are described in docs/json.md of the repository.

mod clock;
pub mod conntrack;
mod gap;
pub mod json;
mod local_time;
mod resync;
pub mod route;
mod style;
pub mod text;

pub use clock::{realtime_now_ns, rfc3339, since_1970_ns};
pub use gap::Gap;
pub use local_time::LocalTime;
pub use style::Style;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: nlring_testing::allocator::Counting = nlring_testing::allocator::Counting;

//! Helpers that the tests and benches of this workspace share.
//!
//! `nlring` uses this package for its tests, and this package uses `nlring`. Cargo allows that, because the arrow back
//! is a dev-dependency. The files in `tests/` and `benches/` can use everything here. The unit tests of `nlring` itself
//! see two copies of each of its types: their own, and the one that this package uses. So they can use only items whose
//! interface has none of these types: [`datagrams`], [`Random`], [`skip()`], the waits.

pub mod allocator;
pub mod datagrams;
pub mod events;
mod filtered;
mod namespace;
mod program;
mod random;
pub mod sampled;
mod skip;
mod thread;
mod wait;

pub use filtered::Filtered;
pub use namespace::{
    bind_name, enter_namespace, own_names, own_namespace, raise_loopback, unbind_name,
};
pub use program::{must, run};
pub use random::Random;
pub use skip::{cannot_run, leave_out, run_or_skip, skip};
pub use thread::{ThreadId, cpu_time, process_cpu_time};
pub use wait::{PATIENCE, await_that, best_of_3};

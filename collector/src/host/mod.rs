//! This process on its host: its capabilities, its threads, and its systemd service.

mod privilege;
mod process;
mod pulse;
pub mod service;

pub use privilege::give_up_capabilities;
pub use process::{cpu_time, resident_bytes};
pub use pulse::{Pulse, Pulses};

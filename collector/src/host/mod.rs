//! What this process is to the host: its capabilities, and a service of systemd.

mod privilege;
pub mod service;

pub use privilege::give_up_capabilities;
pub use service::Heartbeat;

//! The host: signals, CPUs, namespaces, capabilities, sysctls, and the programs that listen to the same events.

pub mod cpu;
pub mod kept;
pub mod known_namespaces;
pub mod listeners;
pub mod namespace;
pub mod namespace_watch;
pub mod privilege;
pub mod signals;
mod socket_flags;
pub mod sysctl;

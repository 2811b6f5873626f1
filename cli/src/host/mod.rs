//! The host: signals, CPUs, namespaces, capabilities, sysctls.

pub mod cpu;
pub mod namespace;
pub mod privilege;
pub mod signals;
pub mod sysctl;

//! Routes as lines, with the names of their devices.

mod device_names;
mod encap_json;
mod format;
pub(crate) mod iproute_names;
pub(crate) mod json;
mod name_fields;
pub(crate) mod names;
pub(crate) mod text;

pub use device_names::DeviceNames;
pub use format::RouteFormat;
pub use iproute_names::IprouteNames;
pub use text::{TextOptions, TimestampLayout};

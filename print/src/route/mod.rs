//! Routes as lines, with the names of their devices.

mod device_names;
mod format;
mod iproute_names;
mod json;
mod text;

pub use device_names::DeviceNames;
pub use format::RouteFormat;
pub use iproute_names::IprouteNames;
pub use text::TextOptions;

//! Routes as lines.

pub mod device_names;
mod encap;
pub mod json;
pub mod text;

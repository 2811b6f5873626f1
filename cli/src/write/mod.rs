//! Where lines and messages go.

pub mod console;
pub mod fold;
pub mod help;
pub mod output;
pub mod place;
pub mod sink;

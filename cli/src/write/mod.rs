//! Files, pipes and terminals that lines and messages are written to.

pub mod console;
pub mod fold;
pub mod help;
pub mod output;
pub mod place;
pub mod sink;
pub mod whole_file;

//! Files, pipes and terminals to which lines and messages are written.

pub mod console;
pub mod fold;
pub mod help;
pub mod output;
pub mod place;
pub mod sink;
pub mod whole_file;

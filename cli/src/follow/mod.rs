//! What all commands that follow events share, from the first socket to the summary.

pub mod collect;
pub mod collector;
mod gaps;
mod growth;
pub mod handler;
mod intake;
pub mod keeper;
pub mod listing;
mod mirror_watch;
pub mod namespaces;
mod reports;
mod retries;
pub mod sampled;
pub mod selection;
pub mod session;
mod stats_file;
pub mod summary;
pub mod table_file;

//! Following events: what `conntrack` and `route` share from the first socket to the summary.

pub mod collect;
mod gaps;
mod growth;
pub mod keeper;
pub mod listing;
mod retries;
pub mod session;
pub mod summary;
pub mod table_file;

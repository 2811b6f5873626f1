//! The spool: records on disk, in the order in which they were made, until every output has read them.
//!
//! It is a directory of segments, `NUMBER.arrows.zst`. A segment is a stream of Arrow IPC with the columns of
//! [`SCHEMA`](crate::record::schema::SCHEMA). Each batch of it is compressed as one zstd frame with a checksum, so that
//! a torn or damaged batch is noticed. Any Arrow reader opens a segment behind a zstd decoder. One writer appends
//! batches. A reader has a [`Position`], and reads only what the [`Tail`] says is written.
//!
//! What survives: a batch that was appended survives the end of nlringd, also by SIGKILL. It survives the end of the
//! machine once it is synced, see [`Sync`](crate::config::Sync).

mod cursor;
mod frame;
mod identity;
mod keeper;
mod mend;
mod reader;
mod removal;
mod segment;
mod snapshot;
mod summary;
mod syncs;
mod tail;
mod writer;

pub use cursor::{Acknowledged, Cursor, Tally};
pub use identity::identity;
pub use keeper::Keeper;
pub use mend::Found;
pub use reader::{Read, Reader};
pub use removal::Removal;
pub use segment::Position;
pub use snapshot::Snapshot;
pub use syncs::Syncs;
pub use tail::{End, Tail};
pub use writer::Writer;

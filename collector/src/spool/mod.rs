//! The spool: records on disk, in the order in which they were made, until every output has read them.
//!
//! It is a directory of segments, `NUMBER.arrows`. Each is a stream of Arrow IPC with the columns of
//! [`SCHEMA`](crate::record::schema::SCHEMA), compressed with zstd, which any Arrow reader opens. One writer appends
//! batches. A reader has a [`Position`], and reads only what the [`Tail`] says is written.

mod cursor;
mod reader;
mod segment;
mod tail;
mod writer;

pub use cursor::Cursor;
pub use reader::{Read, Reader};
pub use segment::Position;

pub use writer::Writer;

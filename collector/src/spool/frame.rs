//! Zstd frames, the form of batches on disk.

use std::io;

use zstd::zstd_safe;

/// No frame is larger, compressed or not. A larger size counts as damage.
const MOST_BYTES: usize = 1 << 30;
/// The first bytes of a frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The length of the whole frame at the beginning of these bytes. None: more bytes are needed.
///
/// # Errors
///
/// These bytes do not begin with a frame.
pub fn length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let begin = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(begin) {
        return Err(damaged("no zstd frame begins here"));
    }
    match zstd_safe::find_frame_compressed_size(bytes) {
        Ok(length) => Ok(Some(length)),
        Err(_) if bytes.len() > MOST_BYTES => Err(damaged("the frame has no end")),
        Err(_) => Ok(None),
    }
}

/// What a whole frame contains.
///
/// # Errors
///
/// The frame is damaged: its checksum is wrong, or its size is missing.
pub fn content(
    decompressor: &mut zstd::bulk::Decompressor<'_>,
    frame: &[u8],
) -> io::Result<Vec<u8>> {
    let size = zstd_safe::get_frame_content_size(frame).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok());
    match size {
        Some(size) if size <= MOST_BYTES => decompressor
            .decompress(frame, size)
            .map_err(|error| damaged(&error.to_string())),
        _ => Err(damaged("the frame has no size")),
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

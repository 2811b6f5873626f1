//! A unique name of the spool, so that positions of two spools are never confused.

use std::fs;
use std::io;
use std::path::Path;

use crate::failure::{Failure, Result};

/// The kernel's source of unique names.
const UUID: &str = "/proc/sys/kernel/random/uuid";

/// The name of the spool in this directory. The first call creates it.
pub fn identity(directory: &Path) -> Result<String> {
    let path = directory.join("identity");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::of_file("read", &path, &error));
        }
        _ => {}
    }
    let uuid = fs::read_to_string(UUID);
    let uuid = uuid.map_err(|error| Failure::of_file("read", Path::new(UUID), &error))?;
    let uuid = uuid.trim();
    let temporary = directory.join("identity.new");
    let written = fs::write(&temporary, format!("{uuid}\n"))
        .and_then(|()| fs::File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, &path));
    written.map_err(|error| Failure::of_file("write", &path, &error))?;
    Ok(uuid.to_owned())
}

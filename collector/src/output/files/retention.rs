//! Removes complete files that are too old, or too many. It considers only files that this output has named.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nlring::Timestamp;
use tracing::info;

use super::name::Name;
use crate::failure::{Failure, Result};

/// A complete file of this output.
#[derive(Debug)]
pub struct Complete {
    pub path: PathBuf,
    pub name: Name,
    pub bytes: u64,
}

/// The complete files of a node with this extension, oldest first.
pub fn find(directory: &Path, node: &str, extension: &str) -> Result<Vec<Complete>> {
    let failed = |error| Failure::of_file("list", directory, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| Name::parse(name, extension));
        let Some(name) = name.filter(|name| name.node == node) else {
            continue;
        };
        let metadata = entry.metadata().map_err(failed)?;
        if metadata.is_file() {
            found.push(Complete {
                path: entry.path(),
                name,
                bytes: metadata.len(),
            });
        }
    }
    found.sort_by_key(|file| file.name.behind);
    Ok(found)
}

/// How many of the oldest of these files exceed the limits. The newest file never does.
pub fn beyond(
    files: &[Complete],
    now: Timestamp,
    max_age: Option<Duration>,
    max_bytes: Option<u64>,
) -> usize {
    let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let mut count = 0;
    for pair in files.windows(2) {
        let [oldest, next] = pair else { break };
        // The records of a file are older than the first one of the next file.
        let age_ns = now.as_ns().saturating_sub(next.name.begun.as_ns());
        let is_too_old = max_age.is_some_and(|most| u128::from(age_ns) > most.as_nanos());
        if !is_too_old && max_bytes.is_none_or(|most| bytes <= most) {
            break;
        }
        bytes -= oldest.bytes;
        count += 1;
    }
    count
}

/// Removes these files.
pub fn remove(files: &[Complete]) -> Result<()> {
    for file in files {
        fs::remove_file(&file.path)
            .map_err(|error| Failure::of_file("remove", &file.path, &error))?;
        info!(
            "{} is removed: it is beyond the limits",
            file.path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Position;

    fn files() -> Vec<Complete> {
        let file = |hour: u64| Complete {
            path: PathBuf::new(),
            name: Name {
                node: "gw".to_owned(),
                begun: Timestamp::from_ns(hour * 3_600_000_000_000),
                behind: Position::begin(hour),
            },
            bytes: 100,
        };
        (0..10).map(file).collect()
    }

    #[test]
    fn the_oldest_files_go_and_the_newest_stays() {
        let files = files();
        let now = Timestamp::from_ns(10 * 3_600_000_000_000);
        let hours = |count: u64| Some(Duration::from_secs(count * 3600));
        assert_eq!(beyond(&files, now, None, None), 0);
        assert_eq!(beyond(&files, now, None, Some(1000)), 0);
        assert_eq!(beyond(&files, now, None, Some(999)), 1);
        assert_eq!(beyond(&files, now, None, Some(0)), 9, "the newest stays");
        assert_eq!(beyond(&files, now, hours(0), None), 9, "the newest stays");
        // The first five end when the files of the hours 1 to 5 begin: at least 5 hours ago.
        assert_eq!(beyond(&files, now, hours(4), None), 5);
        assert_eq!(beyond(&files, now, hours(4), Some(300)), 7);
    }
}

//! The files that a question is about.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::failure::{Failure, Result};

const HOUR_NS: i64 = 3_600_000_000_000;
/// The last message of an hour may say that records of the next seconds are complete.
const MARGIN_NS: i64 = HOUR_NS;

/// Finds files.
pub struct Finder {
    /// Records before this time do not matter: nanoseconds since 1970.
    from_ns: i64,
    seen: HashSet<(u64, u64)>,
    files: Vec<PathBuf>,
    failures: Vec<Failure>,
}

impl Finder {
    pub fn new(from_ns: i64) -> Self {
        Self {
            from_ns,
            seen: HashSet::new(),
            files: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The files at and below these paths: in directories, all files whose names end in `.parquet`. Hidden files are not
    /// complete yet and are left out, and so are hours of the layout of `nlringd store` that are over before the
    /// question's time.
    pub fn find(mut self, paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Failure>) {
        for path in paths {
            let found_before = self.seen.len();
            self.find_below(path);
            let is_empty = self.seen.len() == found_before + 1 && !has_files(path);
            if is_empty && path.is_dir() {
                self.failures.push(Failure::Other(format!(
                    "{} has no file whose name ends in .parquet; name the directory of an output of nlringd with \
                     format = \"parquet\"",
                    path.display()
                )));
            }
        }
        (self.files, self.failures)
    }

    /// Adds the files below a path, unless they are there already: by another path, or by a link.
    fn find_below(&mut self, path: &Path) {
        // What cannot be looked at cannot be opened either, which is reported then.
        let metadata = fs::metadata(path).ok();
        if let Some(metadata) = &metadata
            && !self.seen.insert((metadata.dev(), metadata.ino()))
        {
            return;
        }
        if !metadata.is_some_and(|metadata| metadata.is_dir()) {
            self.files.push(path.to_owned());
            return;
        }
        match list(path) {
            Ok(entries) => {
                for entry in self.that_matter(entries) {
                    self.find_below(&entry);
                }
            }
            Err(failure) => self.failures.push(failure),
        }
    }

    /// Leaves out the hours that are over. The last one always matters: it tells when the records of its node end. If the
    /// clock was set back, later records may be in an earlier hour. Their positions in the spool then show that they are
    /// missing.
    fn that_matter(&self, mut entries: Vec<PathBuf>) -> Vec<PathBuf> {
        let last = entries.iter().filter_map(|entry| end_ns(entry)).max();
        let needed = self.from_ns.saturating_sub(MARGIN_NS);
        entries.retain(|entry| {
            let end = end_ns(entry);
            end == last || end.is_none_or(|end| end > needed)
        });
        entries.sort_unstable();
        entries
    }
}

/// When the records of a directory end, if its name says so: `date=2026-11-29`, or `hour=14` below it.
fn end_ns(directory: &Path) -> Option<i64> {
    if let Some(begin) = begin_of_date(directory) {
        return begin.checked_add(24 * HOUR_NS);
    }
    let hour: u8 = value(directory, "hour=")?.parse().ok()?;
    begin_of_date(directory.parent()?)?.checked_add(i64::from(hour + 1) * HOUR_NS)
}

fn begin_of_date(directory: &Path) -> Option<i64> {
    let date: Date = value(directory, "date=")?.parse().ok()?;
    let begin = TimeZone::UTC.to_timestamp(date.into()).ok()?;
    i64::try_from(begin.as_nanosecond()).ok()
}

/// What follows the key in the name of a directory.
fn value<'a>(directory: &'a Path, key: &str) -> Option<&'a str> {
    directory.file_name()?.to_str()?.strip_prefix(key)
}

fn has_files(directory: &Path) -> bool {
    list(directory).is_ok_and(|entries| !entries.is_empty())
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Failure::of_file("list", directory, &error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        if !is_hidden && (path.is_dir() || path.extension().is_some_and(|end| end == "parquet")) {
            entries.push(path);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN_NS: i64 = 1_795_910_400_000_000_000; // 2026-11-29

    #[test]
    fn the_name_of_a_directory_says_when_its_records_end() {
        let end = |path: &str| Some((end_ns(Path::new(path))? - BEGIN_NS) / HOUR_NS);
        assert_eq!(end("s/node=gw/date=2026-11-29"), Some(24));
        assert_eq!(end("s/node=gw/date=2026-11-29/hour=00"), Some(1));
        assert_eq!(end("s/node=gw/date=2026-11-29/hour=23"), Some(24));
        for other in [
            "s",
            "s/node=gw",
            "s/hour=14",
            "date=2026-13-01",
            "date=1/hour=2",
            "/",
        ] {
            assert_eq!(end(other), None, "{other}");
        }
    }

    #[test]
    fn hours_that_are_over_are_left_out_except_the_last_one() {
        let that_matter = |hour: i64, names: &[&str]| {
            let finder = Finder::new(BEGIN_NS + hour * HOUR_NS);
            let entries = names.iter().map(PathBuf::from).collect();
            let entries = finder.that_matter(entries).into_iter();
            let names = entries.map(|path| path.to_str().expect("UTF-8").to_owned());
            names.collect::<Vec<_>>()
        };
        let hours = ["12", "10", "13", "11"].map(|hour| format!("date=2026-11-29/hour={hour}"));
        let hours = hours.each_ref().map(String::as_str);
        let days = ["date=2026-11-28", "date=2026-11-29"];
        assert_eq!(that_matter(13, &hours), [hours[0], hours[2]]);
        assert_eq!(that_matter(20, &hours), [hours[2]]);
        assert_eq!(that_matter(0, &days), days, "it is too near");
        assert_eq!(that_matter(2, &days), [days[1]]);
        assert_eq!(that_matter(100, &days), [days[1]]);
        assert_eq!(that_matter(100, &["gw1", "gw2", "x.parquet"]).len(), 3);
    }
}

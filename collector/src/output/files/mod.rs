//! The output to files. Complete files have their final names; the one that is being written has a temporary name.

mod format;
mod name;
pub mod parquet;
mod retention;
mod text;

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use nlring::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use self::format::Encoder;
use self::name::Name;
use self::retention::Complete;
use super::Output;
use crate::config::{self, Live};
use crate::failure::{Failure, Result};
use crate::record::about::{self, About, Notes};
use crate::record::batch;
use crate::spool::{Acknowledged, Position};

/// Writes records to files.
pub struct Files {
    node: String,
    live: Live<config::Files>,
    /// The configuration for the batch that is being taken.
    config: Arc<config::Files>,
    /// The position before which the complete files have everything.
    newest: Option<Position>,
    current: Option<Current>,
    acknowledged: Acknowledged,
    /// The position and the coverage after the last batch taken.
    taken: Acknowledged,
    /// The time of the last record that was taken.
    last: Option<Timestamp>,
}

/// The file that is being written.
struct Current {
    encoder: Encoder,
    /// What was taken before the first batch, and what has been taken so far.
    before: Acknowledged,
    behind: Acknowledged,
    /// The time of the last record before the first batch.
    last_before: Option<Timestamp>,
    /// The time of the first record or mark, and of the last record.
    begun: Timestamp,
    last: Timestamp,
    notes: Notes,
}

impl Files {
    pub fn new(node: &str, live: Live<config::Files>) -> Self {
        Self {
            node: node.to_owned(),
            config: live.get(),
            live,
            newest: None,
            current: None,
            acknowledged: Acknowledged::default(),
            taken: Acknowledged::default(),
            last: None,
        }
    }

    /// Creates the directory. It is not created again later, because it may be one that has to be mounted.
    pub fn create_directory(&self) -> Result<()> {
        let directory = &self.config.directory;
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)
            .map_err(|error| Failure::of_file("create", directory, &error))
    }

    fn find(&self) -> Result<Vec<Complete>> {
        retention::find(&self.config.directory, &self.node, self.extension())
    }

    fn extension(&self) -> &'static str {
        format::extension(self.config.format, self.config.compression)
    }

    fn temporary(&self) -> PathBuf {
        let name = format!(".{}.{}.part", self.node, self.config.name);
        self.config.directory.join(name)
    }

    fn begin(&self, time: Timestamp) -> Result<Current> {
        let path = self.temporary();
        let created = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&path);
        let file = created.map_err(|error| Failure::of_file("create", &path, &error))?;
        let encoder = Encoder::new(file, self.config.format, self.config.compression);
        Ok(Current {
            encoder: encoder.map_err(|error| Failure::of_file("write", &path, &error))?,
            before: Acknowledged {
                // The files have these batches, even if the spool has them no more.
                position: self.taken.position.max(self.newest.unwrap_or_default()),
                ..self.taken
            },
            behind: self.taken,
            last_before: self.last,
            begun: time,
            last: time,
            notes: Notes::default(),
        })
    }

    /// Completes the current file: it gets its final name.
    fn complete(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        let temporary = self.temporary();
        let about = current.about(&self.node);
        let finished = current.encoder.finish(&about);
        finished
            .and_then(|file| file.sync_all())
            .map_err(|error| Failure::of_file("write", &temporary, &error))?;
        let name = Name {
            node: self.node.clone(),
            begun: Timestamp::from_ns(current.begun.as_ns() / 1_000_000_000 * 1_000_000_000),
            behind: current.behind.position,
        };
        let path = self.config.directory.join(name.with(self.extension()));
        publish(&temporary, &path)?;
        self.newest = Some(current.behind.position);
        self.acknowledged = current.behind;
        self.enforce_limits()
    }

    fn enforce_limits(&self) -> Result<()> {
        let max_age = self.config.max_age.map(|age| age.0);
        let max_bytes = self.config.max_bytes.map(|bytes| bytes.0);
        if max_age.is_none() && max_bytes.is_none() {
            return Ok(());
        }
        let files = self.find()?;
        let count = retention::beyond(&files, Timestamp::now(), max_age, max_bytes);
        retention::remove(&files[..count])
    }

    /// Writes the records of a batch to the current file.
    fn write(&mut self, batch: &RecordBatch, mut current: Current) -> Result<()> {
        for (begin, length) in batch::runs_of_records(batch) {
            current
                .encoder
                .write(&batch.slice(begin, length))
                .map_err(|error| Failure::of_file("write", &self.temporary(), &error))?;
        }
        current.behind = self.taken;
        current.notes.take(batch);
        if let Some((_, last)) = batch::times(batch) {
            current.last = last;
            self.last = Some(last);
        }
        self.current = Some(current);
        Ok(())
    }
}

impl Current {
    /// What the file says about itself.
    fn about(&self, node: &str) -> About {
        let until = self.behind.covered;
        // The mark before the file may be of a clock that was set back since then, or not be known.
        let marks = [self.before.covered, self.notes.first_mark, until];
        let from = marks.into_iter().flatten().min();
        let ns = |time: Option<Timestamp>| time.map(Timestamp::as_ns);
        About {
            format: about::FORMAT,
            node: node.to_owned(),
            positions: [self.before, self.behind].map(|place| place.position.to_string()),
            complete_ns: [ns(from), ns(until)],
            behind_ns: ns(self.last_before.max(from)),
            flows_until_ns: ns(self.notes.mark_of_flows),
            ends_ns: self.notes.ends.iter().map(|end| end.as_ns()).collect(),
            recording: self.notes.recording.clone(),
        }
    }

    /// Whether the file ends before a batch with these times: its interval is over, or the clock was set back.
    fn ends_before(
        &self,
        records: Option<(Timestamp, Timestamp)>,
        time: Timestamp,
        interval: Duration,
    ) -> bool {
        let interval_ns = u64::try_from(interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        let number = |time: Timestamp| time.as_ns() / interval_ns;
        records.is_some_and(|(first, _)| first < self.last) || number(time) > number(self.begun)
    }
}

/// Gives a complete file its name. It never replaces another file.
pub fn publish(temporary: &Path, path: &Path) -> Result<()> {
    let renamed = renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE);
    let renamed = match renamed {
        // Some file systems, such as NFS, do not have this flag.
        Err(rustix::io::Errno::INVAL) => {
            fs::hard_link(temporary, path).and_then(|()| fs::remove_file(temporary))
        }
        renamed => renamed.map_err(Into::into),
    };
    renamed.map_err(|error| Failure::of_file("rename a file to", path, &error))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Failure::of_file("sync", directory, &error))
}

impl Output for Files {
    fn name(&self) -> &str {
        &self.config.name
    }

    /// The position after the newest complete file.
    fn newest(&self) -> Result<Option<Position>> {
        Ok(self.find()?.last().map(|file| file.name.behind))
    }

    /// The newest complete file tells how far the files go.
    fn resume(&mut self, saved: Acknowledged) -> Result<()> {
        self.current = None;
        self.acknowledged = saved;
        self.taken = saved;
        self.last = None;
        self.newest = self.newest()?;
        Ok(())
    }

    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()> {
        self.config = self.live.get();
        let mark = batch::last_mark(batch);
        let records = batch::times(batch);
        let is_in_files = self.newest.is_some_and(|newest| behind <= newest);
        let begun = records.map(|(first, _)| first).or(mark);
        let begun = begun.unwrap_or_else(Timestamp::now);
        if let Some(current) = &self.current
            && (current.notes.differ_from(batch)
                || current.ends_before(records, begun, self.config.rotate_interval.0))
        {
            self.complete()?;
        }
        let taken = Acknowledged {
            position: behind,
            covered: mark.or(self.taken.covered),
            ..self.taken
        };
        if is_in_files {
            self.last = records.map(|(_, last)| last).or(self.last);
            self.taken = taken;
            self.acknowledged = taken;
            return Ok(());
        }
        let current = match self.current.take() {
            Some(current) => current,
            None => self.begin(begun)?,
        };
        self.taken = taken;
        self.write(batch, current)?;
        let current = self.current.as_ref();
        if current.is_some_and(|current| current.encoder.bytes() >= self.config.rotate_bytes.0) {
            self.complete()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.complete()
    }

    fn acknowledged(&self) -> Acknowledged {
        self.acknowledged
    }
}

#[cfg(test)]
mod tests;

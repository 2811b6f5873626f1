//! The output to files: complete ones have their final name, the one that is written has a temporary name.

mod name;
mod parquet;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use nlring::Timestamp;

use self::name::Name;
use self::parquet::ParquetFile;
use super::Output;
use crate::config;
use crate::failure::{Failure, Result};
use crate::spool::Position;

/// Writes records to files.
pub struct Files {
    node: String,
    directory: PathBuf,
    rotate_interval: Duration,
    rotate_bytes: u64,
    current: Option<Current>,
    acknowledged: Option<Position>,
}

/// The file that is written.
struct Current {
    file: ParquetFile,
    temporary: PathBuf,
    begun: Timestamp,
    begun_at: Instant,
    behind: Position,
}

impl Files {
    /// Opens the directory, and removes what an earlier run has left incomplete there.
    pub fn open(node: &str, config: &config::Files) -> Result<Self> {
        let directory = config.directory.clone();
        fs::create_dir_all(&directory)
            .map_err(|error| Failure::of_file("create", &directory, &error))?;
        Ok(Self {
            node: node.to_owned(),
            directory,
            rotate_interval: config.rotate_interval.0,
            rotate_bytes: config.rotate_bytes.0,
            current: None,
            acknowledged: None,
        })
    }

    fn begin(&self, behind: Position) -> Result<Current> {
        let begun = Timestamp::now();
        let temporary = self.directory.join(format!(".{}.part", self.node));
        Ok(Current {
            file: ParquetFile::create(&temporary)?,
            temporary,
            begun,
            begun_at: Instant::now(),
            behind,
        })
    }

    /// Completes the current file: it gets its final name.
    fn complete(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        current.file.finish()?;
        let name = Name {
            node: self.node.clone(),
            begun: current.begun,
            behind: current.behind,
        };
        let path = self.directory.join(name.to_string());
        fs::rename(&current.temporary, &path)
            .map_err(|error| Failure::of_file("rename a file to", &path, &error))?;
        self.acknowledged = Some(current.behind);
        Ok(())
    }
}

impl Output for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    /// The newest complete file says how far the files go.
    fn resume(&mut self, saved: Option<Position>) -> Result<Option<Position>> {
        let failed = |error| Failure::of_file("list", &self.directory, &error);
        let mut newest = saved;
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().and_then(|name| name.parse::<Name>().ok());
            let ours = name.filter(|name| name.node == self.node);
            newest = newest.max(ours.map(|name| name.behind));
        }
        Ok(newest)
    }

    fn take(&mut self, behind: Position, batch: &RecordBatch) -> Result<()> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin(behind)?,
        };
        current.file.write(batch)?;
        current.behind = behind;
        self.current = Some(current);
        Ok(())
    }

    fn advance(&mut self, now: Instant) -> Result<()> {
        let is_due = self.current.as_ref().is_some_and(|current| {
            current.file.bytes() >= self.rotate_bytes
                || now.duration_since(current.begun_at) >= self.rotate_interval
        });
        if is_due { self.complete() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<()> {
        self.complete()
    }

    fn acknowledged(&self) -> Option<Position> {
        self.acknowledged
    }
}

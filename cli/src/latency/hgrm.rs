//! A file for each distribution, in the format of HdrHistogram's plotters.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nlring::latency::Recorder;
use nlring_print::text::shown;

use super::plan::{Plan, Setting};
use super::run::Runs;
use crate::args::Way;
use crate::outcome::Failure;
use crate::write::whole_file::WholeFile;

/// How long a reader that does not read can delay the end.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Directory(PathBuf);

impl Directory {
    /// Creates the directory, unless it exists.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(path)
            .map_err(|error| Failure::Other(format!("make --hgrm {}: {error}", shown(path))))?;
        Ok(Self(path.to_owned()))
    }

    pub fn write(&self, plan: &Plan, runs: &[Runs]) -> Result<(), Failure> {
        for (setting, runs) in plan.settings.iter().zip(runs.chunks(plan.ways.len())) {
            for (way, runs) in plan.ways.iter().zip(runs) {
                let path = self.0.join(file_name(setting, way));
                write_file(&path, &runs.recorder)
                    .map_err(|error| Failure::Other(format!("write {}: {error}", shown(&path))))?;
            }
        }
        Ok(())
    }
}

fn write_file(path: &Path, recorder: &Recorder) -> io::Result<()> {
    let mut text = Vec::new();
    recorder.write_percentiles(&mut text)?;
    WholeFile::open(path)?.write(&text, PATIENCE)
}

/// A name that is different for each setting and way, in characters that need no quoting.
fn file_name(setting: &Setting, way: &Way) -> String {
    let rate = setting
        .rate
        .map_or("max".to_owned(), |rate| rate.to_string());
    let buffer = setting.recv_buffer_bytes;
    let way = way.to_string().replace(['/', ':'], "-");
    format!("{}-{rate}-{buffer}-{way}.hgrm", setting.source)
}

//! What the workers have stored.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray as _;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::load::Sample;
use super::support::NLRINGD;

/// The files.
#[derive(Default)]
pub struct Stored {
    pub files: u32,
    pub bytes: u64,
    pub flows: u64,
    pub losses: u64,
}

impl Stored {
    /// Reads the files below a directory.
    pub fn read(directory: &Path) -> Self {
        let mut stored = Self::default();
        for path in below(directory) {
            if path.extension().is_some_and(|end| end == "parquet") {
                stored.take(&path);
            }
        }
        stored
    }

    fn take(&mut self, path: &Path) {
        let file = File::open(path).expect("a file");
        self.files += 1;
        self.bytes += file.metadata().expect("metadata").len();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
        let record = ProjectionMask::columns(builder.parquet_schema(), ["record"]);
        for batch in builder.with_projection(record).build().expect("a reader") {
            let batch = batch.expect("a batch");
            let words = batch["record"].as_any_dictionary_opt().expect("words");
            let texts = words.values().as_string::<i32>();
            for key in words.normalized_keys() {
                match texts.value(key) {
                    "flow" => self.flows += 1,
                    "loss" => self.losses += 1,
                    _ => {}
                }
            }
        }
    }
}

/// The files below a directory.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// The bytes of the files below a directory.
pub fn bytes_below(directory: &Path) -> u64 {
    let bytes = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    below(directory).iter().map(bytes).sum()
}

/// Asks who had the translated address of a flow when it existed. There is one answer, and it is complete. Returns how long
/// this takes.
pub fn ask(directory: &Path, sample: &Sample) -> Duration {
    let at = format!("{:.9}", sample.at);
    let begun = Instant::now();
    let output = Command::new(NLRINGD)
        .args(["query", "--json", "--nat", &sample.nat, "--at", &at])
        .arg(directory)
        .output()
        .expect("nlringd starts");
    let lasted = begun.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let source = format!("\"orig_src\":\"{}\"", sample.orig_src);
    let is_answer = text.lines().count() == 1 && text.contains(&source);
    assert!(
        is_answer && output.status.success(),
        "{sample:?}: {output:?}"
    );
    lasted
}

//! Reads a Parquet file of records.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions,
    ParquetRecordBatchReaderBuilder, RowFilter,
};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData};

use super::column::{rows_of_term, rows_with, rows_within, time_columns, without_unused_words};
use super::coverage::Span;
use super::losses;
use super::prune::{Group, range, terms_that_may_hold, value_count};
use super::question::{Condition, Interval, Question, Term, Value};
use crate::failure::{Failure, Result};
use crate::record::Subject;
use crate::record::about::{self, About};
use crate::record::nat_filter::{PLACES, Place};
use crate::record::stretch::{self, STRETCHES, Stretch};

/// A file of records whose metadata has been read.
pub struct RecordFile {
    pub path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
    about: About,
    /// Where the filter of translated sources of each row group is.
    nat_filters: Vec<Place>,
}

/// A part of a file that must be read.
pub struct Part {
    group: usize,
    what: What,
}

enum What {
    /// Records that may answer the question, because these terms may hold.
    Answers(Vec<Term>),
    /// Losses in this time.
    Losses(Interval),
}

/// What was found.
pub struct Found {
    pub is_loss: bool,
    pub batch: RecordBatch,
}

/// The files at and below these paths: in directories, all files whose names end in `.parquet`. Hidden files are not
/// complete yet and are left out.
pub fn find(paths: &[PathBuf], mut failed: impl FnMut(Failure)) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        let found_before = seen.len();
        find_below(path, &mut seen, &mut files, &mut failed);
        if path.is_dir() && seen.len() == found_before + 1 && !has_files(path) {
            failed(Failure::Other(format!(
                "{} has no file whose name ends in .parquet; name the directory of an output of nlringd with \
                 format = \"parquet\"",
                path.display()
            )));
        }
    }
    files
}

/// Adds the files below a path, unless they are there already: by another path, or by a link.
fn find_below(
    path: &Path,
    seen: &mut HashSet<(u64, u64)>,
    files: &mut Vec<PathBuf>,
    failed: &mut impl FnMut(Failure),
) {
    // What cannot be looked at cannot be opened either, which is reported then.
    let metadata = fs::metadata(path).ok();
    if let Some(metadata) = &metadata
        && !seen.insert((metadata.dev(), metadata.ino()))
    {
        return;
    }
    if !metadata.is_some_and(|metadata| metadata.is_dir()) {
        files.push(path.to_owned());
        return;
    }
    match list(path) {
        Ok(mut entries) => {
            entries.sort_unstable();
            for entry in entries {
                find_below(&entry, seen, files, failed);
            }
        }
        Err(failure) => failed(failure),
    }
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

impl RecordFile {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Failure::of_file("open", path, &error))?;
        if let Some(failure) = other_format(path) {
            return Err(failure);
        }
        // The index says where the pages are, so that the reader can skip those without an answer.
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
        let metadata = unless_damaged(path, || ArrowReaderMetadata::load(&file, options))?;
        let names = ["record", "time"];
        if names
            .iter()
            .any(|name| metadata.schema().column_with_name(name).is_none())
        {
            return Err(Failure::Other(format!(
                "{} is a Parquet file, but not of records; leave it out of the paths",
                path.display()
            )));
        }
        let about = About::from_metadata(|key| entry(metadata.metadata(), key));
        if about.format > about::FORMAT {
            return Err(Failure::Other(format!(
                "{} was written by a newer nlringd ({}), whose records this one does not know; use that version",
                path.display(),
                entry(metadata.metadata(), about::VERSION).unwrap_or("of an unknown version")
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            about,
            nat_filters: nat_filters(metadata.metadata()),
            metadata,
        })
    }

    pub fn metadata(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    /// The host whose records it has.
    pub fn node(&self) -> &str {
        &self.about.node
    }

    /// The stretches of records that the file has, or an error if it does not say that.
    pub fn stretches(&self) -> Result<Vec<Stretch>> {
        match entry(self.metadata(), STRETCHES) {
            Some(text) => stretch::parse(text, &self.about).ok_or_else(|| self.unknown_records()),
            None => Ok(vec![Stretch {
                about: self.about.clone(),
                parts: [1].into(),
                part_count: 1,
            }]),
        }
    }

    /// The span of a stretch.
    pub fn span(&self, stretch: &Stretch) -> Result<Span> {
        span(&stretch.about).ok_or_else(|| self.unknown_records())
    }

    fn unknown_records(&self) -> Failure {
        Failure::Other(format!(
            "{} does not say which records it should have, unlike files that nlringd has written; its records \
             are searched, but nothing shows that none is missing: give the original files instead",
            self.path.display()
        ))
    }

    /// The parts that may contain an answer, or a loss that matters to it.
    pub fn parts(&self, question: &Question, silence_ns: i64) -> Vec<Part> {
        let mut losses = question.interval;
        losses.until = losses.until.saturating_add(silence_ns);
        let mut parts = Vec::new();
        for (number, group) in self.metadata().row_groups().iter().enumerate() {
            let mut add = |what| {
                parts.push(Part {
                    group: number,
                    what,
                });
            };
            if may_have_loss(group, losses) {
                add(What::Losses(losses));
            }
            if let Some(terms) = terms_that_may_hold(self.group(number), question) {
                add(What::Answers(terms));
            }
        }
        parts
    }

    fn group(&self, number: usize) -> Group<'_> {
        Group {
            file: &self.file,
            metadata: self.metadata().row_group(number),
            nat_filter: self.nat_filters.get(number).copied(),
        }
    }

    /// Reads a part.
    pub fn read(&self, part: &Part, question: &Question) -> Result<Vec<Found>> {
        // A file of its own, because its offset moves.
        let file = File::open(&self.path);
        let file = file.map_err(|error| Failure::of_file("open", &self.path, &error))?;
        let filter = match &part.what {
            What::Answers(terms) => self.answers(terms, question),
            What::Losses(interval) => self.losses(question.subject(), *interval),
        };
        let is_loss = matches!(part.what, What::Losses(_));
        unless_damaged(&self.path, || {
            let reader =
                ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                    .with_row_groups(vec![part.group])
                    .with_row_filter(RowFilter::new(filter))
                    .with_batch_size(32 << 10)
                    .build()?;
            let batches = reader.map(|batch| {
                let batch = without_unused_words(&batch?)?;
                Ok(Found { is_loss, batch })
            });
            let found: Result<Vec<Found>, ArrowError> = batches.collect();
            Ok(found?)
        })
    }

    /// The predicates that only answers meet. Columns that are fast to read and leave few rows come first.
    fn answers(&self, terms: &[Term], question: &Question) -> Vec<Box<dyn ArrowPredicate>> {
        let mut filter = Vec::new();
        let (single, several): (Vec<_>, Vec<_>) =
            terms.iter().partition(|term| term.alternatives.len() == 1);
        let mut conditions: Vec<&Condition> = single
            .iter()
            .flat_map(|term| &term.alternatives[0])
            .collect();
        conditions.sort_by_key(|condition| matches!(condition.value, Value::Text(_)));
        for condition in conditions {
            let condition = condition.clone();
            filter.push(self.predicate([condition.column], move |batch| {
                rows_with(batch, &condition)
            }));
        }
        for term in several {
            let conditions = term.alternatives.iter().flatten();
            let columns: Vec<_> = conditions.map(|condition| condition.column).collect();
            let term = term.clone();
            filter.push(self.predicate(columns, move |batch| rows_of_term(batch, &term)));
        }
        let (record, interval) = (question.record, question.interval);
        let columns = time_columns(record).iter().copied();
        filter.push(self.predicate(columns, move |batch| rows_within(batch, record, interval)));
        filter
    }

    fn losses(&self, subject: Subject, interval: Interval) -> Vec<Box<dyn ArrowPredicate>> {
        vec![self.predicate(losses::COLUMNS, move |batch| {
            losses::rows(batch, subject, interval)
        })]
    }

    fn predicate(
        &self,
        columns: impl IntoIterator<Item = &'static str>,
        mut rows: impl FnMut(&RecordBatch) -> BooleanBuffer + Send + 'static,
    ) -> Box<dyn ArrowPredicate> {
        let mask = ProjectionMask::columns(self.metadata.parquet_schema(), columns);
        Box::new(ArrowPredicateFn::new(mask, move |batch| {
            Ok(BooleanArray::new(rows(&batch), None))
        }))
    }
}

/// Why a file of this name is not read: it has records in another format.
fn other_format(path: &Path) -> Option<Failure> {
    let name = path.file_name()?.to_str()?;
    let name = Path::new(name.strip_suffix(".zst").unwrap_or(name));
    let end = name.extension()?;
    (end == "jsonl" || end == "csv").then(|| {
        Failure::Other(format!(
            "{} has its records as text, which does not say which of them are missing; name files of an output with \
             format = \"parquet\"",
            path.display()
        ))
    })
}

/// The part of the records that a file has, according to its metadata.
fn span(about: &About) -> Option<Span> {
    let position = |text: &String| text.parse().ok();
    let time = |ns: u64| i64::try_from(ns).ok();
    let [first, last] = about.positions.each_ref().map(position);
    let [from, until] = about.complete_ns.map(|ns| ns.and_then(time));
    Some(Span {
        positions: [first?, last?],
        time: Interval {
            from: from?,
            until: until?,
        },
        behind: about.behind_ns.and_then(time)?,
        flows_until: about.flows_until_ns.and_then(time),
        ends: about.ends_ns.iter().filter_map(|&end| time(end)).collect(),
        recording: about.recording.clone()?,
    })
}

/// The value of this key in a file's metadata.
fn entry<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    let mut entries = entries.iter();
    entries.find(|entry| entry.key == key)?.value.as_deref()
}

/// Where the filters of translated sources are. Empty if that cannot be read.
fn nat_filters(metadata: &ParquetMetaData) -> Vec<Place> {
    let text = entry(metadata, PLACES).unwrap_or_default();
    let places: Result<Vec<Place>, _> = text.split_whitespace().map(str::parse).collect();
    places.unwrap_or_default()
}

fn may_have_loss(group: &RowGroupMetaData, interval: Interval) -> bool {
    if value_count(group, "reason") == Some(0) {
        return false;
    }
    match (range(group, "since"), range(group, "until")) {
        (Some(since), Some(until)) => Interval {
            from: since.from,
            until: until.until,
        }
        .overlaps(interval),
        _ => true,
    }
}

/// Reads. If reading fails or the Parquet reader panics, the failure says that the file is damaged.
fn unless_damaged<T>(path: &Path, read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    let damaged = |error: String| {
        Failure::Other(format!(
            "{} is not a Parquet file, or is damaged ({error}); remove it, or restore it from a copy",
            path.display()
        ))
    };
    match panic::catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| damaged(error.to_string())),
        Err(_) => Err(damaged("its parts do not fit together".to_owned())),
    }
}

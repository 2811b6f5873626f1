//! Reads a Parquet file of records.

use std::fs::File;
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
use parquet::schema::types::SchemaDescriptor;

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

/// A file of records whose metadata has been read. It is not open, and has only the metadata that matters to a question,
/// because there may be 100,000 files.
pub struct RecordFile {
    pub path: PathBuf,
    about: About,
    /// None: it does not say which records it has.
    stretches: Option<Vec<Stretch>>,
    parts: Vec<Part>,
    /// None: it has no parts.
    metadata: Option<ArrowReaderMetadata>,
}

/// A part of a file that may have to be read.
pub struct Part {
    group: usize,
    what: What,
}

enum What {
    /// Records that may answer the question, because these terms may hold.
    Answers(Vec<Term>),
    /// Losses, all in this time. None: unknown.
    Losses(Option<Interval>),
}

/// What was found.
pub struct Found {
    pub is_loss: bool,
    pub batch: RecordBatch,
}

impl RecordFile {
    /// Reads what a file says about itself, and which of its parts matter to a question.
    pub fn open(path: &Path, question: &Question) -> Result<Self> {
        let file = File::open(path).map_err(|error| Failure::of_file("open", path, &error))?;
        if let Some(failure) = other_format(path) {
            return Err(failure);
        }
        // The index says where the pages are, so that the reader can skip those without an answer.
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
        let metadata = unless_damaged(path, || ArrowReaderMetadata::load(&file, options))?;
        let about = about(path, &metadata)?;
        let parts = parts(&file, metadata.metadata(), question);
        Ok(Self {
            path: path.to_owned(),
            stretches: stretches(metadata.metadata(), &about),
            about,
            metadata: (!parts.is_empty()).then_some(metadata),
            parts,
        })
    }

    /// The host whose records it has.
    pub fn node(&self) -> &str {
        &self.about.node
    }

    /// The stretches of records that the file has, or an error if it does not say that.
    pub fn stretches(&self) -> Result<&[Stretch]> {
        let stretches = self.stretches.as_deref();
        stretches.ok_or_else(|| self.unknown_records())
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

    /// The parts that may contain an answer, or a loss in this time.
    pub fn parts(&self, losses: Interval) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| match &part.what {
            What::Answers(_) => true,
            What::Losses(time) => time.is_none_or(|time| time.overlaps(losses)),
        })
    }

    /// Reads a part: answers, or losses in this time.
    pub fn read(&self, part: &Part, question: &Question, losses: Interval) -> Result<Vec<Found>> {
        let Some(metadata) = &self.metadata else {
            return Ok(Vec::new());
        };
        let file = File::open(&self.path);
        let file = file.map_err(|error| Failure::of_file("open", &self.path, &error))?;
        let schema = metadata.parquet_schema();
        let filter = match &part.what {
            What::Answers(terms) => answers(schema, terms, question),
            What::Losses(_) => losses_in(schema, question.subject(), losses),
        };
        let is_loss = matches!(part.what, What::Losses(_));
        unless_damaged(&self.path, || {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
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
}

/// What a file says about itself. Files of others, and of newer versions, are refused.
fn about(path: &Path, metadata: &ArrowReaderMetadata) -> Result<About> {
    let is_there = |name: &&str| metadata.schema().column_with_name(name).is_some();
    if !["record", "time"].iter().all(is_there) {
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
    Ok(about)
}

/// The stretches of records that a file has. None: that cannot be read.
fn stretches(metadata: &ParquetMetaData, about: &About) -> Option<Vec<Stretch>> {
    match entry(metadata, STRETCHES) {
        Some(text) => stretch::parse(text, about),
        None => Some(vec![Stretch {
            about: about.clone(),
            parts: [1].into(),
            part_count: 1,
        }]),
    }
}

/// The parts that may contain an answer, or a loss in the question's time or later.
fn parts(file: &File, metadata: &ParquetMetaData, question: &Question) -> Vec<Part> {
    let nat_filters = nat_filters(metadata);
    let mut parts = Vec::new();
    for (number, metadata) in metadata.row_groups().iter().enumerate() {
        let mut add = |what| {
            parts.push(Part {
                group: number,
                what,
            });
        };
        if may_have_loss(metadata) {
            let time = time_of_losses(metadata);
            if time.is_none_or(|time| time.until >= question.interval.from) {
                add(What::Losses(time));
            }
        }
        let group = Group {
            file,
            metadata,
            nat_filter: nat_filters.get(number).copied(),
        };
        if let Some(terms) = terms_that_may_hold(group, question) {
            add(What::Answers(terms));
        }
    }
    parts
}

/// The predicates that only answers meet. Columns that are fast to read and leave few rows come first.
fn answers(
    schema: &SchemaDescriptor,
    terms: &[Term],
    question: &Question,
) -> Vec<Box<dyn ArrowPredicate>> {
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
        filter.push(predicate(schema, [condition.column], move |batch| {
            rows_with(batch, &condition)
        }));
    }
    for term in several {
        let conditions = term.alternatives.iter().flatten();
        let columns: Vec<_> = conditions.map(|condition| condition.column).collect();
        let term = term.clone();
        filter.push(predicate(schema, columns, move |batch| {
            rows_of_term(batch, &term)
        }));
    }
    let (record, interval) = (question.record, question.interval);
    let columns = time_columns(record).iter().copied();
    filter.push(predicate(schema, columns, move |batch| {
        rows_within(batch, record, interval)
    }));
    filter
}

/// The predicate that only losses of a subject in this time meet.
fn losses_in(
    schema: &SchemaDescriptor,
    subject: Subject,
    interval: Interval,
) -> Vec<Box<dyn ArrowPredicate>> {
    vec![predicate(schema, losses::COLUMNS, move |batch| {
        losses::rows(batch, subject, interval)
    })]
}

fn predicate(
    schema: &SchemaDescriptor,
    columns: impl IntoIterator<Item = &'static str>,
    mut rows: impl FnMut(&RecordBatch) -> BooleanBuffer + Send + 'static,
) -> Box<dyn ArrowPredicate> {
    let mask = ProjectionMask::columns(schema, columns);
    Box::new(ArrowPredicateFn::new(mask, move |batch| {
        Ok(BooleanArray::new(rows(&batch), None))
    }))
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

fn may_have_loss(group: &RowGroupMetaData) -> bool {
    value_count(group, "reason") != Some(0)
}

/// When the losses of a row group happened. None: unknown.
fn time_of_losses(group: &RowGroupMetaData) -> Option<Interval> {
    let (since, until) = (range(group, "since")?, range(group, "until")?);
    Some(Interval {
        from: since.from,
        until: until.until,
    })
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

//! Which row groups of a file may contain an answer, by their statistics and bloom filters.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use twox_hash::XxHash64;

use super::column::{first_ns, last_ns};
use super::question::{Condition, Interval, Question, Term, Value};
use crate::record::nat_filter::{self, Place};

/// A block of a bloom filter. A value is in only one block.
const BLOCK_BYTES: u64 = 32;

/// A row group of a file.
#[derive(Clone, Copy)]
pub struct Group<'a> {
    pub file: &'a File,
    pub metadata: &'a RowGroupMetaData,
    /// The filter of its translated sources.
    pub nat_filter: Option<Place>,
}

/// The terms that may hold in this row group, without the alternatives that cannot. None: it contains no answer.
pub fn terms_that_may_hold(group: Group<'_>, question: &Question) -> Option<Vec<Term>> {
    if !may_last_into(group.metadata, question) {
        return None;
    }
    let terms = question.terms.iter().map(|term| {
        let alternatives = term.alternatives.iter().filter(|conditions| {
            conditions
                .iter()
                .all(|condition| is_in_range(group.metadata, condition))
                && may_hold_together(group, conditions)
        });
        let alternatives: Vec<_> = alternatives.cloned().collect();
        (!alternatives.is_empty()).then_some(Term { alternatives })
    });
    terms.collect()
}

/// The column of this name.
pub fn column<'a>(group: &'a RowGroupMetaData, name: &str) -> Option<&'a ColumnChunkMetaData> {
    let mut columns = group.columns().iter();
    columns.find(|column| {
        column
            .column_path()
            .parts()
            .first()
            .is_some_and(|part| part == name)
    })
}

/// The range from the smallest to the largest value of a column of times. None: it has no values, or no statistics.
pub fn range(group: &RowGroupMetaData, name: &str) -> Option<Interval> {
    match column(group, name)?.statistics()? {
        Statistics::Int64(values) => Some(Interval {
            from: first_ns(*values.min_opt()?),
            until: last_ns(first_ns(*values.max_opt()?)),
        }),
        _ => None,
    }
}

/// How many rows have a value in the column.
pub fn value_count(group: &RowGroupMetaData, name: &str) -> Option<u64> {
    let nulls = column(group, name)?.statistics()?.null_count_opt()?;
    u64::try_from(group.num_rows()).ok()?.checked_sub(nulls)
}

fn may_last_into(group: &RowGroupMetaData, question: &Question) -> bool {
    let interval = question.interval;
    let Some(times) = range(group, "time") else {
        return true;
    };
    if question.record != "flow" {
        let since = range(group, "since").map_or(times.from, |since| since.from.min(times.from));
        let times = Interval {
            from: since,
            ..times
        };
        return times.overlaps(interval);
    }
    let last_stop = range(group, "stop").map_or(times.until, |stops| stops.until.max(times.until));
    last_stop >= interval.from && first_start(group).is_none_or(|start| start <= interval.until)
}

/// When the first flow began. None: for some rows this is unknown.
fn first_start(group: &RowGroupMetaData) -> Option<i64> {
    let columns = ["start", "observed_start"];
    let known: Option<u64> = columns.iter().map(|name| value_count(group, name)).sum();
    if known? < u64::try_from(group.num_rows()).ok()? {
        return None;
    }
    columns
        .iter()
        .filter_map(|name| range(group, name))
        .map(|starts| starts.from)
        .min()
}

/// Whether the value lies between the smallest and the largest one of the column.
fn is_in_range(group: &RowGroupMetaData, condition: &Condition) -> bool {
    let Some(column) = column(group, condition.column) else {
        return false;
    };
    let Some(statistics) = column.statistics() else {
        return true;
    };
    if value_count(group, condition.column) == Some(0) {
        return false;
    }
    match (statistics, &condition.value) {
        (Statistics::Int32(values), Value::Number(wanted)) => {
            let wanted = i32::from(*wanted);
            values.min_opt().is_none_or(|&min| min <= wanted)
                && values.max_opt().is_none_or(|&max| wanted <= max)
        }
        (Statistics::ByteArray(values), Value::Text(wanted)) => {
            let wanted = wanted.as_bytes();
            values.min_opt().is_none_or(|min| min.data() <= wanted)
                && values.max_opt().is_none_or(|max| wanted <= max.data())
        }
        _ => true,
    }
}

/// The address and port of the translated source, if the conditions have both, as files have them in their filters.
fn nat_key(conditions: &[Condition]) -> Option<u64> {
    let value = |name| {
        let mut conditions = conditions.iter();
        conditions.find(|condition| condition.column == name)
    };
    match (&value("nat_src")?.value, &value("nat_sport")?.value) {
        (Value::Text(address), Value::Number(port)) => {
            Some(nat_filter::key(address.parse().ok()?, *port))
        }
        _ => None,
    }
}

/// Whether the bloom filters allow these conditions to hold for one row.
fn may_hold_together(group: Group<'_>, conditions: &[Condition]) -> bool {
    let key = nat_key(conditions).zip(group.nat_filter);
    key.is_none_or(|(key, place)| may_be_in(group.file, place, &key.to_le_bytes()))
        && conditions.iter().all(|condition| {
            let place = column(group.metadata, condition.column).and_then(filter_of);
            place.is_none_or(|place| match &condition.value {
                Value::Text(text) => may_be_in(group.file, place, text.as_bytes()),
                // Parquet stores small numbers in 4 bytes.
                Value::Number(number) => {
                    may_be_in(group.file, place, &u32::from(*number).to_le_bytes())
                }
                Value::Prefix(_) => true,
            })
        })
}

/// Where the blocks of a column's bloom filter are.
fn filter_of(column: &ColumnChunkMetaData) -> Option<Place> {
    let offset = u64::try_from(column.bloom_filter_offset()?).ok()?;
    let length = u64::try_from(column.bloom_filter_length()?).ok()?;
    // The header is shorter than a block, and the filter consists of whole blocks.
    let header = length % BLOCK_BYTES;
    Some(Place {
        offset: offset.checked_add(header)?,
        length: length - header,
    })
}

/// Whether the value of these bytes may be in a bloom filter. Only the value's block is read. If it cannot be read, the
/// value may be present.
fn may_be_in(file: &File, filter: Place, bytes: &[u8]) -> bool {
    let blocks = filter.length / BLOCK_BYTES;
    if blocks == 0 {
        return false;
    }
    // Parquet format, BloomFilter.md: xxHash 64 with seed 0, of which the upper half says the block.
    let hash = u128::from(XxHash64::oneshot(0, bytes) >> 32);
    let number = u64::try_from((hash * u128::from(blocks)) >> 32).unwrap_or(u64::MAX);
    let offset = number
        .checked_mul(BLOCK_BYTES)
        .and_then(|offset| offset.checked_add(filter.offset));
    let mut block = [0; 32];
    let read = offset.and_then(|offset| file.read_exact_at(&mut block, offset).ok());
    // A filter of one block searches that block for every value.
    read.is_none_or(|()| Sbbf::new(&block).check(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, UInt16Array, types::Int32Type};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::record::nat_filter::NatFilter;

    const ROWS: u16 = 5000;

    /// The row group of a file that has the even ports below 10,000, each with the address of the same number.
    fn row_group() -> (File, RowGroupMetaData) {
        let ports = UInt16Array::from_iter_values((0..ROWS).map(|row| row * 2));
        let texts: Vec<String> = (0..ROWS).map(|row| address(row * 2)).collect();
        let addresses: DictionaryArray<Int32Type> = texts.iter().map(String::as_str).collect();
        let columns: [(&str, ArrayRef); 2] = [
            ("nat_sport", Arc::new(ports)),
            ("nat_src", Arc::new(addresses)),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let properties = WriterProperties::builder()
            .set_bloom_filter_enabled(true)
            .build();
        let path = std::env::temp_dir().join(format!(
            "nlringd-prune-{}-{:?}.parquet",
            std::process::id(),
            std::thread::current().id()
        ));
        let file = File::create_new(&path).expect("a new file");
        let mut writer =
            ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let file = File::options().read(true).write(true).open(&path);
        let file = file.expect("it is there");
        std::fs::remove_file(&path).expect("it is there");
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(&file)
            .expect("a footer");
        let group = metadata.row_group(0).clone();
        (file, group)
    }

    fn address(number: u16) -> String {
        format!("10.0.{}.{}", number >> 8, number & 255)
    }

    #[test]
    fn a_bloom_filter_has_each_value_and_few_others() {
        let (file, group) = row_group();
        let column = column(&group, "nat_sport").expect("it is there");
        assert!(
            column
                .bloom_filter_length()
                .is_some_and(|length| length > 64),
            "several blocks"
        );
        let group = Group {
            file: &file,
            metadata: &group,
            nat_filter: None,
        };
        let may_be = |column, value| may_hold_together(group, &[Condition { column, value }]);
        let mut wrong = 0;
        for number in 0..2 * ROWS {
            let port = may_be("nat_sport", Value::Number(number));
            let text = may_be("nat_src", Value::Text(address(number)));
            if number % 2 == 0 {
                assert!(port && text, "{number} is there");
            } else {
                wrong += u32::from(port) + u32::from(text);
            }
        }
        assert!(
            wrong < u32::from(ROWS) / 5,
            "{wrong} of {} are taken for values",
            2 * ROWS
        );
    }

    #[test]
    fn an_address_and_a_port_are_found_together() {
        let port = |row: u16| 1024 + row;
        let texts: Vec<String> = (0..ROWS)
            .map(|row| {
                if row % 2 == 0 {
                    "192.0.2.1".to_owned()
                } else {
                    "2001:db8::1".to_owned()
                }
            })
            .collect();
        let addresses: DictionaryArray<Int32Type> = texts.iter().map(String::as_str).collect();
        let ports = UInt16Array::from_iter_values((0..ROWS).map(port));
        let columns: [(&str, ArrayRef); 2] = [
            ("nat_sport", Arc::new(ports)),
            ("nat_src", Arc::new(addresses)),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let mut filter = NatFilter::default();
        filter.add(&batch);
        let bytes = filter.take().expect("in memory");
        let (file, _) = row_group();
        let end = file.metadata().expect("a file").len();
        file.write_all_at(&bytes, end).expect("written");
        let place = Place {
            offset: end,
            length: bytes.len() as u64,
        };
        let may_be = |address: &str, port: u16| {
            let condition = |column, value| Condition { column, value };
            let conditions = [
                condition("nat_sport", Value::Number(port)),
                condition("nat_src", Value::Text(address.to_owned())),
            ];
            let key = nat_key(&conditions).expect("both are there");
            assert_eq!(nat_key(&conditions[..1]), None);
            may_be_in(&file, place, &key.to_le_bytes())
        };
        let mut wrong = 0;
        for row in 0..ROWS {
            let [used, other] = match row % 2 {
                0 => ["192.0.2.1", "2001:db8::1"],
                _ => ["2001:db8::1", "192.0.2.1"],
            };
            assert!(may_be(used, port(row)));
            wrong += u32::from(may_be(other, port(row)));
        }
        assert!(wrong < u32::from(ROWS) / 20, "{wrong} of {ROWS} are wrong");
    }

    #[test]
    fn statistics_tell_which_values_cannot_be_there() {
        let (_, group) = row_group();
        let is_in = |column, value| is_in_range(&group, &Condition { column, value });
        assert!(is_in("nat_sport", Value::Number(0)) && is_in("nat_sport", Value::Number(9998)));
        assert!(!is_in("nat_sport", Value::Number(9999)));
        assert!(!is_in("nat_src", Value::Text("192.0.2.1".to_owned())));
        assert!(
            !is_in("netns", Value::Text("blue".to_owned())),
            "there is no such column"
        );
    }
}

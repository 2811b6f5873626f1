//! The answers, and how they are printed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use arrow_array::RecordBatch;
use nlring::Timestamp;
use nlring_print::json;
use nlring_print::text::escaped;
use serde_json::{Map, Value};

use super::column::{Cell, cell, cell_of, instant};
use super::losses::Missing;
use super::route;
use crate::record::stored::NS;

/// Records that answer the question.
#[derive(Default)]
pub struct Rows {
    batches: Vec<(String, RecordBatch)>,
}

/// How many records were not written.
#[must_use]
pub struct Rest(pub usize);

/// A record.
#[derive(Clone, Copy)]
struct Row<'a> {
    node: &'a str,
    batch: &'a RecordBatch,
    number: usize,
}

const HEAD: [&str; 8] = [
    "FROM",
    "UNTIL",
    "PROTO",
    "SOURCE",
    "DESTINATION",
    "TRANSLATED",
    "PACKETS",
    "BYTES",
];
const HEAD_OF_ROUTES: [&str; 3] = ["TIME", "EVENT", "ROUTE"];

impl Rows {
    pub fn add(&mut self, node: &str, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.batches.push((node.to_owned(), batch));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The first records in order of time, up to the limit. Of each flow, only the last record.
    fn in_order(&self, limit: usize) -> (Vec<Row<'_>>, Rest) {
        let rows = self.batches.iter().flat_map(|(node, batch)| {
            (0..batch.num_rows()).map(move |number| Row {
                node,
                batch,
                number,
            })
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| row.instant("time"));
        let mut rows = without_repeats(rows);
        let rest = Rest(rows.len().saturating_sub(limit));
        rows.truncate(limit);
        (rows, rest)
    }

    /// Writes a line of JSON for each of the first records.
    pub fn write_json(&self, limit: usize, out: &mut impl Write) -> io::Result<Rest> {
        let (rows, rest) = self.in_order(limit);
        for row in rows {
            writeln!(out, "{}", json::to_string(&row.object())?)?;
        }
        Ok(rest)
    }

    /// Writes a table of the first records.
    pub fn write_table(&self, limit: usize, out: &mut impl Write) -> io::Result<Rest> {
        let (rows, rest) = self.in_order(limit);
        if rows.is_empty() {
            return Ok(rest);
        }
        let head = if rows[0].is_route() {
            &HEAD_OF_ROUTES[..]
        } else {
            &HEAD
        };
        let head: Vec<_> = head.iter().map(|&word| word.to_owned()).collect();
        let mut widths = vec![0; head.len()];
        let lines: Vec<_> = [head]
            .into_iter()
            .chain(rows.iter().map(Row::cells))
            .collect();
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        for line in &lines {
            let mut text = String::new();
            for (cell, &width) in line.iter().zip(&widths) {
                _ = write!(text, "{cell:width$}  ");
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(rest)
    }
}

/// The columns that distinguish flows that existed at the same time.
const IDENTITY: [&str; 16] = [
    "netns",
    "proto",
    "orig_src",
    "orig_dst",
    "orig_sport",
    "orig_dport",
    "orig_type",
    "orig_code",
    "orig_id",
    "nat_src",
    "nat_sport",
    "nat_dst",
    "nat_dport",
    "zone",
    "zone_direction",
    "node",
];

/// Leaves out records of open flows that have a later record.
fn without_repeats(rows: Vec<Row<'_>>) -> Vec<Row<'_>> {
    if !rows.iter().any(Row::is_open) {
        return rows;
    }
    // When the flow of the next later record began.
    let mut began: HashMap<[Option<Cell<'_>>; IDENTITY.len()], i64> = HashMap::new();
    let mut kept: Vec<_> = rows
        .into_iter()
        .rev()
        .filter(|row| {
            let start = row.start().unwrap_or(i64::MIN);
            let later = began.insert(row.identity(), start);
            let is_repeated = later.is_some_and(|start| Some(start) <= row.instant("time"));
            !(row.is_open() && is_repeated)
        })
        .collect();
    kept.reverse();
    kept
}

/// Reasons that appear in no record.
const GAPS: [&str; 7] = [
    "begin",
    "end",
    "gap",
    "open",
    "no_flows",
    "no_events",
    "no_routes",
];

/// Writes what is missing as a line of JSON.
pub fn write_missing_json(missing: &Missing, out: &mut impl Write) -> io::Result<()> {
    let is_loss = !GAPS.contains(&missing.reason.as_str());
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
    add("record", if is_loss { "loss" } else { "gap" }.into());
    add("reason", missing.reason.as_str().into());
    if let Some(count) = missing.count {
        add("count", count.into());
    }
    if missing.since != i64::MIN {
        add("since_ns", missing.since.into());
    }
    if missing.until != i64::MAX {
        add("until_ns", missing.until.into());
    }
    if !missing.node.is_empty() {
        add("node", missing.node.as_str().into());
    }
    writeln!(out, "{}", json::to_string(&object)?)
}

impl<'a> Row<'a> {
    fn cell(&self, name: &str) -> Option<Cell<'a>> {
        cell(self.batch, name, self.number)
    }

    fn instant(&self, name: &str) -> Option<i64> {
        instant(self.batch, name, self.number)
    }

    fn is_route(&self) -> bool {
        self.cell("record") == Some(Cell::Text("route"))
    }

    fn is_open(&self) -> bool {
        self.cell("record") == Some(Cell::Text("open"))
    }

    /// When the flow began, if known.
    fn start(&self) -> Option<i64> {
        let start = self.instant("start");
        start.or_else(|| self.instant("observed_start"))
    }

    fn identity(&self) -> [Option<Cell<'a>>; IDENTITY.len()] {
        IDENTITY.map(|name| match name {
            "node" => Some(Cell::Text(self.node)),
            name => self.cell(name),
        })
    }

    /// All values of the record, by the names of the columns.
    fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for (field, array) in self
            .batch
            .schema_ref()
            .fields()
            .iter()
            .zip(self.batch.columns())
        {
            let mut name = field.name().clone();
            let value = match cell_of(array, self.number) {
                None => continue,
                Some(Cell::Text(text)) if name == "route" => json_or_text(text),
                Some(Cell::Text(text)) => text.into(),
                Some(Cell::Number(number)) => number.into(),
                Some(Cell::Instant(ns)) => {
                    name.push_str(NS);
                    ns.into()
                }
                Some(Cell::Flag(flag)) => flag.into(),
            };
            object.insert(name, value);
        }
        if !self.node.is_empty() {
            object.insert("node".to_owned(), self.node.into());
        }
        object
    }

    fn cells(&self) -> Vec<String> {
        if self.is_route() {
            return self.cells_of_route();
        }
        let stop = self.instant("stop").or_else(|| self.instant("time"));
        let is_event = self.cell("record") == Some(Cell::Text("event"));
        vec![
            if is_event {
                self.text("event")
            } else {
                self.start().map_or("unknown".to_owned(), time)
            },
            match stop.map_or(String::new(), time) {
                last if self.is_open() => format!("{last} (open)"),
                end => end,
            },
            self.text("proto"),
            self.endpoint("orig_src", &["orig_sport", "orig_id"]),
            self.endpoint("orig_dst", &["orig_dport"]),
            self.translated(),
            self.both("packets"),
            self.both("bytes"),
        ]
    }

    fn cells_of_route(&self) -> Vec<String> {
        let route = match self.cell("route") {
            Some(Cell::Text(text)) => json_or_text(text),
            _ => Value::Null,
        };
        let replaces = route["message_flags"]
            .as_array()
            .is_some_and(|flags| flags.iter().any(|flag| flag == "replace"));
        let mut event = match self.text("event").as_str() {
            "new" if replaces => "replaced".to_owned(),
            "delete" => "deleted".to_owned(),
            event => event.to_owned(),
        };
        if self.cell("resynced") == Some(Cell::Flag(true)) {
            let since = self.instant("since");
            let since = since.filter(|since| Some(*since) != self.instant("time"));
            let found = since.map_or(" (found)".to_owned(), |since| {
                format!(" (since {})", time(since))
            });
            event += &found;
        }
        let at = self.instant("time").map_or(String::new(), time);
        vec![at, event, route::line(&route)]
    }

    fn text(&self, name: &str) -> String {
        match self.cell(name) {
            Some(Cell::Text(text)) => escaped(text.as_bytes()),
            Some(Cell::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    fn endpoint(&self, address: &str, ports: &[&str]) -> String {
        let address = self.text(address);
        let port = ports
            .iter()
            .map(|port| self.text(port))
            .find(|port| !port.is_empty());
        match port {
            Some(port) if address.contains(':') => format!("[{address}]:{port}"),
            Some(port) => format!("{address}:{port}"),
            None => address,
        }
    }

    fn translated(&self) -> String {
        let src = self.endpoint("nat_src", &["nat_sport"]);
        let dst = self.endpoint("nat_dst", &["nat_dport"]);
        match (src.as_str(), dst.as_str()) {
            ("", "") => "-".to_owned(),
            (src, "") => src.to_owned(),
            (src, dst) => format!("{src}→{dst}"),
        }
    }

    /// What each direction has carried.
    fn both(&self, what: &str) -> String {
        let count = |direction| match self.text(&format!("{direction}_{what}")) {
            text if text.is_empty() => "-".to_owned(),
            text => text,
        };
        format!("{}/{}", count("orig"), count("reply"))
    }
}

/// The value of a text that is JSON.
fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn time(ns: i64) -> String {
    format!("{:.3}", Timestamp::from_ns(u64::try_from(ns).unwrap_or(0)))
}

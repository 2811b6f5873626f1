//! Checks of any line of `--json`: it is an object that parsers agree on, has no name twice, and has only names that
//! docs/json.md describes.

use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Events;

/// Checks these lines, and returns their objects.
#[track_caller]
pub fn objects(events: Events, lines: &[String]) -> Vec<Value> {
    let objects: Vec<Value> = lines.iter().map(|line| parse(line)).collect();
    let documentation = Documentation::load();
    for object in &objects {
        documentation.assert_describes(events, object);
    }
    if let Some(read) = read_by_python(lines) {
        assert_eq!(read, objects, "Python reads the same");
    }
    objects
}

/// The object in a line. The command does not write lines with `serde_json`, so that crate can check them.
#[track_caller]
pub fn parse(line: &str) -> Value {
    let parsed = serde_json::from_str::<Strict>(line);
    let Strict(value) = parsed.unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(value.is_object(), "{line}");
    value
}

/// A value whose objects have no name twice. serde_json alone would keep the last one.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("what nlring writes: objects, lists, strings, whole numbers, true")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((name, Strict(value))) = object.next_entry::<String, _>()? {
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format_args!("{name:?} twice")));
            }
            fields.insert(name, value);
        }
        Ok(fields.into())
    }
}

/// What Python's parser, which is independent of serde_json, reads in these lines. None: Python or its parser is not
/// installed (Debian's python3-minimal lacks it).
fn read_by_python(lines: &[String]) -> Option<Vec<Value>> {
    const READ: &str = "
import json, sys
def once(pairs):
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), names
    return dict(pairs)
for line in sys.stdin.buffer:
    print(json.dumps(json.loads(line, object_pairs_hook=once)))";
    let python = super::run("python3", &["-c", "import json"]);
    if !python.is_some_and(|output| output.status.success()) {
        super::leave_out("Python's parser", "no python3 with its json here");
        return None;
    }
    let mut python = Command::new("python3")
        .args(["-c", READ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = python.stdin.take().expect("its input");
    let text = lines.join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = python.wait_with_output().expect("python3 ends");
    writer.join().expect("a thread").expect("all lines read");
    assert!(output.status.success(), "Python reads each line");
    let read = String::from_utf8(output.stdout).expect("a text");
    Some(read.lines().map(parse).collect())
}

/// docs/json.md: its tables and the words in them.
struct Documentation {
    sections: Vec<Section>,
}

struct Section {
    heading: String,
    text: String,
}

/// A row of a table: names and their meaning.
struct Row<'a> {
    names: &'a str,
    meaning: &'a str,
}

/// Fields that are a tuple, like `orig`, or contain one.
const TUPLES: [&str; 6] = ["orig", "reply", "master", "expected", "mask", "nat"];

/// Fields whose strings all come from the documentation, which lists each.
const LISTED: [&str; 9] = [
    "event",
    "time_source",
    "family",
    "status",
    "zone_direction",
    "direction",
    "message_flags",
    "pref",
    "lock",
];

impl Documentation {
    fn load() -> Self {
        let text = include_str!("../../../docs/json.md");
        let section = |text: &str| Section {
            heading: text.lines().next().unwrap_or_default().to_owned(),
            text: text.to_owned(),
        };
        Self {
            sections: text.split("\n## ").skip(1).map(section).collect(),
        }
    }

    fn section(&self, heading: &str) -> &Section {
        let found = self
            .sections
            .iter()
            .find(|section| section.heading.starts_with(heading));
        found.unwrap_or_else(|| panic!("docs/json.md has a section {heading:?}"))
    }

    /// Asserts that docs/json.md describes each name in the object in its section.
    #[track_caller]
    fn assert_describes(&self, events: Events, object: &Value) {
        let heading = match (object["event"].as_str(), events) {
            _ if object["object"].is_string() => "All of rtnetlink",
            (Some("lost"), _) => "Loss",
            (Some("delayed"), _) => "Delay",
            (Some("truncated" | "malformed" | "missing"), _) => "What cannot be read",
            (Some("unread"), _) => "Left at the end",
            (Some("resynced"), _) => "A repaired table",
            (Some("sampling"), _) => "Left out on purpose",
            (Some("new" | "update" | "destroy" | "entry"), Events::Conntrack) => "Flows",
            (Some("expect-new" | "expect-destroy"), Events::Conntrack) => "Expectations",
            (Some("new" | "delete" | "entry"), Events::Route) => "Routes",
            _ => panic!("an event of an unknown kind: {object}"),
        };
        let mut sections = vec![self.section("In every object"), self.section(heading)];
        if heading == "All of rtnetlink" {
            sections.push(self.section("Routes")); // it refers to these names
        }
        self.assert_sections_describe(&sections, None, object);
    }

    #[track_caller]
    fn assert_sections_describe(&self, sections: &[&Section], parent: Option<&str>, value: &Value) {
        let Value::Object(fields) = value else {
            return;
        };
        for (name, value) in fields {
            let is_described = sections
                .iter()
                .any(|section| section.describes(parent, name))
                || parent.is_some_and(|parent| TUPLES.contains(&parent))
                    && self.section("Flows").describes(Some("orig"), name);
            assert!(
                is_described,
                "docs/json.md describes {name} in {parent:?}: {value}"
            );
            for item in value.as_array().unwrap_or(&vec![value.clone()]) {
                let is_word = LISTED.contains(&name.as_str()) && item.is_string();
                let word = item.as_str().unwrap_or_default();
                assert!(
                    !is_word
                        || self
                            .sections
                            .iter()
                            .any(|section| section.lists(name, word)),
                    "docs/json.md lists {word:?} as a {name}"
                );
                self.assert_sections_describe(sections, Some(name), item);
            }
        }
    }
}

impl Section {
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.text.lines().filter_map(|line| {
            let (names, meaning) = line.strip_prefix("| ")?.split_once(" | ")?;
            Some(Row { names, meaning })
        })
    }

    /// Whether the section describes a name, alone or as a field of `parent`: in its own row, or in the row of
    /// `parent`.
    fn describes(&self, parent: Option<&str>, name: &str) -> bool {
        let Some(parent) = parent else {
            let is_in_words = |line: &str| !line.starts_with('|') && has_word(line, name);
            return self.rows().any(|row| has_word(row.names, name))
                || self.text.lines().any(is_in_words);
        };
        self.rows().any(|row| {
            has_word(row.names, &format!("{parent}.{name}"))
                || has_word(row.names, parent) && has_word(row.meaning, name)
        })
    }

    /// Whether the section lists this word as a value of the field.
    fn lists(&self, name: &str, word: &str) -> bool {
        let of_field = |row: &Row<'_>| has_word(row.names, name) || has_word(row.meaning, name);
        self.rows()
            .filter(of_field)
            .any(|row| has_word(row.meaning, word))
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.contains(&format!("`{word}`"))
}

/// Asserts that an object has all of this: the same fields, and at least these items of lists.
#[track_caller]
pub fn assert_some(objects: &[Value], wanted: &Value) {
    let is_there = objects.iter().any(|object| has_all(object, wanted));
    assert!(is_there, "{wanted}: {objects:#?}");
}

pub fn has_all(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Object(fields), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| fields.get(name).is_some_and(|value| has_all(value, wanted))),
        (Value::Array(items), Value::Array(wanted)) => wanted
            .iter()
            .all(|wanted| items.iter().any(|item| has_all(item, wanted))),
        _ => value == wanted,
    }
}

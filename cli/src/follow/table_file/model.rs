//! Writes a table that changes between the slices, as a mirror's does, and checks what is in the file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use super::{INCOMPLETE, Worth, Writing};
use crate::write::place::Place;
#[cfg(not(test))]
use nlring::fuzzing::Random;
#[cfg(test)]
use nlring_testing::Random;

const SLOT_COUNT: usize = 100;
const OLD: &[u8] = b"an earlier table\n";

/// A table of numbered entries in slots.
struct Table {
    slots: Vec<Option<u32>>,
    entry_count: u32,
    /// The entries that have existed all the time.
    lasting: BTreeSet<u32>,
    /// The entries that have existed at some time.
    ever: BTreeSet<u32>,
}

impl Table {
    fn new(random: &mut Random) -> Self {
        let mut table = Self {
            slots: vec![None; SLOT_COUNT],
            entry_count: 0,
            lasting: BTreeSet::new(),
            ever: BTreeSet::new(),
        };
        for _ in 0..random.below(200) {
            table.change(random);
        }
        table.lasting = table.slots.iter().flatten().copied().collect();
        table.ever.clone_from(&table.lasting);
        table
    }

    /// An entry begins or ends, or another one takes its place.
    fn change(&mut self, random: &mut Random) {
        let slot = random.index(SLOT_COUNT);
        if let Some(ended) = self.slots[slot].take() {
            self.lasting.remove(&ended);
        }
        if !random.one_in(3) {
            self.entry_count += 1;
            self.slots[slot] = Some(self.entry_count);
            self.ever.insert(self.entry_count);
        }
    }

    fn from(&self, position: usize) -> impl Iterator<Item = (usize, u32)> {
        let slots = self.slots.iter().enumerate().skip(position);
        slots.filter_map(|(slot, entry)| Some((slot + 1, (*entry)?)))
    }
}

fn format(line: &mut Vec<u8>, entry: u32) {
    let padding = "x".repeat(entry as usize * 37 % 3000);
    line.extend_from_slice(format!("{entry} {padding}\n").as_bytes());
}

/// Writes a table into a file of this directory, in slices, to the end or not.
pub(crate) fn run(mut random: Random, directory: &Path) {
    let random = &mut random;
    let path = directory.join("table");
    fs::write(&path, OLD).expect("a file");
    let place = Rc::new(Place::find(&path).expect("a place"));
    let mut table = Table::new(random);
    let mut writing = Writing::begin(&place).expect("a file");
    let mut is_incomplete = false;
    loop {
        let worth = [
            Worth::Right,
            Worth::Doubtful("events were lost"),
            Worth::Incomplete,
        ];
        let worth = worth[random.index(3)];
        is_incomplete |= worth == Worth::Incomplete;
        writing.until = random.one_in(2).then(Instant::now); // which is over at once, or has no end
        let is_all = writing.write(worth, |position| table.from(position), format);
        if is_all.expect("room on the disk") {
            break;
        }
        assert_eq!(
            fs::read(&path).expect("the file"),
            OLD,
            "replaced as a whole"
        );
        if random.one_in(16) {
            drop(writing);
            assert_eq!(fs::read(&path).expect("the file"), OLD);
            return check_directory(directory);
        }
        for _ in 0..random.below(20) {
            table.change(random);
        }
    }
    assert!(!is_incomplete || writing.doubt.is_some());
    writing.put_in_place().expect("room on the disk");
    let written = fs::read(&path).expect("the file");
    let written = match written.strip_suffix(INCOMPLETE) {
        Some(entries) if is_incomplete => entries,
        _ if is_incomplete => panic!("nothing says that the table is incomplete"),
        _ => &written[..],
    };
    check(&table, written);
    check_directory(directory);
}

fn check(table: &Table, written: &[u8]) {
    let mut seen = BTreeSet::new();
    let mut line = Vec::new();
    for found in written.split_inclusive(|&byte| byte == b'\n') {
        let number = found.split(|&byte| byte == b' ').next().unwrap_or_default();
        let entry = str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse().ok());
        let entry: u32 = entry.expect("a line begins with its entry");
        line.clear();
        format(&mut line, entry);
        assert_eq!(found, line, "a whole line");
        assert!(
            table.ever.contains(&entry),
            "{entry} was there at some time"
        );
        assert!(seen.insert(entry), "{entry} is written once");
    }
    assert!(
        table.lasting.is_subset(&seen),
        "what was there all the time is written"
    );
}

fn check_directory(directory: &Path) {
    let files = fs::read_dir(directory).expect("a directory");
    assert_eq!(files.count(), 1, "no temporary file is left");
}

#[cfg(test)]
mod tests {
    use nlring_print::Origin;

    use super::*;

    #[test]
    fn a_namespace_that_leaves_while_its_table_is_written_shortens_no_other() {
        let name = format!("nlring-table-leaves-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("table");
        let place = Rc::new(Place::find(&path).expect("a place"));
        let mut engine = nlring::Engine::builder().build().expect("an engine");
        let mut socket = || {
            let socket = nlring::Socket::open(nlring::Protocol::ROUTE).expect("a socket");
            engine.add(socket).expect("added")
        };
        let mut writing = Writing::begin(&place).expect("a file");
        for (name, until, is_all) in [
            ("leaves", Some(Instant::now()), false),
            ("stays", None, true),
        ] {
            let origin = Rc::new(Origin::new(Some(name.as_bytes()), None));
            assert!(writing.select(socket(), &origin));
            writing.until = until;
            let entries = |first| (first..SLOT_COUNT).map(|slot| (slot + 1, slot));
            let format = |line: &mut Vec<u8>, slot| {
                line.extend_from_slice(format!("{{\"slot\":{slot}}}\n").as_bytes());
            };
            let written = writing.write(Worth::Right, entries, format);
            assert_eq!(written.expect("room on the disk"), is_all);
        }
        writing.put_in_place().expect("room on the disk");
        let text = fs::read_to_string(&path).expect("the file");
        let of_one = text.lines().filter(|line| line.contains("stays"));
        assert_eq!(of_one.count(), SLOT_COUNT);
        fs::remove_dir_all(&directory).expect("it is ours");
    }

    #[test]
    fn a_table_that_changes_while_it_is_written_has_each_lasting_entry_once() {
        let name = format!("nlring-table-model-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory");
        for seed in 0..300 {
            run(Random::new(seed), &directory);
        }
        fs::remove_dir_all(&directory).expect("it is ours");
    }
}

//! iproute2's names of tables, protocols and other numbers, and the files of its configuration.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use nlring::route::{protocol_name, scope_name, table_name};

use crate::text::escaped;

/// The names of tables, protocols, scopes, realms and types of service: iproute2's own and those of its configuration.
///
/// They are kept [escaped], as they are written.
#[derive(Debug)]
pub struct IprouteNames {
    pub(super) tables: HashMap<u32, String>,
    pub(super) protocols: HashMap<u32, String>,
    pub(super) scopes: HashMap<u32, String>,
    pub(super) realms: HashMap<u32, String>,
    pub(super) dsfields: HashMap<u32, String>,
}

impl IprouteNames {
    /// The names that iproute2 has without its configuration.
    pub fn built_in() -> Self {
        let bytes = || 0..=u8::MAX;
        let of = |name: fn(u8) -> Option<&'static str>| {
            let named = bytes().filter_map(|id| Some((u32::from(id), name(id)?.to_owned())));
            named.collect()
        };
        Self {
            tables: of(|id| table_name(u32::from(id))),
            protocols: of(protocol_name),
            scopes: of(scope_name),
            realms: HashMap::from([(0, "unknown".to_owned())]),
            dsfields: HashMap::from([(0, "0".to_owned())]),
        }
    }

    /// The built-in names and those of /etc/iproute2. A file that is missing there is read from /usr/share/iproute2.
    ///
    /// ip(8) reads these files once, when it starts. Do the same: this call reads up to ten files and directories.
    pub fn load() -> Self {
        let mut names = Self::built_in();
        load_table(&mut names.tables, "rt_tables");
        load_table(&mut names.protocols, "rt_protos");
        load_table(&mut names.scopes, "rt_scopes");
        load_table(&mut names.realms, "rt_realms");
        load_table(&mut names.dsfields, "rt_dsfield");
        names
    }
}

/// Reads one file, and the `*.conf` files in the directory beside it.
fn load_table(names: &mut HashMap<u32, String>, file: &str) {
    let directories = ["/etc/iproute2", "/usr/share/iproute2"].map(Path::new);
    let text = |directory: &Path| fs::read(directory.join(file)).ok();
    if let Some(text) = directories.iter().copied().find_map(text) {
        read_table(names, &text);
    }
    for directory in directories.iter().rev() {
        let Ok(entries) = fs::read_dir(directory.join(format!("{file}.d"))) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path
                .extension()
                .is_some_and(|extension| extension == "conf")
                && let Ok(text) = fs::read(path)
            {
                read_table(names, &text);
            }
        }
    }
}

/// Reads lines of a number and a name. Of several lines for a number the last one counts. As in ip, a line that is
/// neither this nor a comment ends the table.
fn read_table(names: &mut HashMap<u32, String>, text: &[u8]) {
    for line in text.split(|&byte| byte == b'\n') {
        let is_blank = u8::is_ascii_whitespace;
        let mut words = line.split(is_blank).filter(|word| !word.is_empty());
        let Some(number) = words.next().filter(|word| !word.starts_with(b"#")) else {
            continue;
        };
        let (Some(id), Some(name)) = (parse_id(number), words.next()) else {
            return;
        };
        names.insert(id, escaped(name));
    }
}

/// A number in decimal, or in hexadecimal after `0x`.
fn parse_id(number: &[u8]) -> Option<u32> {
    let number = str::from_utf8(number).ok()?;
    match number.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_adds_names_until_a_line_makes_no_sense() {
        let mut names = HashMap::from([(4, "static".to_owned())]);
        read_table(
            &mut names,
            b"# reserved\n\n 4 fixed # ours\n0x10\tten\n7 se\x1b[2Jven\xff\nx y\n8 eight\n",
        );
        let of = |id: u32| names.get(&id).map(String::as_str);
        assert_eq!(
            [of(4), of(16), of(7), of(8)],
            [Some("fixed"), Some("ten"), Some(r"se\x1b[2Jven\xff"), None]
        );
    }
}

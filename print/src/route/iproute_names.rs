//! iproute2's names of tables, protocols and other numbers, and the files of its configuration.

use std::fs;
use std::iter;
use std::path::Path;

use nlring::route::{protocol_name, scope_name, table_name};

use super::name_fields::{CommonFields, write_protocol, write_table};
use super::names::Names;
use crate::text::escaped;

/// The names of tables, protocols, scopes, realms, types of service and groups of devices: iproute2's own and those of
/// its configuration. Also the names of IP protocols, which ip takes from /etc/protocols.
///
/// They are stored [escaped], as they are written.
#[derive(Debug)]
pub struct IprouteNames {
    pub(crate) tables: Names,
    pub(crate) protocols: Names,
    pub(crate) scopes: Names,
    pub(crate) realms: Names,
    pub(crate) dsfields: Names,
    pub(crate) groups: Names,
    pub(crate) proto_down_reasons: Names,
    pub(crate) ip_protocols: Names,
    common_fields: CommonFields,
}

impl IprouteNames {
    /// The names that iproute2 knows without its configuration.
    pub fn built_in() -> Self {
        Self::without_configuration().with_common_fields()
    }

    fn without_configuration() -> Self {
        let bytes = || 0..=u8::MAX;
        let of = |name: fn(u8) -> Option<&'static str>| {
            let named = bytes().filter_map(|id| Some((u32::from(id), name(id)?.to_owned())));
            named.collect()
        };
        let zero = |name: &str| iter::once((0, name.to_owned())).collect();
        Self {
            tables: of(|id| table_name(u32::from(id))),
            protocols: of(protocol_name),
            scopes: of(scope_name),
            realms: zero("unknown"),
            dsfields: zero("0"),
            groups: zero("default"),
            proto_down_reasons: Names::default(),
            ip_protocols: Names::default(),
            common_fields: CommonFields::default(),
        }
    }

    fn with_common_fields(mut self) -> Self {
        self.common_fields = CommonFields::new(&self.tables, &self.protocols);
        self
    }

    /// The built-in names and those of /etc/iproute2. Files that are missing there are read from /usr/share/iproute2.
    ///
    /// ip(8) reads these files once, at startup. Do the same: this call reads up to 20 files and directories.
    pub fn load() -> Self {
        let mut names = Self::without_configuration();
        load_table(&mut names.tables, "rt_tables");
        load_table(&mut names.protocols, "rt_protos");
        load_table(&mut names.scopes, "rt_scopes");
        load_table(&mut names.realms, "rt_realms");
        load_table(&mut names.dsfields, "rt_dsfield");
        load_table(&mut names.groups, "group");
        load_table(&mut names.proto_down_reasons, "protodown_reasons");
        if let Ok(text) = fs::read("/etc/protocols") {
            read_protocols(&mut names.ip_protocols, &text);
        }
        names.with_common_fields()
    }

    /// Appends the number of a table to a JSON object, and its name if it has one.
    pub(crate) fn write_table(&self, out: &mut Vec<u8>, table: u32) {
        match self.common_fields.table(table) {
            Some(fields) => out.extend_from_slice(fields),
            None => write_table(out, table, &self.tables),
        }
    }

    /// Appends the kernel's word for a protocol to a JSON object, and its name in iproute2's configuration if that
    /// differs.
    pub(crate) fn write_protocol(&self, out: &mut Vec<u8>, protocol: u8) {
        match self.common_fields.protocol(protocol) {
            Some(fields) => out.extend_from_slice(fields),
            None => write_protocol(out, protocol, &self.protocols),
        }
    }

    /// The number of the table with this name.
    pub fn table(&self, name: &str) -> Option<u32> {
        self.tables.find(name)
    }

    /// The number of the protocol with this name: of the programs that add routes.
    pub fn protocol(&self, name: &str) -> Option<u32> {
        self.protocols.find(name)
    }

    /// The number of the scope with this name.
    pub fn scope(&self, name: &str) -> Option<u32> {
        self.scopes.find(name)
    }
}

/// Reads one file, and the `*.conf` files in the directory beside it.
fn load_table(names: &mut Names, file: &str) {
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
fn read_table(names: &mut Names, text: &[u8]) {
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

/// Reads lines of protocols(5): a name and a number. Of several lines for a number the first one counts.
fn read_protocols(names: &mut Names, text: &[u8]) {
    for line in text.split(|&byte| byte == b'\n') {
        let is_blank = u8::is_ascii_whitespace;
        let mut words = line.split(is_blank).filter(|word| !word.is_empty());
        if let Some(name) = words.next().filter(|word| !word.starts_with(b"#"))
            && let Some(id) = words.next().and_then(parse_id)
            && names.get(id).is_none()
        {
            names.insert(id, escaped(name));
        }
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
        let mut names = Names::from_iter([(4, "static".to_owned())]);
        read_table(
            &mut names,
            b"# reserved\n\n 4 fixed # ours\n0x10\tten\n7 se\x1b[2Jven\xff\n1000 far\nx y\n8 eight\n",
        );
        assert_eq!(
            [4, 16, 7, 1000, 8].map(|id| names.get(id)),
            [
                Some("fixed"),
                Some("ten"),
                Some(r"se\x1b[2Jven\xff"),
                Some("far"),
                None
            ]
        );
        assert_eq!(
            ["fixed", "ten", "far", "eight"].map(|name| names.find(name)),
            [Some(4), Some(16), Some(1000), None]
        );
    }

    #[test]
    fn the_first_name_of_an_ip_protocol_counts() {
        let mut names = Names::default();
        read_protocols(
            &mut names,
            b"# all\nip 0 IP\nhopopt 0 HOPOPT\ntcp\t6\tTCP # it\nbad\nx y\n",
        );
        assert_eq!(
            [0, 6, 17].map(|id| names.get(id)),
            [Some("ip"), Some("tcp"), None]
        );
    }
}

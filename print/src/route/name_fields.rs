//! The names of iproute2's configuration as fields of JSON objects.

use nlring::route::protocol_name;

use super::names::Names;
use crate::json::{number, word_or_number};

/// The fields of a table and those of a protocol, for each number below 256.
///
/// Each route has both, and their names rarely change. Writing them anew took a sixth of the time of a line
/// (`cargo bench --bench format`, JSON of a route with a gateway: 98 ns, and 85 ns with this copy).
#[derive(Debug, Default)]
pub(super) struct CommonFields {
    tables: Vec<Box<[u8]>>,
    protocols: Vec<Box<[u8]>>,
}

impl CommonFields {
    pub(super) fn new(tables: &Names, protocols: &Names) -> Self {
        fn each(write: impl Fn(&mut Vec<u8>, u8)) -> Vec<Box<[u8]>> {
            let fields = |number| {
                let mut out = Vec::new();
                write(&mut out, number);
                out.into()
            };
            (0..=u8::MAX).map(fields).collect()
        }
        Self {
            tables: each(|out, table| write_table(out, table.into(), tables)),
            protocols: each(|out, protocol| write_protocol(out, protocol, protocols)),
        }
    }

    pub(super) fn table(&self, table: u32) -> Option<&[u8]> {
        self.tables.get(table as usize).map(AsRef::as_ref)
    }

    pub(super) fn protocol(&self, protocol: u8) -> Option<&[u8]> {
        self.protocols.get(usize::from(protocol)).map(AsRef::as_ref)
    }
}

/// Appends the number of a table, and its name if it has one.
pub(super) fn write_table(out: &mut Vec<u8>, table: u32, names: &Names) {
    number(out, r#""table":"#, table);
    names.write_field(out, r#""table_name":"#, table);
}

/// Appends the kernel's word for a protocol, and its name in iproute2's configuration if that differs.
pub(super) fn write_protocol(out: &mut Vec<u8>, protocol: u8, names: &Names) {
    let word = protocol_name(protocol);
    word_or_number(out, r#""protocol":"#, word, protocol.into());
    if names.get(protocol.into()) != word {
        names.write_field(out, r#""protocol_name":"#, protocol.into());
    }
}

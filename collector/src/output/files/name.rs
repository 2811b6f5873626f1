//! The names of complete files. A name says how far its file goes in the spool, so that a restart continues after the
//! newest one.

use std::fmt;

use nlring::Timestamp;

use crate::spool::Position;

/// `NODE.20261128T140307Z.SEGMENT-BATCH.parquet`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub node: String,
    /// The time of the first record, in whole seconds.
    pub begun: Timestamp,
    /// The position after the file's last batch.
    pub behind: Position,
}

impl Name {
    /// The name with an extension, which begins with a point.
    pub fn with(&self, extension: &str) -> String {
        format!("{self}{extension}")
    }

    /// Parses a name with this extension. None: nlringd does not write files of this name.
    pub fn parse(text: &str, extension: &str) -> Option<Self> {
        let rest = text.strip_suffix(extension)?;
        let (rest, behind) = rest.rsplit_once('.')?;
        let (node, begun) = rest.rsplit_once('.')?;
        let begun: jiff::Timestamp = begun.parse().ok()?;
        let name = Self {
            node: node.to_owned(),
            begun: Timestamp::from_ns(u64::try_from(begun.as_nanosecond()).ok()?),
            behind: behind.parse().ok()?,
        };
        (name.with(extension) == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = format!("{:.0}", self.begun);
        let begun = begun.replace(['-', ':'], "");
        write!(f, "{}.{begun}.{}", self.node, self.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_nothing_else_is_a_name() {
        let text = "gw.1.20261128T140307Z.000000000012-000345.parquet";
        let name = Name::parse(text, ".parquet").expect("a name");
        assert_eq!(name.node, "gw.1");
        assert_eq!(name.behind.segment, 12);
        assert_eq!(name.behind.batch, 345);
        assert_eq!(name.with(".parquet"), text);
        for foreign in [
            "gw.1.20261128T140307Z.12-345.parquet",
            "gw.1.20261128T140307.5Z.000000000012-000345.parquet",
            "gw.1.2026-11-28T14:03:07Z.000000000012-000345.parquet",
            "gw.1.20261128T140307Z.000000000012-000345.csv",
            "gw.20261128T140307Z.parquet",
            "report.parquet",
        ] {
            assert_eq!(Name::parse(foreign, ".parquet"), None, "{foreign}");
        }
    }
}

//! The names of complete files. A name says how far in the spool its file goes, so that a restart continues behind the
//! newest one.

use std::fmt;
use std::str::FromStr;

use nlring::Timestamp;

use crate::spool::Position;

/// `NODE.20261128T140307.123456789Z.SEGMENT-BATCH.parquet`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub node: String,
    /// When the file was begun.
    pub begun: Timestamp,
    /// The position behind the file's last batch.
    pub behind: Position,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = format!("{:.0}", self.begun);
        let begun = begun.replace(['-', ':'], "");
        write!(f, "{}.{begun}.{}.parquet", self.node, self.behind)
    }
}

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_suffix(".parquet").ok_or(())?;
        let (rest, behind) = rest.rsplit_once('.').ok_or(())?;
        let (node, begun) = rest.rsplit_once('.').ok_or(())?;
        let begun: jiff::Timestamp = begun.parse().map_err(drop)?;
        Ok(Self {
            node: node.to_owned(),
            begun: Timestamp::from_ns(u64::try_from(begun.as_nanosecond()).map_err(drop)?),
            behind: behind.parse()?,
        })
    }
}

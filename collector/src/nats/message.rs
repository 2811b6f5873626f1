//! The messages of a stream: their subjects and headers. docs/nats.md describes them for consumers.

use async_nats::{HeaderMap, HeaderValue};

use super::known::Known;
use crate::config::Body;
use crate::record::about::About;
use crate::record::stretch::{format_about, parse_about};
use crate::spool::Position;

pub const NODE: &str = "Nlring-Node";
pub const POSITION: &str = "Nlring-Position";
pub const PART: &str = "Nlring-Part";
pub const COMPLETE: &str = "Nlring-Complete";
pub const KNOWN: &str = "Nlring-Known";
pub const WRITER: &str = "Nlring-Writer";
pub const RECORDS: &str = "Nlring-Records";
pub const STRETCH: &str = "Nlring-Stretch";

/// Kinds of records, each with its own subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Flows,
    Events,
    Losses,
    Routes,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Flows, Self::Events, Self::Losses, Self::Routes];

    /// The last token of the subject.
    pub fn word(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Events => "events",
            Self::Losses => "losses",
            Self::Routes => "routes",
        }
    }

    /// The kind of a record with this word in its column `record`. None: it is a mark.
    pub fn of_record(word: &str) -> Option<Self> {
        match word {
            "event" => Some(Self::Events),
            "loss" => Some(Self::Losses),
            "route" => Some(Self::Routes),
            "mark" => None,
            // Ended and open flows.
            _ => Some(Self::Flows),
        }
    }
}

/// The subjects of a node.
#[derive(Clone, Debug)]
pub struct Subjects {
    /// `PREFIX.NODE`
    pub base: String,
}

impl Subjects {
    /// Points and blanks in the node's name become `_`, because a point ends a token.
    pub fn new(prefix: &str, node: &str) -> Self {
        let is_special = |c: char| c.is_whitespace() || ".*>".contains(c);
        let token = node.replace(is_special, "_");
        Self {
            base: format!("{prefix}.{token}"),
        }
    }

    pub fn of(&self, kind: Kind) -> String {
        format!("{}.{}", self.base, kind.word())
    }

    /// All kinds.
    pub fn all(&self) -> String {
        format!("{}.*", self.base)
    }
}

/// The writer of a message: the spool, and the run of its nlringd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub spool: String,
    pub run: u64,
}

/// The headers of a message. A batch of the spool becomes one message for each kind that it has, or several if that
/// would be too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub node: String,
    pub writer: Writer,
    /// The positions in the spool: after the previous batch, and after this one. Between them there are no other
    /// records.
    pub after: Position,
    pub position: Position,
    /// The number of this message among those of the batch, from 1, and how many there are.
    pub part: u32,
    pub part_count: u32,
    /// The time for which the messages of this batch together have all records of the node.
    pub complete_ns: [u64; 2],
    pub known: Known,
    pub record_count: u64,
    /// What is said about the batch, for the files that it becomes.
    pub about: About,
}

impl Head {
    /// The id by which the server recognises repeats.
    pub fn id(&self) -> String {
        let Self {
            node,
            position,
            part,
            part_count,
            ..
        } = self;
        let until = self.complete_ns[1];
        format!("{node}/{position}/{until}/{part}/{part_count}")
    }

    pub fn headers(&self, body: Body) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let content_type = match body {
            Body::Arrow => "application/vnd.apache.arrow.stream",
            Body::Json => "application/x-ndjson",
        };
        headers.insert("Content-Type", content_type);
        headers.insert("Content-Encoding", "zstd");
        let [from, until] = self.complete_ns;
        headers.insert(async_nats::header::NATS_MESSAGE_ID, self.id());
        headers.insert(NODE, self.node.clone());
        headers.insert(POSITION, format!("{} {}", self.after, self.position));
        headers.insert(PART, format!("{}/{}", self.part, self.part_count));
        headers.insert(COMPLETE, format!("{from} {until}"));
        headers.insert(KNOWN, self.known.to_string());
        headers.insert(WRITER, format!("{}/{}", self.writer.spool, self.writer.run));
        headers.insert(RECORDS, self.record_count.to_string());
        headers.insert(STRETCH, format_about(&self.about));
        headers
    }

    /// None: nlringd did not write this message.
    pub fn parse(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).map(HeaderValue::as_str);
        let (part, part_count) = text(PART)?.split_once('/')?;
        let (after, position) = text(POSITION)?.split_once(' ')?;
        let (from, until) = text(COMPLETE)?.split_once(' ')?;
        let (spool, run) = text(WRITER)?.split_once('/')?;
        Some(Self {
            node: text(NODE)?.to_owned(),
            writer: Writer {
                spool: spool.to_owned(),
                run: run.parse().ok()?,
            },
            after: after.parse().ok()?,
            position: position.parse().ok()?,
            part: part.parse().ok()?,
            part_count: part_count.parse().ok()?,
            complete_ns: [from.parse().ok()?, until.parse().ok()?],
            known: text(KNOWN)?.parse().ok()?,
            record_count: text(RECORDS)?.parse().ok()?,
            about: parse_about(text(STRETCH)?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_back() {
        let head = Head {
            node: "gw.1".to_owned(),
            writer: Writer {
                spool: "0123456789abcdef".to_owned(),
                run: 7,
            },
            after: Position::begin(12),
            position: Position {
                segment: 12,
                batch: 345,
            },
            part: 2,
            part_count: 3,
            complete_ns: [5, 8],
            known: Known {
                position: Position::begin(11),
                until_ns: 4,
                sequence: 99,
                ..Known::default()
            },
            record_count: 8192,
            about: About {
                positions: ["a", "b"].map(str::to_owned),
                complete_ns: [Some(5), Some(8)],
                behind_ns: Some(6),
                ..About::default()
            },
        };
        assert_eq!(Head::parse(&head.headers(Body::Arrow)), Some(head));
        assert_eq!(Head::parse(&HeaderMap::new()), None);
    }

    #[test]
    fn a_point_in_the_name_of_a_node_ends_no_token() {
        let subjects = Subjects::new("nlring", "gw1.example.com");
        assert_eq!(subjects.of(Kind::Flows), "nlring.gw1_example_com.flows");
    }
}

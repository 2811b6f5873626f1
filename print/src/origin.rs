//! The network namespace from which events come, as lines show it.

use nlring::Timestamp;

use crate::json;
use crate::text::write_escaped;

/// The network namespace from which events come. [`Style::mark_origin`](crate::Style::mark_origin) adds it to a line.
///
/// ```
/// use nlring_print::{Origin, Style};
///
/// let blue = Origin::new(Some(b"blue"), Some(7));
/// let mut out = b"10.9.0.0/16 dev lo scope link \n".to_vec();
/// Style::Text.mark_origin(&mut out, 0, &blue);
/// assert_eq!(out, b"[netns blue]10.9.0.0/16 dev lo scope link \n");
///
/// let mut out = br#"{"event":"new"}"#.to_vec();
/// Style::Json.mark_origin(&mut out, 0, &blue);
/// assert_eq!(out, br#"{"netns":"blue","nsid":7,"event":"new"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    text: Vec<u8>,
    json: Vec<u8>,
}

/// What happened to a namespace while its events were followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceChange {
    /// It appeared. Its events are followed from now on.
    Appeared,
    /// It disappeared, and no more of its events arrive.
    Disappeared,
}

impl Origin {
    /// A namespace with a name; None means the namespace that the program runs in. `nsid` is the id that the program's
    /// namespace has assigned to it, if any.
    pub fn new(name: Option<&[u8]>, nsid: Option<i32>) -> Self {
        let (mut text, mut json) = (b"[netns ".to_vec(), Vec::new());
        if let Some(name) = name {
            write_escaped(&mut text, name);
            json::name(&mut json, r#""netns":"#, name);
        } else {
            text.extend_from_slice(b"current");
        }
        text.push(b']');
        json::optional(&mut json, r#""nsid":"#, nsid);
        Self { text, json }
    }
}

/// Puts the origin before a line.
pub(crate) fn mark_text(out: &mut Vec<u8>, from: usize, origin: &Origin) {
    insert(out, from, &origin.text);
}

/// Puts the origin in front of the fields of an object.
pub(crate) fn mark_json(out: &mut Vec<u8>, from: usize, origin: &Origin) {
    insert(out, from + 1, &origin.json); // behind the bracket
}

/// Inserts bytes, if others follow them.
fn insert(out: &mut Vec<u8>, at: usize, mark: &[u8]) {
    if at < out.len() {
        out.extend_from_slice(mark);
        out[at..].rotate_right(mark.len());
    }
}

pub(crate) fn write_text(out: &mut Vec<u8>, change: NamespaceChange) {
    let word = match change {
        NamespaceChange::Appeared => "APPEARED",
        NamespaceChange::Disappeared => "DISAPPEARED",
    };
    let line = format!(" [{word}] a network namespace at {}\n", Timestamp::now());
    out.extend_from_slice(line.as_bytes());
}

pub(crate) fn write_json(out: &mut Vec<u8>, change: NamespaceChange) {
    let word = match change {
        NamespaceChange::Appeared => "appeared",
        NamespaceChange::Disappeared => "disappeared",
    };
    out.push(b'{');
    json::word(out, r#""event":"#, word);
    json::number(out, r#""time_ns":"#, Timestamp::now().as_ns());
    json::word(out, r#""time_source":"#, "receive");
    json::end_line(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Style;
    use serde_json::{Value, json};

    /// A line between others, with its origin.
    fn marked(style: Style, name: Option<&[u8]>, nsid: Option<i32>, line: &str) -> String {
        let mut out = [b"before\n", line.as_bytes()].concat();
        style.mark_origin(&mut out, 7, &Origin::new(name, nsid));
        let out = out.strip_prefix(b"before\n").unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn names_cannot_steer_and_the_own_namespace_has_none() {
        let text = |name, line| marked(Style::Text, name, Some(3), line);
        assert_eq!(text(None, "x\n\ty\n"), "[netns current]x\n\ty\n");
        assert_eq!(text(Some(b"a\x1bb"), "x\n"), "[netns a\\x1bb]x\n");
        assert_eq!(text(Some(b"a"), ""), "", "there is no line");
        let object = |name, nsid| -> Value {
            let line = marked(Style::Json, name, nsid, r#"{"event":"new"}"#);
            serde_json::from_str(&line).unwrap()
        };
        assert_eq!(object(None, None), json!({"event": "new"}));
        let expected = json!({"netns": "a\"b", "nsid": 0, "event": "new"});
        assert_eq!(object(Some(br#"a"b"#), Some(0)), expected);
    }

    #[test]
    fn a_change_has_a_line_and_an_object() {
        let mut out = Vec::new();
        Style::Text.write_namespace(&mut out, NamespaceChange::Appeared);
        Style::Text.mark_origin(&mut out, 0, &Origin::new(Some(b"blue"), None));
        let line = String::from_utf8(out).unwrap();
        let start = "[netns blue] [APPEARED] a network namespace at 2";
        assert!(line.starts_with(start), "{line}");
        let mut out = Vec::new();
        Style::Json.write_namespace(&mut out, NamespaceChange::Disappeared);
        let object: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(object["event"], "disappeared");
        assert!(object["time_ns"].is_u64());
    }
}

//! Gaps in the stream of events, as separate lines among those of events.

use nlring::{Event, Loss, Malformed, Notice, Timestamp};

use crate::json;
use crate::text::write_escaped;

/// Something that is missing from the stream of events. [`Style::write_gap`](crate::Style::write_gap) writes it.
#[derive(Clone, Copy, Debug)]
pub enum Gap<'a> {
    /// The kernel dropped datagrams.
    Lost(Loss),
    /// Deliveries to a reliable socket failed. The kernel retries those of DESTROY events.
    Delayed(Loss),
    /// A datagram was larger than the engine's buffers.
    Truncated {
        /// The datagram's full length.
        real_bytes: usize,
    },
    /// The rest of a datagram cannot be read.
    Malformed(&'a Malformed),
    /// Datagrams were still queued at the end and were not delivered.
    Unread {
        /// How many datagrams were counted.
        count: u64,
        /// Whether there may have been more than were counted.
        is_incomplete: bool,
    },
    /// Something else is missing, which the notice describes.
    Missing(&'a Notice),
}

impl<'a> Gap<'a> {
    /// The gap that an event of the engine reports. `None` if nothing is missing.
    pub fn of(event: &'a Event<'_>) -> Option<Self> {
        event.missing()?;
        match event {
            Event::Messages(..) => None,
            Event::Lost(_, loss) => Some(Self::Lost(*loss)),
            Event::Notice(_, notice) => Some(match notice {
                Notice::Delayed(loss) => Self::Delayed(*loss),
                Notice::Truncated { real_bytes, .. } => Self::Truncated {
                    real_bytes: *real_bytes,
                },
                Notice::Malformed(malformed) => Self::Malformed(malformed),
                notice => Self::Missing(notice),
            }),
        }
    }
}

/// Appends a gap as a line that begins with a blank and a word in brackets, such as ` [LOST]`.
pub(crate) fn write_text(out: &mut Vec<u8>, gap: &Gap<'_>) {
    let at = Timestamp::now;
    let between = |loss: &Loss| format!("between {} and {}", loss.since, loss.until);
    let line = match gap {
        Gap::Lost(loss) => format!("[LOST] {} datagrams {}", loss.count, between(loss)),
        Gap::Delayed(loss) => format!("[DELAYED] {} deliveries {}", loss.count, between(loss)),
        Gap::Truncated { real_bytes } => {
            format!("[TRUNCATED] a datagram of {real_bytes} bytes at {}", at())
        }
        Gap::Malformed(malformed) => format!("[MALFORMED] a datagram {malformed}, at {}", at()),
        Gap::Unread {
            count,
            is_incomplete,
        } => {
            let more = if *is_incomplete { " or more" } else { "" };
            format!("[UNREAD] {count} datagrams{more} at {}", at())
        }
        Gap::Missing(notice) => format!("[MISSING] {notice}, at {}", at()),
    };
    out.push(b' ');
    write_escaped(out, line.as_bytes());
    out.push(b'\n');
}

/// Appends a gap as a JSON object.
pub(crate) fn write_json(out: &mut Vec<u8>, gap: &Gap<'_>) {
    let between = |out: &mut Vec<u8>, loss: &Loss| {
        json::number(out, r#""count":"#, loss.count);
        json::number(out, r#""since_ns":"#, loss.since.as_ns());
        json::number(out, r#""until_ns":"#, loss.until.as_ns());
    };
    let at = |out: &mut Vec<u8>, event| {
        json::word(out, r#""event":"#, event);
        json::number(out, r#""time_ns":"#, Timestamp::now().as_ns());
        json::word(out, r#""time_source":"#, "receive");
    };
    out.push(b'{');
    match gap {
        Gap::Lost(loss) => {
            json::word(out, r#""event":"#, "lost");
            between(out, loss);
        }
        Gap::Delayed(loss) => {
            json::word(out, r#""event":"#, "delayed");
            between(out, loss);
        }
        Gap::Truncated { real_bytes } => {
            at(out, "truncated");
            json::number(out, r#""bytes":"#, *real_bytes);
        }
        Gap::Malformed(malformed) => {
            at(out, "malformed");
            json::number(out, r#""offset_bytes":"#, malformed.offset_bytes);
            json::name(out, r#""detail":"#, malformed.to_string().as_bytes());
        }
        Gap::Unread {
            count,
            is_incomplete,
        } => {
            at(out, "unread");
            json::number(out, r#""count":"#, *count);
            if *is_incomplete {
                out.extend_from_slice(br#""incomplete":true,"#);
            }
        }
        Gap::Missing(notice) => {
            at(out, "missing");
            json::name(out, r#""detail":"#, notice.to_string().as_bytes());
        }
    }
    json::end_line(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;
    use std::time::Duration;

    use nlring::{AddOptions, Engine, MalformedReason, MessageBuilder, Protocol, Socket};
    use serde_json::{Value, json};

    /// A gap as a line of text and as an object.
    fn written(gap: &Gap<'_>) -> (String, Value) {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        write_text(&mut text, gap);
        write_json(&mut json, gap);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(" [") && text.find('\n') == Some(text.len() - 1));
        (text, serde_json::from_slice(&json).unwrap())
    }

    /// An engine with buffers of 64 bytes receives what another socket sends.
    #[test]
    fn what_cannot_be_read_has_a_line_at_its_place() {
        const USER: Protocol = Protocol::USERSOCK;
        let [socket, sender] = [0, 1].map(|_| Socket::builder(USER).open().unwrap());
        let port_id = socket.port_id().unwrap();
        let mut engine = Engine::builder().build().unwrap();
        let options = AddOptions::new().accept_any_sender(true).buffer_bytes(64);
        // With more buffers the engine would pack datagrams, and the large one would fit.
        let options = options.buffer_count(1);
        engine.add_with(socket, options).unwrap();
        let mut running = engine.start().unwrap();
        let message = |length: usize| {
            let mut bytes = Vec::new();
            let message = MessageBuilder::new(&mut bytes, 16, 0);
            message.bytes(&vec![0; length - 16]).finish().unwrap();
            bytes
        };
        let (mut lines, mut objects) = (Vec::new(), Vec::new());
        for bytes in [
            message(32),
            message(4000),
            [message(32), vec![1; 8]].concat(),
            message(32),
        ] {
            sender.send_to(&bytes, port_id, 0).unwrap();
            let timeout = Some(Duration::from_secs(10));
            let _ = running.poll(timeout, |event, _| {
                let (line, object) = match (Gap::of(&event), &event) {
                    (Some(gap), _) => written(&gap),
                    (None, Event::Messages(..)) => ("message\n".to_owned(), Value::Null),
                    (None, _) => return ControlFlow::Continue(()), // a notice that the only buffer is in use
                };
                lines.push(line);
                objects.push(object);
                ControlFlow::<()>::Continue(())
            });
        }
        let starts = [
            "message",
            " [TRUNCATED] a datagram of 4000 bytes at ",
            "message",
            " [MALFORMED] a datagram at byte 32: 8 bytes are left, a message header has 16, at ",
            "message",
        ];
        assert_eq!(lines.len(), starts.len(), "{lines:#?}");
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        let (truncated, malformed) = (&objects[1], &objects[3]);
        assert_eq!(
            (&truncated["event"], &truncated["bytes"]),
            (&json!("truncated"), &json!(4000))
        );
        assert_eq!(
            (&malformed["event"], &malformed["offset_bytes"]),
            (&json!("malformed"), &json!(32))
        );
    }

    #[test]
    fn each_gap_has_a_line_and_an_object() {
        let time = Timestamp::UNIX_EPOCH + Duration::from_secs(1);
        let loss = Loss::new(3, time, time + Duration::from_secs(1));
        let between = "between 1970-01-01T00:00:01.000000Z and 1970-01-01T00:00:02.000000Z\n";
        let (text, object) = written(&Gap::Lost(loss));
        assert_eq!(text, format!(" [LOST] 3 datagrams {between}"));
        let times = json!({"since_ns": 1_000_000_000, "until_ns": 2_000_000_000_u64, "count": 3});
        let with_event = |event| {
            let mut object = times.clone();
            object["event"] = json!(event);
            object
        };
        assert_eq!(object, with_event("lost"));
        let (text, object) = written(&Gap::Delayed(loss));
        assert_eq!(text, format!(" [DELAYED] 3 deliveries {between}"));
        assert_eq!(object, with_event("delayed"));
        let unread = |is_incomplete| Gap::Unread {
            count: 9,
            is_incomplete,
        };
        let (text, object) = written(&unread(true));
        assert!(
            text.starts_with(" [UNREAD] 9 datagrams or more at 2"),
            "{text}"
        );
        assert_eq!(object["incomplete"], true);
        let (text, object) = written(&unread(false));
        assert!(text.starts_with(" [UNREAD] 9 datagrams at 2"), "{text}");
        assert_eq!(object.get("incomplete"), None);
        assert_eq!(
            (&object["event"], &object["count"]),
            (&json!("unread"), &json!(9))
        );
        let notice = Notice::Starved; // an example of a notice without a variant of its own
        let (text, object) = written(&Gap::Missing(&notice));
        let words = notice.to_string();
        assert!(
            text.starts_with(&format!(" [MISSING] {words}, at 2")),
            "{text}"
        );
        assert_eq!(
            (&object["event"], &object["detail"]),
            (&json!("missing"), &json!(words))
        );
        assert!(object["time_ns"].is_u64() && object["time_source"] == "receive");
    }

    /// The objects are those that no test of the whole command produces.
    #[test]
    fn the_documentation_has_every_field() {
        let documentation = include_str!("../../docs/json.md");
        let malformed = Malformed {
            offset_bytes: 148,
            reason: MalformedReason::ShortHeader { left_bytes: 8 },
        };
        for gap in [
            Gap::Truncated {
                real_bytes: 131_400,
            },
            Gap::Malformed(&malformed),
            Gap::Missing(&Notice::Starved),
        ] {
            let mut json = Vec::new();
            write_json(&mut json, &gap);
            let text = String::from_utf8(json).unwrap();
            let object: Value = serde_json::from_str(&text).unwrap();
            let kind = object["event"].as_str().unwrap();
            for name in object.as_object().unwrap().keys() {
                assert!(documentation.contains(&format!("`{name}`")), "{name}");
                let key = format!("\"{name}\":");
                assert_eq!(text.matches(&key).count(), 1, "{name} twice: {text}");
            }
            assert!(documentation.contains(&format!("`{kind}`")), "{kind}");
        }
    }
}

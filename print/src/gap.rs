//! Gaps in the stream of events, as records in it.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use nlring::{Event, Loss, Malformed, Notice, Resync, ResyncReason};

use crate::json;
use crate::text::write_escaped;

/// Something that is missing in the stream.
#[derive(Clone, Copy, Debug)]
pub enum Gap<'a> {
    /// The kernel dropped these datagrams.
    Lost(Loss),
    /// These deliveries failed, and the kernel tries some of them again.
    Delayed(Loss),
    /// A datagram of this length was larger than the engine's buffers.
    Truncated {
        /// Its full length.
        real_bytes: usize,
    },
    /// The rest of a datagram cannot be read.
    Malformed(&'a Malformed),
    /// These datagrams were still queued at the end, and more where they were not counted to the end.
    Unread {
        /// Datagrams counted.
        count: u64,
        /// There were more.
        is_incomplete: bool,
    },
    /// Something else, for this reason.
    Missing(&'a Notice),
}

impl<'a> Gap<'a> {
    /// The gap that an event reports, if it reports one.
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

/// Appends a gap as a line of its own among those of events.
pub fn write_text(out: &mut Vec<u8>, gap: &Gap<'_>) {
    let at = || rfc3339(SystemTime::now());
    let between = |loss: &Loss| {
        let (since, until) = (rfc3339(loss.since), rfc3339(loss.until));
        format!("between {since} and {until}")
    };
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
pub fn write_json(out: &mut Vec<u8>, gap: &Gap<'_>) {
    let between = |out: &mut Vec<u8>, loss: &Loss| {
        json::number(out, r#""count":"#, loss.count);
        json::number(out, r#""since_ns":"#, since_1970_ns(loss.since));
        json::number(out, r#""until_ns":"#, since_1970_ns(loss.until));
    };
    let at = |out: &mut Vec<u8>, event| {
        json::word(out, r#""event":"#, event);
        json::number(out, r#""time_ns":"#, now_ns());
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

/// Appends that a mirror's table is right again as a line of its own.
pub fn write_resync_text(out: &mut Vec<u8>, resync: &Resync) {
    let (since, until) = (rfc3339(resync.since), rfc3339(resync.until));
    let Resync {
        entry_count,
        new_count,
        update_count,
        destroy_count,
        ..
    } = resync;
    _ = write!(
        out,
        " [RESYNCED] {entry_count} entries: {new_count} new, {update_count} changed, {destroy_count} gone, between \
         {since} and {until}"
    );
    out.extend_from_slice(if resync.is_interrupted {
        b"; the dump was interrupted, another follows\n"
    } else {
        b"\n"
    });
}

/// Appends that a mirror's table is right again as a JSON object.
pub fn write_resync_json(out: &mut Vec<u8>, resync: &Resync) {
    let reason = match resync.reason {
        ResyncReason::Snapshot => "snapshot",
        ResyncReason::Loss => "loss",
        ResyncReason::Audit => "audit",
        ResyncReason::Room => "room",
        _ => "change",
    };
    let (since, until) = (since_1970_ns(resync.since), since_1970_ns(resync.until));
    let Resync {
        lost_count,
        entry_count,
        new_count,
        update_count,
        destroy_count,
        ..
    } = resync;
    let interrupted = if resync.is_interrupted {
        r#","interrupted":true"#
    } else {
        ""
    };
    _ = writeln!(
        out,
        r#"{{"event":"resynced","reason":"{reason}","lost":{lost_count},"entries":{entry_count},"new":{new_count},"update":{update_count},"destroy":{destroy_count}{interrupted},"since_ns":{since},"until_ns":{until}}}"#
    );
}

/// Marks the event's text that `out` ends in as one that stands for what was missed.
pub fn mark_resynced_text(out: &mut Vec<u8>) {
    out.pop(); // the newline
    out.extend_from_slice(b" [RESYNCED]\n");
}

/// The same of a JSON object.
pub fn mark_resynced_json(out: &mut Vec<u8>) {
    out.truncate(out.len().saturating_sub(2)); // the brace and the newline
    out.extend_from_slice(b",\"resynced\":true}\n");
}

/// Nanoseconds since 1970. A clock set before that reads as 1970, one beyond 2554 as that year.
pub fn since_1970_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The same of now.
pub fn now_ns() -> u64 {
    since_1970_ns(SystemTime::now())
}

/// In UTC, to the microsecond. A clock set beyond year 9999 is shown at the end of time.
pub fn rfc3339(time: SystemTime) -> String {
    format!("{:.6}", Timestamp::try_from(time).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;
    use std::time::Duration;

    use nlring::{AddOptions, Engine, MalformedReason, MessageBuilder, Protocol, Socket};
    use serde_json::{Value, json};

    /// The line of text and the object that a gap has.
    fn written(gap: &Gap<'_>) -> (String, Value) {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        write_text(&mut text, gap);
        write_json(&mut json, gap);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(" [") && text.find('\n') == Some(text.len() - 1));
        (text, serde_json::from_slice(&json).unwrap())
    }

    /// From an engine with buffers of 64 bytes, to which another socket sends.
    #[test]
    fn what_cannot_be_read_has_a_line_at_its_place() {
        const USER: Protocol = Protocol::USERSOCK;
        let [socket, sender] = [0, 1].map(|_| Socket::builder(USER).open().unwrap());
        let port_id = socket.port_id().unwrap();
        let mut engine = Engine::builder().build().unwrap();
        let options = AddOptions::new().accept_any_sender(true).buffer_bytes(64);
        // Packed buffers would take it all.
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
                    (None, _) => return ControlFlow::Continue(()), // one buffer is soon in use
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
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
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
        let notice = Notice::Starved; // any that has no gap of its own
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

    /// The fields of the objects that no test of the whole command brings about.
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

    #[test]
    fn instants_are_rfc_3339_in_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5_000);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20.000005Z");
        let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(rfc3339(whole), "1970-01-01T00:00:01.000000Z");
    }
}

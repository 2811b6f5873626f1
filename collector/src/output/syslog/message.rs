//! Messages of syslog (RFC 5424), one for each record.

use std::io::Write as _;

use arrow_schema::Schema;
use jiff::Timestamp as Instant;

use super::super::line::Cell;
use crate::config::{Syslog, SyslogFormat};

/// The greatest length of a host's name.
const HOST_LENGTH: usize = 255;
/// The parameter that a truncated message has.
const CUT: (&str, &str) = ("cut", "true");
/// Room for it and for the mark of UTF-8 text.
const END: usize = " cut=\"true\"]".len() + MARK.len();
/// The bytes with which UTF-8 text begins.
const MARK: [u8; 3] = *b"\xef\xbb\xbf";

/// Writes messages.
pub struct Message {
    facility: u8,
    severity: u8,
    loss_severity: u8,
    format: SyslogFormat,
    /// The part between the time and the kind of the record.
    origin: String,
    sd_id: String,
    /// The last second, as text: most records are of the same second as the one before.
    second: (i64, String),
    value: Vec<u8>,
}

impl Message {
    pub fn new(node: &str, config: &Syslog) -> Self {
        let host: String = node.chars().take(HOST_LENGTH).map(printable).collect();
        Self {
            facility: config.facility as u8,
            severity: config.severity as u8,
            loss_severity: config.loss_severity as u8,
            format: config.format,
            origin: format!(" {host} nlringd {} ", std::process::id()),
            sd_id: config.sd_id.clone(),
            second: (i64::MIN, String::new()),
            value: Vec::new(),
        }
    }

    /// Appends the message of a record. If it exceeds the limit, its last values are left out.
    pub fn write<'a>(
        &mut self,
        schema: &Schema,
        kind: &str,
        time_ns: i64,
        cells: impl Iterator<Item = Cell<'a>>,
        limit: usize,
        message: &mut Vec<u8>,
    ) {
        let begin = message.len();
        let severity = match kind {
            "loss" => self.loss_severity,
            _ => self.severity,
        };
        // Writing to a vector does not fail.
        _ = write!(message, "<{}>1 ", self.facility * 8 + severity);
        self.write_time(time_ns, message);
        message.extend_from_slice(self.origin.as_bytes());
        message.extend_from_slice(kind.as_bytes());
        let is_structured = self.format == SyslogFormat::Structured;
        if is_structured {
            _ = write!(message, " [{}", self.sd_id);
        } else {
            message.extend_from_slice(b" - ");
        }
        let text = message.len();
        let end = begin + limit.saturating_sub(END);
        let mut is_cut = false;
        for (field, cell) in schema.fields().iter().zip(cells) {
            let before = message.len();
            if !self.write_pair(field.name(), &cell, text, message) {
                continue;
            }
            if message.len() > end {
                message.truncate(before);
                is_cut = true;
                break;
            }
        }
        if is_cut {
            self.write_pair(CUT.0, &Cell::Text(CUT.1), text, message);
        }
        if is_structured {
            message.push(b']');
        } else if !message[text..].is_ascii() {
            message.splice(text..text, MARK);
        }
    }

    /// Whether the cell has a value.
    fn write_pair(
        &mut self,
        name: &str,
        cell: &Cell<'_>,
        text: usize,
        message: &mut Vec<u8>,
    ) -> bool {
        self.value.clear();
        match cell {
            Cell::Null => return false,
            Cell::Text(text) | Cell::Json(text) => self.value.extend_from_slice(text.as_bytes()),
            Cell::Number(number) => write_number(*number, &mut self.value),
            Cell::Flag(flag) => self.value.extend_from_slice(flag.to_string().as_bytes()),
        }
        let is_structured = self.format == SyslogFormat::Structured;
        if is_structured || message.len() > text {
            message.push(b' ');
        }
        message.extend_from_slice(name.as_bytes());
        message.push(b'=');
        let is_plain = |byte: &u8| !byte.is_ascii_control() && !b" \"\\]=".contains(byte);
        if self.value.iter().all(is_plain) && !self.value.is_empty() {
            let quote: &[u8] = if is_structured { b"\"" } else { b"" };
            message.extend_from_slice(quote);
            message.extend_from_slice(&self.value);
            message.extend_from_slice(quote);
            return true;
        }
        message.push(b'"');
        for byte in &self.value {
            match byte {
                b'"' | b'\\' => message.extend_from_slice(&[b'\\', *byte]),
                b']' if is_structured => message.extend_from_slice(b"\\]"),
                // A line break would end the message for some receivers.
                byte if byte.is_ascii_control() => message.push(b'?'),
                byte => message.push(*byte),
            }
        }
        message.push(b'"');
        true
    }

    /// Appends an instant in microseconds, the finest unit of RFC 5424.
    fn write_time(&mut self, ns: i64, message: &mut Vec<u8>) {
        let second = ns.div_euclid(1_000_000_000);
        if self.second.0 != second {
            let instant = Instant::from_second(second).unwrap_or(Instant::UNIX_EPOCH);
            let text = instant.to_string();
            self.second = (second, text.trim_end_matches('Z').to_owned());
        }
        let us = ns.rem_euclid(1_000_000_000) / 1000;
        _ = write!(message, "{}.{us:06}Z", self.second.1);
    }
}

/// A character of a host's name.
fn printable(letter: char) -> char {
    if letter.is_ascii_graphic() {
        letter
    } else {
        '?'
    }
}

/// Appends a number. Most of a message is numbers, and this takes a third of the standard library's time.
fn write_number(mut number: u64, text: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[begin..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::{DataType, Field};

    fn message(format: SyslogFormat, cells: Vec<(&str, Cell<'_>)>, limit: usize) -> String {
        let config = Syslog {
            format,
            ..Syslog::default()
        };
        let field = |(name, _): &(&str, _)| Field::new(*name, DataType::Utf8, true);
        let schema = Schema::new(cells.iter().map(field).collect::<Vec<_>>());
        let mut bytes = Vec::new();
        let cells = cells.into_iter().map(|(_, cell)| cell);
        let time_ns = 1_795_869_055_000_000_000 + 1_234_567;
        Message::new("gw 1", &config).write(&schema, "flow", time_ns, cells, limit, &mut bytes);
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn cells<'a>() -> Vec<(&'static str, Cell<'a>)> {
        vec![
            ("record", Cell::Text("flow")),
            ("count", Cell::Null),
            ("netns", Cell::Text("a \"b\\]\nü")),
            ("orig_bytes", Cell::Number(u64::MAX)),
            ("mark", Cell::Number(0)),
            ("resynced", Cell::Flag(true)),
        ]
    }

    #[test]
    fn structured_data_is_escaped() {
        let pid = std::process::id();
        let wanted = format!(
            "<134>1 2026-11-28T12:30:55.001234Z gw?1 nlringd {pid} flow \
             [nlring@32473 record=\"flow\" netns=\"a \\\"b\\\\\\]?ü\" orig_bytes=\"18446744073709551615\" \
             mark=\"0\" resynced=\"true\"]"
        );
        assert_eq!(message(SyslogFormat::Structured, cells(), 2000), wanted);
    }

    #[test]
    fn text_has_quotes_where_it_needs_them_and_a_mark_only_if_it_is_not_ascii() {
        let text = message(SyslogFormat::Text, cells(), 2000);
        let wanted = "flow - \u{feff}record=flow netns=\"a \\\"b\\\\]?ü\" orig_bytes=18446744073709551615 \
                      mark=0 resynced=true";
        assert!(text.ends_with(wanted), "{text}");
        let plain = vec![("record", Cell::Text("flow")), ("helper", Cell::Text(""))];
        let text = message(SyslogFormat::Text, plain, 2000);
        assert!(text.ends_with("flow - record=flow helper=\"\""), "{text}");
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_and_says_so() {
        for format in [SyslogFormat::Structured, SyslogFormat::Text] {
            let whole = message(format, cells(), 2000);
            for limit in 120..whole.len() + 20 {
                let text = message(format, cells(), limit);
                assert!(text.len() <= limit, "{text} has at most {limit} bytes");
                assert_eq!(
                    text.contains("cut="),
                    text.len() < whole.len(),
                    "{limit}: {text}"
                );
            }
        }
    }
}

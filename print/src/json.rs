//! JSON that cannot manipulate a terminal, even if it contains names from outside.

use std::net::IpAddr;

use serde::Serialize;

use crate::text::{is_steering, write_decimal, write_hex, write_ip};

// The functions that are private to this crate append pieces of JSON objects without allocating. A key is given as it
// appears in the text, `"name":`. Each field is followed by a comma, which `close` removes. JSON crates are slower at
// this: for the line of a new UDP flow, serde_json 1.0 and sonic-rs 0.5 took twice the time.

/// Closes an object or an array, as a field of the object around it.
#[inline]
pub(crate) fn close(out: &mut Vec<u8>, bracket: u8) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(&[bracket, b',']);
}

/// Closes the outermost object and ends the line.
#[inline]
pub(crate) fn end_line(out: &mut Vec<u8>) {
    close(out, b'}');
    out.pop();
    out.push(b'\n');
}

/// Appends a number.
#[inline]
pub(crate) fn number<T: itoa::Integer>(out: &mut Vec<u8>, key: &str, value: T) {
    out.extend_from_slice(key.as_bytes());
    write_decimal(out, value);
    out.push(b',');
}

/// Appends a number, if there is one.
#[inline]
pub(crate) fn optional<T: itoa::Integer>(out: &mut Vec<u8>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        number(out, key, value);
    }
}

/// Appends one of the program's own words, which needs no escaping.
#[inline]
pub(crate) fn word(out: &mut Vec<u8>, key: &str, word: &'static str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\",");
}

/// Appends the word for a number, or the number as a string if there is no word.
#[inline]
pub(crate) fn word_or_number(
    out: &mut Vec<u8>,
    key: &str,
    known: Option<&'static str>,
    number: u32,
) {
    if let Some(known) = known {
        return word(out, key, known);
    }
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    write_decimal(out, number);
    out.extend_from_slice(b"\",");
}

/// Appends an address.
#[inline]
pub(crate) fn ip(out: &mut Vec<u8>, key: &str, address: IpAddr) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    write_ip(out, address);
    out.extend_from_slice(b"\",");
}

/// Appends a list of the words for the bits that are set, lowest bit first. A bit without a word, or with an empty one,
/// is written as its value in hexadecimal.
#[inline]
pub(crate) fn bits(out: &mut Vec<u8>, key: &str, bits: u32, words: &[&'static str]) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'[');
    let mut left = bits;
    while left != 0 {
        let bit = left.trailing_zeros();
        left &= left - 1;
        match words.get(bit as usize) {
            Some(known) if !known.is_empty() => word(out, "", known),
            _ => {
                out.extend_from_slice(b"\"0x");
                write_hex(out, 1 << bit);
                out.extend_from_slice(b"\",");
            }
        }
    }
    close(out, b']');
}

/// Which types of attributes have become keys of an object. A message may have an attribute twice, and an object must
/// not have a key twice: the first counts, as in `ip`.
pub(crate) struct Keys([u64; 256]);

impl Keys {
    pub(crate) fn new() -> Self {
        Self([0; 256])
    }

    /// Whether a type, which has 14 bits, becomes a key for the first time.
    pub(crate) fn is_first(&mut self, attribute_type: u16) -> bool {
        let bit = 1 << (attribute_type % 64);
        let word = &mut self.0[usize::from(attribute_type / 64) % 256];
        let is_first = *word & bit == 0;
        *word |= bit;
        is_first
    }
}

/// Appends a number as a string, in hexadecimal without zeros in front.
pub(crate) fn hex(out: &mut Vec<u8>, key: &str, number: u128) {
    let digit_count = (128 - number.leading_zeros()).div_ceil(4).max(1);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\"0x");
    for place in (0..digit_count).rev() {
        let digit = number >> (4 * place) & 0xf;
        out.push(b"0123456789abcdef"[digit as usize]);
    }
    out.extend_from_slice(b"\",");
}

/// Appends a name from outside, which may have any bytes. [Steering](is_steering) characters become `\uNNNN`, and bytes
/// that are not UTF-8 become the text `\xNN`.
pub(crate) fn name(out: &mut Vec<u8>, key: &str, name: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    if name.iter().all(|&byte| is_plain(byte)) {
        out.extend_from_slice(name);
    } else {
        write_escaped(out, name);
    }
    out.extend_from_slice(b"\",");
}

fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

fn write_escaped(out: &mut Vec<u8>, name: &[u8]) {
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(br#"\""#),
                '\\' => out.extend_from_slice(br"\\"),
                // JSON allows those from U+007F on, but terminals and their readers obey them.
                _ if is_steering(character) => write_unicode_escape(out, character),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for &byte in chunk.invalid() {
            out.extend_from_slice(br"\\x"); // these bytes are above 0x7f, so they have two digits
            write_hex(out, byte.into());
        }
    }
}

/// A value as compact JSON, like `serde_json::to_string`, with all [steering](is_steering) characters escaped.
///
/// ```
/// assert_eq!(nlring_print::json::to_string(&["\u{9b}2J"])?, r#"["\u009b2J"]"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
///
/// The value's `Serialize` fails, or a key of a map is not a string.
pub fn to_string(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|json| escape(&json))
}

/// A value as indented JSON, like `serde_json::to_string_pretty`, with all [steering](is_steering) characters escaped.
///
/// # Errors
///
/// The value's `Serialize` fails, or a key of a map is not a string.
pub fn to_string_pretty(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|json| escape(&json))
}

/// Escapes the [steering](is_steering) characters in a JSON text, except for line feeds: those are only between values,
/// because the serializer has escaped them in strings.
fn escape(json: &str) -> String {
    let mut out = Vec::with_capacity(json.len());
    for character in json.chars() {
        if is_steering(character) && character != '\n' {
            write_unicode_escape(&mut out, character);
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    String::from_utf8_lossy(&out).into_owned() // only UTF-8 was written
}

/// Appends the escape of a [steering](is_steering) character. All of them have at most four digits.
fn write_unicode_escape(out: &mut Vec<u8>, character: char) {
    let code = u32::from(character);
    out.extend_from_slice(br"\u");
    for shift in [12, 8, 4, 0] {
        write_hex(out, u64::from(code >> shift & 15));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_number_has_no_zeros_in_front() {
        for number in [0, 1, 0xf, 0x10, 0xabc, 1 << 64, u128::MAX] {
            let mut out = Vec::new();
            hex(&mut out, "k:", number);
            assert_eq!(str::from_utf8(&out).unwrap(), format!("k:\"{number:#x}\","));
        }
    }
    use serde_json::Value;

    fn parsed(write: impl FnOnce(&mut Vec<u8>)) -> (String, Value) {
        let mut out = b"{".to_vec();
        write(&mut out);
        end_line(&mut out);
        let text = String::from_utf8(out).unwrap();
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (text, value)
    }

    #[test]
    fn objects_and_arrays_close_also_when_they_are_empty() {
        let (text, _) = parsed(|_| {});
        assert_eq!(text, "{}\n");
        let (text, _) = parsed(|out| {
            bits(out, r#""none":"#, 0, &[]);
            bits(out, r#""some":"#, 0x8000_0005, &["one", "two", "four"]);
            number(out, r#""number":"#, 7_u8);
            optional(out, r#""absent":"#, None::<u8>);
            word_or_number(out, r#""word":"#, None, 9);
        });
        assert_eq!(
            text,
            r#"{"none":[],"some":["one","four","0x80000000"],"number":7,"word":"9"}"#.to_owned()
                + "\n"
        );
    }

    #[test]
    fn any_name_comes_back_from_a_parser_and_none_steers_a_terminal() {
        let every_low = (0..0xa0).filter_map(char::from_u32).collect::<String>();
        let directions = (0x2000..0x2070)
            .filter_map(char::from_u32)
            .collect::<String>()
            + "\u{61c}";
        for given in [
            "eth0",
            "",
            "\"",
            "\\",
            "a\"b\\c\u{1b}[2J\n",
            "é\u{2028}😀",
            &every_low,
            &directions,
        ] {
            let (text, value) = parsed(|out| name(out, r#""name":"#, given.as_bytes()));
            assert_eq!(value["name"], given);
            assert!(!text.trim_end().contains(is_steering), "{text}");
            let escaped = to_string_pretty(&[given]).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap()[0], given);
            assert_eq!(escaped.matches('\n').count(), 2, "the layout stays");
            assert!(
                !escaped.replace('\n', "").contains(is_steering),
                "{escaped}"
            );
        }
        let (_, value) = parsed(|out| name(out, r#""name":"#, b"a\xff\xe2\x82b\"\x80"));
        assert_eq!(value["name"], r#"a\xff\xe2\x82b"\x80"#);
    }
}

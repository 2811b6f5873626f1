//! Names from outside in text: characters that could manipulate a terminal or break a line are escaped.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Appends a number in decimal.
pub(crate) fn write_decimal<T: itoa::Integer>(out: &mut Vec<u8>, value: T) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a number in decimal with at least this many digits, with zeros in front.
pub(crate) fn write_padded(out: &mut Vec<u8>, value: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let number = buffer.format(value).as_bytes();
    out.resize(out.len() + digits.saturating_sub(number.len()), b'0');
    out.extend_from_slice(number);
}

/// Appends a number in hexadecimal, without a prefix.
pub(crate) fn write_hex(out: &mut Vec<u8>, value: u64) {
    let digits = (64 - value.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = (value >> (4 * digit)).to_le_bytes()[0] & 15;
        out.push(b"0123456789abcdef"[usize::from(nibble)]);
    }
}

/// Appends an address as glibc's inet_ntop(3) writes it. Rust's `Display` differs for IPv4-compatible IPv6 addresses
/// such as `::192.0.2.1`.
///
/// ```
/// let mut line = b"from ".to_vec();
/// nlring_print::text::write_ip(&mut line, "::192.0.2.1".parse()?);
/// assert_eq!(line, b"from ::192.0.2.1");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn write_ip(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => write_ipv4(out, address),
        IpAddr::V6(address) => write_ipv6(out, address),
    }
}

fn write_ipv4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let (mut text, mut length) = ([0; 16], 0);
    for octet in address.octets() {
        let (digits, digit_count) = OCTETS[usize::from(octet)];
        text[length..length + 4].copy_from_slice(&digits);
        length += digit_count + 1;
    }
    out.extend_from_slice(&text[..length - 1]);
}

/// The decimal digits of each byte with a dot after them, and the number of digits. With this table an address is
/// appended in one piece, which matters because addresses are a large part of a line.
static OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'0', b'.', 0, 0], 1); 256];
    let mut octet = u8::MAX;
    while octet > 0 {
        let (hundreds, tens, ones) = (octet / 100, octet / 10 % 10, octet % 10);
        octets[octet as usize] = match octet {
            100.. => ([b'0' + hundreds, b'0' + tens, b'0' + ones, b'.'], 3),
            10.. => ([b'0' + tens, b'0' + ones, b'.', 0], 2),
            _ => ([b'0' + ones, b'.', 0, 0], 1),
        };
        octet -= 1;
    }
    octets
};

fn write_ipv6(out: &mut Vec<u8>, address: Ipv6Addr) {
    let segments = address.segments();
    let zeros = longest_zeros(&segments);
    let has_ipv4 = zeros == (0..6) || (zeros == (0..5) && segments[5] == 0xffff);
    let hex_end = if has_ipv4 { 6 } else { 8 };
    let mut index = 0;
    while index < hex_end {
        if index == zeros.start && !zeros.is_empty() {
            out.extend_from_slice(b"::");
            index = zeros.end;
            continue;
        }
        if index != 0 && index != zeros.end {
            out.push(b':');
        }
        write_hex(out, u64::from(segments[index]));
        index += 1;
    }
    if has_ipv4 {
        if zeros.end != 6 {
            out.push(b':');
        }
        let [.., a, b, c, d] = address.octets();
        write_ipv4(out, Ipv4Addr::new(a, b, c, d));
    }
}

/// The first of the longest runs of two or more zeros. If there is none, it is empty and at the end.
fn longest_zeros(segments: &[u16; 8]) -> std::ops::Range<usize> {
    let (mut longest, mut start) = (8..8, 0);
    for end in 1..=8 {
        if segments[end - 1] != 0 {
            start = end;
        } else if end - start > longest.len().max(1) {
            longest = start..end;
        }
    }
    longest
}

/// Whether a character is a steering character: it controls a terminal, ends a line, or changes the order in which the
/// rest of the line is read.
///
/// These are the control characters (U+0000–1F, U+007F–9F), the line and paragraph separators, and the controls of
/// writing direction (Unicode Standard Annex 9, section 2). All writers of this crate escape them in names from
/// outside.
pub fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// Appends a name from outside unchanged, except for [steering](is_steering) characters and bytes that are not UTF-8,
/// whose bytes become `\xNN`.
pub fn write_escaped(out: &mut Vec<u8>, name: &[u8]) {
    if name.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        out.extend_from_slice(name);
        return;
    }
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut utf8 = [0; 4];
            let bytes = character.encode_utf8(&mut utf8).as_bytes();
            if is_steering(character) {
                write_escapes(out, bytes);
            } else {
                out.extend_from_slice(bytes);
            }
        }
        write_escapes(out, chunk.invalid());
    }
}

fn write_escapes(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        out.extend_from_slice(if byte < 16 { b"\\x0" } else { b"\\x" });
        write_hex(out, u64::from(byte));
    }
}

/// A name from outside, as [`write_escaped`] writes it.
///
/// ```
/// use nlring_print::text::escaped;
///
/// assert_eq!(escaped("eth0 é".as_bytes()), "eth0 é");
/// assert_eq!(escaped(b"\x1b[2J\xff"), r"\x1b[2J\xff");
/// ```
pub fn escaped(name: &[u8]) -> String {
    let mut out = Vec::new();
    write_escaped(&mut out, name);
    String::from_utf8_lossy(&out).into_owned() // write_escaped appends UTF-8 only
}

/// A message of several lines, with all [steering](is_steering) characters escaped except for the line feeds.
pub fn escaped_lines(text: &str) -> String {
    text.split('\n')
        .map(|line| escaped(line.as_bytes()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A path for a message, as [`write_escaped`] writes it.
pub fn shown(path: &Path) -> impl fmt::Display {
    escaped(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_inet_ntop_does() {
        let addresses = [
            ("0.0.0.0", "0.0.0.0"),
            ("9.10.99.100", "9.10.99.100"),
            ("255.1.200.0", "255.1.200.0"),
            ("::", "::"),
            ("::1", "::1"),
            ("::102:304", "::1.2.3.4"),
            ("::1:0", "::0.1.0.0"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::fffe:1.2.3.4", "::fffe:102:304"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("1:0:0:2:0:0:3:4", "1::2:0:0:3:4"),
            ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
            ("2001:db8::", "2001:db8::"),
            ("0:0:1::", "0:0:1::"),
        ];
        for (address, want) in addresses {
            let mut out = Vec::new();
            write_ip(&mut out, address.parse().unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn harmless_names_stay_as_they_are_and_others_are_escaped() {
        let names: [(&[u8], &str); 9] = [
            (b"eth0", "eth0"),
            (b"a\\x1b \"'", "a\\x1b \"'"),
            ("é😀שלום".as_bytes(), "é😀שלום"),
            (b"\x1b[2J\n\x7f", "\\x1b[2J\\x0a\\x7f"),
            (b"a\xff\x9b", "a\\xff\\x9b"),
            ("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m"),
            ("\u{202e}0hte".as_bytes(), "\\xe2\\x80\\xae0hte"),
            (
                "\u{2028}\u{2029}".as_bytes(),
                "\\xe2\\x80\\xa8\\xe2\\x80\\xa9",
            ),
            ("\u{61c}\u{200d}".as_bytes(), "\\xd8\\x9c\u{200d}"),
        ];
        for (name, want) in names {
            assert_eq!(escaped(name), want);
        }
        for code in [0x61c, 0x200e, 0x200f]
            .into_iter()
            .chain(0x202a..=0x202e)
            .chain(0x2066..=0x2069)
        {
            assert!(is_steering(char::from_u32(code).unwrap()), "U+{code:04X}");
        }
    }
}

//! The names of conntrack's labels, read from the file that conntrack and iptables read.

use std::collections::HashSet;
use std::fs;
use std::io;

const FILE: &str = "/etc/xtables/connlabel.conf";

/// Labels have fewer bits than this: conntrack ignores names of higher ones.
const MOST_BITS: u64 = 1024;
/// The longest line that conntrack reads. The rest of a longer one is a separate line.
const MOST_LINE_BYTES: usize = 1023;

/// The names of conntrack's labels, by bit.
#[derive(Debug, Default)]
pub struct LabelNames(
    /// The name is empty if the bit has none.
    Vec<Vec<u8>>,
);

impl LabelNames {
    /// Reads /etc/xtables/connlabel.conf. Like conntrack(8), call this once, at startup.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or names no label. The error's text has the path.
    pub fn load() -> io::Result<Self> {
        let text = fs::read(FILE)
            .map_err(|error| io::Error::new(error.kind(), format!("read {FILE}: {error}")))?;
        let names = Self::parse(&text);
        if names.0.is_empty() {
            let text = format!("{FILE} names no label");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(names)
    }

    /// Reads lines of a bit's number and its name. The first line of each bit counts, and the first of each name. Lines
    /// that are neither this nor a comment are ignored.
    ///
    /// ```
    /// use nlring_print::conntrack::LabelNames;
    ///
    /// let names = LabelNames::parse(b"# comment\n0 web\n1 bulk transfer\n");
    /// assert_eq!(names.get(1), Some(&b"bulk transfer"[..]));
    /// assert_eq!(names.get(2), None);
    /// assert_eq!(names.find(b"bulk transfer"), Some(1));
    /// ```
    pub fn parse(text: &[u8]) -> Self {
        let (mut names, mut taken) = (Vec::<Vec<u8>>::new(), HashSet::new());
        let lines = text.split(|&byte| byte == b'\n');
        for line in lines.flat_map(|line| line.chunks(MOST_LINE_BYTES)) {
            let Some((bit, name)) = parse_line(line) else {
                continue;
            };
            let is_free = names.get(bit).is_none_or(Vec::is_empty);
            if is_free && taken.insert(name) {
                names.resize(names.len().max(bit + 1), Vec::new());
                names[bit] = name.to_vec();
            }
        }
        Self(names)
    }

    /// The name of a bit. `None`: it has none.
    pub fn get(&self, bit: u32) -> Option<&[u8]> {
        let name = self.0.get(usize::try_from(bit).ok()?)?;
        (!name.is_empty()).then_some(name)
    }

    /// The bit that has this name. `None`: no bit has it.
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        let is_named = |known: &Vec<u8>| !known.is_empty() && known == name;
        let bit = self.0.iter().position(is_named)?;
        u32::try_from(bit).ok()
    }
}

/// The bit and the name. None for a comment, and for names that conntrack does not accept.
fn parse_line(line: &[u8]) -> Option<(usize, &[u8])> {
    let line = line.split(|&byte| byte == 0).next()?; // the end of a string in C
    if line.starts_with(b"#") {
        return None;
    }
    let (bit, rest) = parse_number(trim(line))?;
    let name = trim(rest);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" -".contains(byte);
    let is_name = !name.is_empty() && name.iter().all(is_plain);
    let bit = usize::try_from(bit).ok().filter(|_| bit < MOST_BITS)?;
    is_name.then_some((bit, name))
}

/// Reads a number as strtoul(3) does: decimal, octal after 0, or hexadecimal after 0x. Returns it and what follows its
/// digits, which need not be separated from them.
fn parse_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let hex = text.strip_prefix(b"0x").or(text.strip_prefix(b"0X"));
    let hex = hex.filter(|digits| digits.first().is_some_and(u8::is_ascii_hexdigit));
    let (radix, digits) = match (hex, text.first()?) {
        (Some(digits), _) => (16, digits),
        (None, b'0') => (8, text),
        (None, _) => (10, text),
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(radix);
    let length = digits
        .iter()
        .take_while(|byte| digit(byte).is_some())
        .count();
    let (number, rest) = digits
        .split_at_checked(length)
        .filter(|(number, _)| !number.is_empty())?;
    let value = number.iter().filter_map(digit).fold(0_u64, |value, digit| {
        value
            .saturating_mul(u64::from(radix))
            .saturating_add(u64::from(digit))
    });
    Some((value, rest))
}

/// The text without the blanks around it, as isspace(3) defines them in the C locale.
fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| b" \t\r\x0b\x0c".contains(byte);
    let start = text
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !is_blank(byte))
        .map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits with a name, and their names.
    fn named(text: &[u8]) -> Vec<(u32, String)> {
        let names = LabelNames::parse(text);
        let name = |bit| Some((bit, str::from_utf8(names.get(bit)?).unwrap().to_owned()));
        (0..2000).filter_map(name).collect()
    }

    #[track_caller]
    fn assert_named(text: &[u8], want: &[(u32, &str)]) {
        let want = want.iter().map(|&(bit, name)| (bit, name.to_owned()));
        assert_eq!(named(text), want.collect::<Vec<_>>());
    }

    #[test]
    fn a_line_is_a_bit_and_a_name() {
        let text = b"# comment\n0 zero\n1 one\n\n  2\t two words \r\n0x8 eight\n010 octal8\n011 octal9\n+12abc\n13\n";
        let want = [
            (0, "zero"),
            (1, "one"),
            (2, "two words"),
            (8, "eight"),
            (9, "octal9"),
            (12, "abc"),
        ];
        assert_named(text, &want);
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        let lines = [
            " # 1 indented",
            "name",
            "-1 minus",
            "1024 beyond",
            "99999999999999999999 huge",
            "3",
            "3 \t",
            "0x 1 ,",
            "",
            "3 under_score",
            "3 \"quoted\"",
            "3 esc\x1b[2J",
            "3 caf\u{e9}",
            "3 a,b",
        ];
        assert_named(lines.join("\n").as_bytes(), &[]);
        assert_named(b"3 \xff\xfe", &[]);
        assert_named(b"", &[]);
        let text = b"1023 last\n0x hex\n2 ends\0 here";
        assert_named(text, &[(0, "x hex"), (2, "ends"), (1023, "last")]);
    }

    #[test]
    fn the_first_line_of_a_bit_and_of_a_name_holds() {
        assert_named(
            b"6 dup\n7 dup\n6 again\n7 seven",
            &[(6, "dup"), (7, "seven")],
        );
    }

    #[test]
    fn a_long_line_is_several() {
        let text = format!("1 {}2 two", "x".repeat(MOST_LINE_BYTES - 2));
        assert!(named(text.as_bytes()).contains(&(2, "two".to_owned())));
    }
}

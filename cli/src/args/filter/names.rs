//! Names that only this host knows, for the text of a filter.

use std::cell::LazyCell;
use std::fs;

use nlring::conntrack::protocol_name;
use nlring_print::conntrack::LabelNames;
use nlring_print::route::IprouteNames;

/// IANA's names of protocols (protocols(5)). Many hosts have no such file.
const PROTOCOLS: &str = "/etc/protocols";

/// Finds the number of a label or a protocol for [`Filter::parse_with`](nlring::filter::Filter::parse_with). It reads a
/// file when the first name is looked up.
pub fn of_flows() -> impl Fn(&str, &str) -> Option<u32> {
    let labels = LazyCell::new(|| LabelNames::load().unwrap_or_default());
    move |word, name| match word {
        "label" => labels.find(name.as_bytes()),
        "proto" => protocol_of_file(name).map(u32::from),
        _ => None,
    }
}

/// Finds the number of a table, a protocol or a scope by its name in the files of iproute2.
pub fn of_routes() -> impl Fn(&str, &str) -> Option<u32> {
    let names = LazyCell::new(IprouteNames::load);
    move |word, name| match word {
        "table" => names.table(name),
        "proto" => names.protocol(name),
        "scope" => names.scope(name),
        _ => None,
    }
}

/// The number of a table: by its name, or in decimal or hexadecimal.
pub fn table(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let has_sign = digits.starts_with(['+', '-']);
    let number = u32::from_str_radix(digits, radix).ok();
    let number = number.filter(|_| !has_sign);
    number.or_else(|| IprouteNames::load().table(text))
}

/// The number of a label's name.
pub fn label(name: &str) -> Option<u32> {
    LabelNames::load().ok()?.find(name.as_bytes())
}

/// The number of a protocol's name.
pub fn protocol(name: &str) -> Option<u8> {
    let is_named = |number: &u8| protocol_name(*number).is_some_and(|known| is_same(known, name));
    (0..=u8::MAX)
        .find(is_named)
        .or_else(|| protocol_of_file(name))
}

fn protocol_of_file(name: &str) -> Option<u8> {
    protocol_in(&fs::read_to_string(PROTOCOLS).ok()?, name)
}

/// Searches for a name in lines of a name, a number and further names.
fn protocol_in(text: &str, name: &str) -> Option<u8> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let (first, number) = (words.next()?, words.next()?);
        let mut names = words.chain([first]);
        let has_name = names.any(|known| is_same(known, name));
        number.parse().ok().filter(|_| has_name)
    })
}

fn is_same(known: &str, name: &str) -> bool {
    known.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_names_and_aliases() {
        let text = "# none\nicmp 1 ICMP # control\n\nospf\t89\tOSPFIGP\nbad x BAD\nlone";
        for (name, number) in [
            ("icmp", Some(1)),
            ("ospf", Some(89)),
            ("ospfigp", Some(89)),
            ("bad", None),
            ("lone", None),
            ("control", None),
            ("none", None),
        ] {
            assert_eq!(protocol_in(text, name), number, "{name}");
        }
        assert_eq!([protocol("TCP"), protocol("no such")], [Some(6), None]);
    }
}

//! The values of the options that select flows, each as a filter.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use nlring::Family;
use nlring::conntrack::{Filter, Side, Term};
use nlring::filter::{Numbers, Prefix};

use super::names;

type Parsed<T> = Result<T, String>;

/// The expression of --filter.
pub fn parse_expression(text: &str) -> Parsed<Filter> {
    Filter::parse_with(text, names::of_flows()).map_err(|error| error.to_string())
}

/// Reads a value with `read`, or its negation: `!VALUE`.
pub fn or_not(
    read: fn(&str) -> Parsed<Filter>,
) -> impl Fn(&str) -> Parsed<Filter> + Clone + Send + Sync + 'static {
    move |text| match text.strip_prefix('!') {
        Some(value) => read(value.trim_start()).map(|filter| !filter),
        None => read(text),
    }
}

/// Reads values between commas that must all match, each of which can be negated.
pub fn each_or_not(
    read: fn(&str) -> Parsed<Filter>,
) -> impl Fn(&str) -> Parsed<Filter> + Clone + Send + Sync + 'static {
    let read = or_not(read);
    move |text| {
        let mut values = text.split(',');
        values.try_fold(Filter::default(), |all, value| Ok(all.and(read(value)?)))
    }
}

/// An address or prefix that an option requires, or that it excludes.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub prefix: Prefix,
    pub is_excluded: bool,
}

impl Addresses {
    pub fn filter(self, term: fn(Prefix) -> Term) -> Filter {
        let filter = Filter::from(term(self.prefix));
        if self.is_excluded { !filter } else { filter }
    }
}

pub fn parse_addresses(text: &str) -> Parsed<Addresses> {
    let (prefix, is_excluded) = match text.strip_prefix('!') {
        Some(prefix) => (prefix.trim_start(), true),
        None => (text, false),
    };
    Ok(Addresses {
        prefix: parse_prefix(prefix)?,
        is_excluded,
    })
}

fn parse_prefix(text: &str) -> Parsed<Prefix> {
    text.parse()
        .map_err(|error: nlring::filter::PrefixError| error.to_string())
}

/// The mask of a prefix, as an address: how many bits are set, and in which family.
pub fn parse_mask(text: &str) -> Parsed<Mask> {
    let (bits, width) = match text.parse() {
        Ok(IpAddr::V4(mask)) => (u128::from(mask.to_bits()) << 96, 32),
        Ok(IpAddr::V6(mask)) => (mask.to_bits(), 128),
        Err(_) => return Err("give a mask such as 255.255.0.0 or ffff::".to_owned()),
    };
    if bits.count_zeros() != bits.trailing_zeros() {
        return Err("give a mask whose set bits come first; others are not supported".to_owned());
    }
    let length = u8::try_from(bits.leading_ones()).unwrap_or(width);
    Ok(Mask { length, width })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    length: u8,
    /// How many bits an address of its family has.
    width: u8,
}

impl Mask {
    /// The prefix of an address under the mask. None: it is of the other family, or is already a prefix.
    pub fn of(self, address: Prefix) -> Option<Prefix> {
        let width = if address.address().is_ipv4() { 32 } else { 128 };
        let fits = self.width == width && address.length() == width;
        fits.then(|| Prefix::new(address.address(), self.length))?
    }
}

pub fn reply_src(text: &str) -> Parsed<Filter> {
    Ok(Term::src(parse_prefix(text)?).of(Side::Reply).into())
}

pub fn reply_dst(text: &str) -> Parsed<Filter> {
    Ok(Term::dst(parse_prefix(text)?).of(Side::Reply).into())
}

pub fn sport(text: &str) -> Parsed<Filter> {
    Ok(Term::sport(parse_ports(text)?).into())
}

pub fn dport(text: &str) -> Parsed<Filter> {
    Ok(Term::dport(parse_ports(text)?).into())
}

pub fn reply_sport(text: &str) -> Parsed<Filter> {
    Ok(Term::sport(parse_ports(text)?).of(Side::Reply).into())
}

pub fn reply_dport(text: &str) -> Parsed<Filter> {
    Ok(Term::dport(parse_ports(text)?).of(Side::Reply).into())
}

fn parse_ports(text: &str) -> Parsed<Numbers> {
    numbers(text, u16::MAX.into()).ok_or_else(|| {
        "give a number from 0 to 65535, a range such as 1024-2047, or several: 80,443".to_owned()
    })
}

pub fn icmp_type(text: &str) -> Parsed<Filter> {
    Ok(Term::icmp_type(parse_bytes(text)?).into())
}

pub fn icmp_code(text: &str) -> Parsed<Filter> {
    Ok(Term::icmp_code(parse_bytes(text)?).into())
}

fn parse_bytes(text: &str) -> Parsed<Numbers> {
    numbers(text, u8::MAX.into())
        .ok_or_else(|| "give a number from 0 to 255, a range such as 8-10, or several: 0,8".into())
}

/// Numbers and ranges up to `most`, between commas.
fn numbers(text: &str, most: u32) -> Option<Numbers> {
    let range = |text: &str| -> Option<RangeInclusive<u32>> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (low, high) = (number(low)?, number(high)?);
        (low <= high && high <= most).then_some(low..=high)
    };
    text.split(',').map(range).collect()
}

/// A number in decimal, or in hexadecimal after `0x`.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let is_digit = |c: char| c.is_digit(radix); // no sign
    let number = u32::from_str_radix(digits, radix).ok();
    number.filter(|_| digits.chars().all(is_digit))
}

pub fn protocol(text: &str) -> Parsed<Filter> {
    let byte = number(text).and_then(|number| u8::try_from(number).ok());
    let found = byte.or_else(|| names::protocol(text)).ok_or(
        "give a name such as tcp, udp, icmp, icmpv6, sctp, dccp, gre or udplite, or a number from 0 to 255",
    )?;
    Ok(Term::protocol(found).into())
}

pub fn family(text: &str) -> Parsed<Filter> {
    match text {
        "ipv4" => Ok(Term::family(Family::INET).into()),
        "ipv6" => Ok(Term::family(Family::INET6).into()),
        _ => Err("give ipv4 or ipv6".to_owned()),
    }
}

pub fn mark(text: &str) -> Parsed<Filter> {
    let parts = match text.split_once('/') {
        Some((value, mask)) => number(value).zip(number(mask)),
        None => number(text).map(|value| (value, u32::MAX)),
    };
    let (value, mask) = parts.ok_or("give a mark such as 7, 0x10 or 0x10/0xf0")?;
    Ok(Term::mark(value, mask).into())
}

/// One bit of the status. `UNREPLIED` is conntrack's word for a flow without the bit `SEEN_REPLY`.
pub fn status(text: &str) -> Parsed<Filter> {
    if text.eq_ignore_ascii_case("unreplied") {
        return status("seen_reply").map(|filter| !filter);
    }
    let term = Term::status_bit(text);
    term.map(Filter::from).ok_or_else(|| {
        "give bits such as ASSURED, SEEN_REPLY, UNREPLIED, FIXED_TIMEOUT, EXPECTED, OFFLOAD or DYING, between commas"
            .to_owned()
    })
}

pub fn state(text: &str) -> Parsed<Filter> {
    let term = Term::state(text);
    term.map(Filter::from).ok_or_else(|| {
        "give a state of TCP, SCTP or DCCP such as ESTABLISHED or SYN_SENT".to_owned()
    })
}

/// A name of connlabel.conf, or a number.
pub fn label(text: &str) -> Parsed<Filter> {
    let found = names::label(text).or_else(|| number(text));
    let bit = found.and_then(|bit| u8::try_from(bit).ok().filter(|&bit| bit < 128));
    let bit = bit.ok_or(
        "give labels that /etc/xtables/connlabel.conf names, or numbers from 0 to 127, between commas",
    )?;
    Ok(Term::label(bit).into())
}

/// A zone of both directions, as conntrack(8) reads --zone.
pub fn zone(text: &str) -> Parsed<Filter> {
    parse_zone(text).map(|id| zones(id, id))
}

/// A zone of the original direction alone.
pub fn orig_zone(text: &str) -> Parsed<Filter> {
    parse_zone(text).map(|id| zones(id, 0))
}

/// A zone of the reply direction alone.
pub fn reply_zone(text: &str) -> Parsed<Filter> {
    parse_zone(text).map(|id| zones(0, id))
}

fn parse_zone(text: &str) -> Parsed<u16> {
    let id = number(text).and_then(|id| u16::try_from(id).ok());
    id.ok_or_else(|| "give a number from 0 to 65535".to_owned())
}

fn zones(orig: u16, reply: u16) -> Filter {
    let of = |id, side| Filter::from(Term::zone(id).of(side));
    of(orig, Side::Orig).and(of(reply, Side::Reply))
}

/// Flows whose source is translated: to any address, to addresses of a prefix, or to an address and port.
pub fn src_nat(text: &str) -> Parsed<Filter> {
    nat(text, Term::snat, Term::dport)
}

/// Flows whose destination is translated: to any address, to addresses of a prefix, or to an address and port.
pub fn dst_nat(text: &str) -> Parsed<Filter> {
    nat(text, Term::dnat, Term::sport)
}

/// Flows of either kind.
pub fn any_nat(text: &str) -> Parsed<Filter> {
    Ok(src_nat(text)?.or(dst_nat(text)?))
}

/// `port` is the port of the reply tuple in which the translation shows.
fn nat(
    text: &str,
    translated: fn(Option<Prefix>) -> Term,
    port: fn(Numbers) -> Term,
) -> Parsed<Filter> {
    if text.is_empty() {
        return Ok(translated(None).into());
    }
    if let Ok(to) = text.parse::<SocketAddr>() {
        let port = port(u32::from(to.port()).into()).of(Side::Reply);
        return Ok(Filter::from(translated(Some(to.ip().into()))).and(port));
    }
    let prefix = text.parse().map_err(|_| {
        "give an address such as 192.0.2.1, one with a port such as 192.0.2.1:80 or [fd00::1]:80, or a prefix"
    })?;
    Ok(translated(Some(prefix)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parsed: Parsed<Filter>) -> String {
        parsed.map_or_else(
            |error| format!("error: {error}"),
            |filter| filter.to_string(),
        )
    }

    #[test]
    fn each_value_is_a_filter() {
        type Read = fn(&str) -> Parsed<Filter>;
        for (read, text, filter) in [
            (protocol as Read, "tcp", "proto tcp"),
            (protocol, "0x59", "proto 89"),
            (sport, "53", "sport 53"),
            (dport, "80,443,1024-2047", "dport {80,443,1024-2047}"),
            (reply_sport, "53", "reply sport 53"),
            (reply_dst, "fd00::/8", "reply dst fd00::/8"),
            (mark, "7", "mark 0x7"),
            (mark, "0x10/0xf0", "mark 0x10/0xf0"),
            (status, "SEEN_REPLY", "status seen-reply"),
            (status, "unreplied", "not status seen-reply"),
            (state, "established", "state ESTABLISHED"),
            (zone, "3", "orig zone 3 and reply zone 3"),
            (orig_zone, "3", "orig zone 3 and reply zone 0"),
            (reply_zone, "3", "orig zone 0 and reply zone 3"),
            (label, "5", "label 5"),
            (src_nat, "", "snat"),
            (src_nat, "192.0.2.1:80", "snat 192.0.2.1 and reply dport 80"),
            (dst_nat, "[fd00::1]:80", "dnat fd00::1 and reply sport 80"),
            (any_nat, "10.0.0.0/8", "snat 10.0.0.0/8 or dnat 10.0.0.0/8"),
        ] {
            assert_eq!(shown(read(text)), filter, "{text}");
        }
    }

    #[test]
    fn values_are_negated_by_an_exclamation_mark() {
        assert_eq!(shown(or_not(sport)("!53")), "not sport 53");
        assert_eq!(shown(or_not(src_nat)("!")), "not snat");
        assert_eq!(
            shown(each_or_not(status)("SEEN_REPLY,!ASSURED")),
            "status seen-reply and not status assured"
        );
        let excluded = parse_addresses("! 10.0.0.0/8").unwrap();
        assert_eq!(excluded.filter(Term::src).to_string(), "not src 10.0.0.0/8");
    }

    #[test]
    fn a_mask_is_a_prefix_of_its_family() {
        let mask = |text: &str, address: &str| {
            let prefix = parse_mask(text).unwrap().of(address.parse().unwrap());
            prefix.map(|prefix| prefix.to_string())
        };
        assert_eq!(mask("255.0.0.0", "10.1.2.3").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(mask("ffff::", "fd00:1::1").as_deref(), Some("fd00::/16"));
        assert_eq!(mask("0.0.0.0", "10.1.2.3").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(mask("255.0.0.0", "fd00::1"), None);
        assert_eq!(mask("255.0.0.0", "10.0.0.0/9"), None);
        for bad in ["255.0.255.0", "8", "", "0.0.0.1"] {
            assert!(parse_mask(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_values_are_refused() {
        type Read = fn(&str) -> Parsed<Filter>;
        let reads: [Read; 11] = [
            protocol, sport, icmp_type, mark, status, state, label, zone, src_nat, family,
            reply_src,
        ];
        for read in reads {
            for bad in ["no such", "-1", "+1", "0x", "70000", "10.0.0.1:70000", "1,"] {
                let is_mark = bad == "70000" && read("0x10/0xf0").is_ok();
                assert!(read(bad).is_err() || is_mark, "{bad}: {}", shown(read(bad)));
            }
        }
    }
}

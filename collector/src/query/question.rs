//! The question: conditions on columns, and a time.

use std::net::IpAddr;

use nlring::conntrack::protocol_name;

use super::prefix::Prefix;
use super::time::Moment;
use crate::args::QueryArguments;
use crate::failure::{Failure, Result};
use crate::record::Subject;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// `flow`, `event` or `route`.
    pub record: &'static str,
    pub terms: Vec<Term>,
    pub interval: Interval,
}

/// One of the alternatives must hold, with all its conditions.
#[derive(Clone, Debug)]
pub struct Term {
    pub alternatives: Vec<Vec<Condition>>,
}

/// A column has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub column: &'static str,
    pub value: Value,
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(u16),
    /// A prefix that shares an address with this one.
    Prefix(Prefix),
}

/// From the first to the last nanosecond since 1970, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub from: i64,
    pub until: i64,
}

impl Interval {
    pub fn overlaps(self, other: Self) -> bool {
        self.from <= other.until && other.from <= self.until
    }
}

/// An address, a port, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint {
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl Question {
    /// Reads the options.
    pub fn parse(arguments: &QueryArguments) -> Result<Self> {
        let mut terms = Vec::new();
        let mut add = |option: &str, text: &Option<String>, columns: &[[&'static str; 2]]| {
            let Some(text) = text else {
                return Ok::<(), Failure>(());
            };
            let endpoint = Endpoint::parse(option, text)?;
            let alternatives = columns.iter().map(|&columns| endpoint.conditions(columns));
            let alternatives = alternatives.collect();
            terms.push(Term { alternatives });
            Ok(())
        };
        let translated = [["nat_src", "nat_sport"], ["nat_dst", "nat_dport"]];
        add("nat", &arguments.nat, &translated)?;
        add("src", &arguments.src, &[["orig_src", "orig_sport"]])?;
        add("dst", &arguments.dst, &[["orig_dst", "orig_dport"]])?;
        let proto = arguments.proto.as_deref().map(protocol).transpose()?;
        terms.extend(proto.map(|name| Term::text("proto", name)));
        let netns = arguments.netns.clone();
        terms.extend(netns.map(|name| Term::text("netns", name)));
        let route = arguments.route.as_deref().map(prefix).transpose()?;
        terms.extend(route.map(|prefix| Term::of("route_dst", Value::Prefix(prefix))));
        let record = match (arguments.events, route) {
            (true, _) => "event",
            (false, Some(_)) => "route",
            (false, None) => "flow",
        };
        Ok(Self {
            record,
            terms,
            interval: interval(arguments)?,
        })
    }

    /// The subject of the answers. Losses of other subjects do not matter.
    pub fn subject(&self) -> Subject {
        match self.record {
            "route" => Subject::Routes,
            _ => Subject::Flows,
        }
    }
}

fn interval(arguments: &QueryArguments) -> Result<Interval> {
    let moment = |option: &str, text: &Option<String>| {
        let moment = text.as_deref().map(Moment::parse).transpose();
        moment.map_err(|error| Failure::Usage(format!("--{option}: {error}")))
    };
    let at = moment("at", &arguments.at)?;
    let from = moment("from", &arguments.from)?.or(at);
    let to = moment("to", &arguments.to)?.or(at);
    let interval = Interval {
        from: from.map_or(i64::MIN, |from| from.first_ns),
        until: to.map_or(i64::MAX, |to| to.last_ns),
    };
    if interval.from > interval.until {
        return Err(Failure::Usage("--to is before --from".to_owned()));
    }
    Ok(interval)
}

impl Term {
    fn text(column: &'static str, text: String) -> Self {
        Self::of(column, Value::Text(text))
    }

    fn of(column: &'static str, value: Value) -> Self {
        Self {
            alternatives: vec![vec![Condition { column, value }]],
        }
    }
}

impl Endpoint {
    /// `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]:PORT` or `:PORT`.
    fn parse(option: &str, text: &str) -> Result<Self> {
        let bare = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        if let Some(address) = bare(text) {
            return Ok(Self {
                address: Some(address),
                port: None,
            });
        }
        let wrong = || {
            Failure::Usage(format!(
                "--{option} {text:?} is not an address with a port; use 203.0.113.7:40123, [2001:db8::1]:443, an address \
                 alone or :443"
            ))
        };
        let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = Some(port.parse().map_err(|_| wrong())?);
        let address = match address {
            "" => None,
            address => Some(bare(address).ok_or_else(wrong)?),
        };
        Ok(Self { address, port })
    }

    /// The port comes first, because its column is read faster.
    fn conditions(self, [address, port]: [&'static str; 2]) -> Vec<Condition> {
        let number = self.port.map(|number| Condition {
            column: port,
            value: Value::Number(number),
        });
        let text = self.address.map(|text| Condition {
            column: address,
            value: Value::Text(text.to_string()),
        });
        number.into_iter().chain(text).collect()
    }
}

/// The destination of a route.
fn prefix(text: &str) -> Result<Prefix> {
    text.parse().map_err(|()| {
        Failure::Usage(format!(
            "--route {text:?} is not a prefix; use 203.0.113.0/24, 2001:db8::/32, 0.0.0.0/0 (all) or an address"
        ))
    })
}

/// The name of a protocol in records.
fn protocol(text: &str) -> Result<String> {
    if let Ok(number) = text.parse::<u8>() {
        let name = protocol_name(number);
        return Ok(name.map_or_else(|| number.to_string(), str::to_owned));
    }
    let mut names = (0..=u8::MAX).filter_map(protocol_name);
    let name = names.find(|name| name.eq_ignore_ascii_case(text));
    name.map(str::to_owned).ok_or_else(|| {
        Failure::Usage(format!(
            "--proto {text:?} is not a protocol; use tcp, udp, icmp, icmpv6, gre, sctp or a number"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_a_port_or_both() {
        let parse = |text| Endpoint::parse("nat", text).ok();
        let endpoint = |address: Option<&str>, port| {
            let address = address.map(|address| address.parse().expect("an address"));
            Some(Endpoint { address, port })
        };
        assert_eq!(parse("192.0.2.1"), endpoint(Some("192.0.2.1"), None));
        assert_eq!(parse("192.0.2.1:9"), endpoint(Some("192.0.2.1"), Some(9)));
        assert_eq!(parse("2001:db8::1"), endpoint(Some("2001:db8::1"), None));
        assert_eq!(
            parse("[2001:db8::1]:443"),
            endpoint(Some("2001:db8::1"), Some(443))
        );
        assert_eq!(parse(":443"), endpoint(None, Some(443)));
        for wrong in [
            "",
            "example.org",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "192.0.2:1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

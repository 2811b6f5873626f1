//! The arguments of `nlring monitor`.

use clap::{Args, ValueEnum};

use super::collector::{FollowArguments, collector_help};
use super::filter::{RouteTerms, parse_device};
use super::route::RouteEvent;

#[derive(Args, Debug)]
#[command(after_help = collector_help!())]
pub struct MonitorArguments {
    /// What to follow: link, address, route, mroute, neighbour, rule, nexthop, netconf, or all, which is the default;
    /// ip's abbreviations work too
    #[arg(value_name = "OBJECT", value_parser = parse_selection)]
    selections: Vec<Selection>,

    /// Only what concerns this device, which is followed by its index; objects that name no device are shown too; with
    /// --all-netns the device of this name in each namespace, also a later one
    #[arg(long, value_name = "NAME", value_parser = parse_device)]
    pub dev: Option<String>,

    /// Which events to follow
    #[arg(
        short,
        long,
        value_name = "EVENT",
        value_delimiter = ',',
        ignore_case = true,
        default_value = "new,delete"
    )]
    pub events: Vec<RouteEvent>,

    /// What to add to the lines; programs should read --json instead
    #[arg(
        short = 'o',
        long = "fields",
        value_name = "FIELD",
        value_delimiter = ',',
        ignore_case = true,
        conflicts_with = "json"
    )]
    pub fields: Vec<MonitorField>,

    #[command(flatten)]
    pub follow: FollowArguments,

    #[command(
        flatten,
        next_help_heading = "Filter of routes; all other objects are shown"
    )]
    pub routes: RouteTerms,
}

impl MonitorArguments {
    /// Whether an object is to be followed.
    pub fn follows(&self, object: MonitorObject) -> bool {
        let selects = |selection: &Selection| {
            matches!(selection, Selection::All) || *selection == Selection::One(object)
        };
        self.selections.is_empty() || self.selections.iter().any(selects)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MonitorField {
    /// When the event was received, in local time, as with ip -ts
    Timestamp,
    /// The same in a line of its own before the event, as with ip -timestamp
    LongTimestamp,
    /// The kind of the object, such as [LINK], as with ip monitor label
    Label,
}

/// The objects that `nlring monitor` can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorObject {
    Link,
    Address,
    Route,
    MulticastRoute,
    Neighbour,
    Netconf,
    Rule,
    Nexthop,
}

impl MonitorObject {
    pub const ALL: [Self; 8] = [
        Self::Link,
        Self::Address,
        Self::Route,
        Self::MulticastRoute,
        Self::Neighbour,
        Self::Netconf,
        Self::Rule,
        Self::Nexthop,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selection {
    All,
    One(MonitorObject),
}

/// The names, in the order in which ip tries them: an abbreviation is the first that begins with it.
const NAMES: [(&str, MonitorObject); 9] = [
    ("link", MonitorObject::Link),
    ("address", MonitorObject::Address),
    ("route", MonitorObject::Route),
    ("mroute", MonitorObject::MulticastRoute),
    ("neighbour", MonitorObject::Neighbour),
    ("neighbor", MonitorObject::Neighbour),
    ("netconf", MonitorObject::Netconf),
    ("rule", MonitorObject::Rule),
    ("nexthop", MonitorObject::Nexthop),
];

/// The objects that ip can follow and nlring cannot.
const OF_IP: [&str; 5] = ["prefix", "nsid", "stats", "maddress", "acaddress"];

fn parse_selection(text: &str) -> Result<Selection, String> {
    if text == "all" {
        return Ok(Selection::All);
    }
    let mut names = NAMES.iter().filter(|_| !text.is_empty());
    if let Some((_, object)) = names.find(|(name, _)| name.starts_with(text)) {
        return Ok(Selection::One(*object));
    }
    Err(match text {
        "label" => "-o label adds the labels".to_owned(),
        "dev" => "--dev NAME selects a device".to_owned(),
        "all-nsid" => {
            "--netns NAME follows another namespace, and --all-netns all of them".to_owned()
        }
        _ if !text.is_empty() && OF_IP.iter().any(|name| name.starts_with(text)) => {
            format!("nlring does not follow this; ip monitor {text} does")
        }
        _ => {
            "give link, address, route, mroute, neighbour, rule, nexthop, netconf or all".to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_abbreviations_are_those_of_ip() {
        use MonitorObject as O;
        for (text, object) in [
            ("l", O::Link),
            ("a", O::Address),
            ("addr", O::Address),
            ("r", O::Route),
            ("ro", O::Route),
            ("ru", O::Rule),
            ("m", O::MulticastRoute),
            ("n", O::Neighbour),
            ("neigh", O::Neighbour),
            ("neighbor", O::Neighbour),
            ("net", O::Netconf),
            ("nex", O::Nexthop),
        ] {
            assert_eq!(parse_selection(text), Ok(Selection::One(object)), "{text}");
        }
        assert_eq!(parse_selection("all"), Ok(Selection::All));
        for (text, reason) in [
            ("", "give link"),
            ("x", "give link"),
            ("label", "-o label"),
            ("dev", "--dev NAME"),
            ("p", "nlring does not follow this; ip monitor p does"),
            ("nsid", "nlring does not follow this"),
        ] {
            let found = parse_selection(text).unwrap_err();
            assert!(found.starts_with(reason), "{text}: {found}");
        }
    }
}

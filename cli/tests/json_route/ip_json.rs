//! Turns a route of `ip -j -d route show` into the object that `--json` should have for it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

/// An object in which ip may name a field twice, because an encapsulation has a `dst` of its own. The first one is
/// the route's.
struct FirstOfEach(Map<String, Value>);

impl<'de> Deserialize<'de> for FirstOfEach {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FirstOfEachVisitor).map(Self)
    }
}

struct FirstOfEachVisitor;

impl<'de> Visitor<'de> for FirstOfEachVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a route")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some((name, value)) = object.next_entry::<String, Value>()? {
            fields.entry(name).or_insert(value);
        }
        Ok(fields)
    }
}

/// All routes that ip printed, in its order.
pub fn routes(family: &str, text: &str) -> Vec<Value> {
    let routes: Vec<FirstOfEach> = match text.trim() {
        "" => Vec::new(),
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
    };
    let routes = routes.into_iter();
    routes
        .map(|FirstOfEach(route)| translate_route(family, &route))
        .collect()
}

/// The fields that ip prints for an encapsulation. nlring shows only its type.
const OF_ENCAPSULATIONS: [&str; 9] = [
    "id", "src", "ttl", "tos", "hoplimit", "tc", "mode", "segs", "action",
];

fn translate_route(family: &str, route: &Map<String, Value>) -> Value {
    let mut object = Map::from_iter([("family".to_owned(), family.into())]);
    let is_encapsulated = route.contains_key("encap");
    for (name, value) in route {
        let text = value.as_str();
        let (name, value) = match name.as_str() {
            name if is_encapsulated && OF_ENCAPSULATIONS.contains(&name) => continue,
            "oif" | "nh_info" => continue, // a device of the encapsulation; a field of `ip nexthop`
            "dst" => ("dst", prefix(family, text)),
            "from" => ("src", prefix(family, text)),
            "tos" => ("tos", hexadecimal(text).into()),
            "table" => ("table", table(text).into()),
            "metric" => ("priority", value.clone()),
            "nhid" => ("nexthop_id", value.clone()),
            "expires" => ("expires_s", value.clone()),
            "pref" if text == Some("medium") => continue,
            "type" | "protocol" | "scope" | "prefsrc" | "pref" | "ttl-propagate" => {
                (name.as_str(), value.clone())
            }
            "metrics" => ("metrics", metrics(&value[0])),
            "nexthops" => {
                let hops = value.as_array().into_iter().flatten();
                (
                    "nexthops",
                    hops.map(translate_hop).collect::<Vec<_>>().into(),
                )
            }
            _ => {
                add_of_hop(&mut object, name, value);
                continue;
            }
        };
        object.insert(name.to_owned(), value);
    }
    object.into()
}

fn translate_hop(hop: &Value) -> Value {
    let mut object = Map::new();
    for (name, value) in hop.as_object().expect("a hop") {
        add_of_hop(&mut object, name, value);
    }
    object.into()
}

/// Adds a field that a route and each of its hops may have.
fn add_of_hop(object: &mut Map<String, Value>, name: &str, value: &Value) {
    match name {
        "flags" if value == &json!([]) => {}
        "flags" | "gateway" | "dev" | "weight" | "encap" => {
            object.insert(name.to_owned(), value.clone());
        }
        "via" => {
            let family = value["family"]
                .as_str()
                .map(|family| family.replace("inet6", "ipv6"));
            let via = json!({"family": family, "address": value["host"]});
            object.insert(name.to_owned(), via);
        }
        "flow" => {
            let realm = |name: &str| value[name].as_str().map_or(Ok(0), str::parse::<u32>);
            object.insert("realm_from".into(), realm("from").expect("a realm").into());
            object.insert("realm_to".into(), realm("to").expect("a realm").into());
        }
        _ => panic!("ip says what this test does not know: {name}: {value}"),
    }
}

/// ip omits the length of a full address.
fn prefix(family: &str, text: Option<&str>) -> Value {
    match (text.expect("a prefix"), family) {
        ("default", "ipv4") => "0.0.0.0/0".into(),
        ("default", _) => "::/0".into(),
        (text, _) if text.contains('/') => text.into(),
        (text, "ipv4") => format!("{text}/32").into(),
        (text, _) => format!("{text}/128").into(),
    }
}

fn hexadecimal(text: Option<&str>) -> u64 {
    let digits = text.and_then(|text| text.strip_prefix("0x"));
    u64::from_str_radix(digits.expect("hexadecimal"), 16).expect("a number")
}

fn table(text: Option<&str>) -> u64 {
    match text.expect("a table") {
        "default" => 253,
        "main" => 254,
        "local" => 255,
        number => number.parse().expect("a number"),
    }
}

/// ip converts times to milliseconds, has its own name for an algorithm, and prints features by name.
fn metrics(metrics: &Value) -> Value {
    let metrics = metrics.as_object().expect("metrics").iter();
    let metrics = metrics.map(|(name, value)| {
        let times = |factor: u64| (value.as_u64().expect("a number") * factor).into();
        let (name, value): (&str, Value) = match name.as_str() {
            "rtt" => ("rtt", times(8)),
            "rttvar" => ("rttvar", times(4)),
            "congestion" => ("congctl", value.clone()),
            "ecn" => ("features", 1.into()),
            name => (name, value.clone()),
        };
        (name.to_owned(), value)
    });
    Value::Object(metrics.collect())
}

//! Turns a route of `ip -j -d route show` into the object that `--json` should have for it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

/// The fields of a route in ip's order. An encapsulation has a `dst` and a `table` of its own, so names may come twice.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor).map(Self)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a route")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = object.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

/// All routes that ip printed, in its order.
pub fn routes(family: &str, text: &str) -> Vec<Value> {
    let routes: Vec<Fields> = match text.trim() {
        "" => Vec::new(),
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
    };
    let routes = routes.into_iter();
    routes
        .map(|Fields(route)| translate_route(family, &route))
        .collect()
}

fn translate_route(family: &str, route: &[(String, Value)]) -> Value {
    let mut object = Map::from_iter([("family".to_owned(), family.into())]);
    let mut encap = Encap::default();
    for (name, value) in route {
        let text = value.as_str();
        if encap.takes(name, value) {
            continue;
        }
        let (name, value) = match name.as_str() {
            "nh_info" => continue, // a field of `ip nexthop`
            "dst" => ("dst", prefix(family, text)),
            "from" => ("src", prefix(family, text)),
            "tos" => ("tos", hexadecimal(text).into()),
            "table" => {
                add_table(&mut object, "table", text);
                continue;
            }
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
    encap.add_to(&mut object);
    object.into()
}

fn translate_hop(hop: &Value) -> Value {
    let mut object = Map::new();
    let mut encap = Encap::default();
    let fields = hop.as_object().expect("a hop");
    if let Some(encap_type) = fields.get("encap") {
        encap.takes("encap", encap_type);
    }
    for (name, value) in fields {
        if name != "encap" && !encap.takes_any(name, value) {
            add_of_hop(&mut object, name, value);
        }
    }
    encap.add_to(&mut object);
    object.into()
}

/// An encapsulation, whose fields ip prints after its type and before the route's other fields.
#[derive(Default)]
struct Encap {
    kind: Option<Value>,
    fields: Map<String, Value>,
    flags: Vec<Value>,
    is_over: bool,
}

impl Encap {
    /// Whether a field belongs to the encapsulation, in ip's order of the fields.
    fn takes(&mut self, name: &str, value: &Value) -> bool {
        if name == "encap" {
            self.kind = Some(value.clone());
            return true;
        }
        self.is_over |= self.kind.is_some() && !self.takes_any(name, value);
        self.kind.is_some() && !self.is_over
    }

    /// Whether a field can belong to the encapsulation.
    fn takes_any(&mut self, name: &str, value: &Value) -> bool {
        if self.is_over || self.kind.is_none() {
            return false;
        }
        let text = value.as_str();
        let (name, value) = match name {
            "dst" if self.kind == Some("mpls".into()) => {
                let labels = text.expect("labels").split('/');
                let labels = labels.map(|label| label.parse::<u32>().expect("a label").into());
                ("labels", Value::Array(labels.collect()))
            }
            "key" | "csum" | "seq" => {
                self.flags.push(name.into());
                return true;
            }
            "hoplimit" => ("ttl", value.clone()),
            "tc" => ("tos", value.clone()),
            "segs" => ("segments", value.clone()),
            "srh" => ("segments", value["segs"].clone()),
            "oif" => ("dev", value.clone()),
            "table" => {
                add_table(&mut self.fields, "table", text);
                return true;
            }
            "id" | "src" | "dst" | "ttl" | "tos" | "mode" | "action" | "nh4" | "nh6" => {
                (name, value.clone())
            }
            _ => return false,
        };
        self.fields.insert(name.to_owned(), value);
        true
    }

    fn add_to(mut self, object: &mut Map<String, Value>) {
        let Some(encap_type) = self.kind else {
            return;
        };
        if !self.flags.is_empty() {
            self.fields.insert("flags".into(), self.flags.into());
        }
        object.insert("encap".into(), encap_type);
        object.insert("encap_fields".into(), self.fields.into());
    }
}

/// Adds a table's number, and its name if it has one.
fn add_table(object: &mut Map<String, Value>, name: &str, text: Option<&str>) {
    object.insert(name.to_owned(), table(text).into());
    let text = text.expect("a table");
    if text.parse::<u32>().is_err() {
        object.insert(format!("{name}_name"), text.into());
    }
}

/// Adds a field that a route and each of its hops may have.
fn add_of_hop(object: &mut Map<String, Value>, name: &str, value: &Value) {
    match name {
        "flags" if value == &json!([]) => {}
        "flags" | "gateway" | "dev" | "weight" => {
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

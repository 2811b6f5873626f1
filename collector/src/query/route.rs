//! Routes as lines, in the words of `ip monitor route`.

use std::fmt::Write as _;

use nlring_print::text::escaped;
use serde_json::Value;

/// A route as a line, from its JSON (docs/json.md).
pub fn line(route: &Value) -> String {
    let mut line = String::new();
    let kind = word(route, "type");
    if kind.as_deref() != Some("unicast") {
        push(&mut line, "", kind);
    }
    push(&mut line, "", word(route, "dst").map(short));
    push(&mut line, "from", word(route, "src").map(short));
    push(&mut line, "tos", word(route, "tos"));
    push(&mut line, "nhid", word(route, "nexthop_id"));
    push_hop(&mut line, route);
    // The number of ip's table `main`.
    if route["table"] != 254 {
        let name = word(route, "table_name").or(word(route, "table"));
        push(&mut line, "table", name);
    }
    let protocol = word(route, "protocol_name").or(word(route, "protocol"));
    push(&mut line, "proto", protocol);
    let scope = word(route, "scope").filter(|scope| scope != "global");
    push(&mut line, "scope", scope);
    push(&mut line, "src", word(route, "prefsrc"));
    push(&mut line, "metric", word(route, "priority"));
    push_flags(&mut line, route);
    for hop in route["nexthops"].as_array().into_iter().flatten() {
        line.push_str(" nexthop");
        push_hop(&mut line, hop);
        push(&mut line, "weight", word(hop, "weight"));
        push_flags(&mut line, hop);
    }
    line
}

/// Where packets go next.
fn push_hop(line: &mut String, hop: &Value) {
    push(line, "as to", word(hop, "as"));
    push(line, "encap", word(hop, "encap"));
    push(line, "via", word(hop, "gateway"));
    push(line, "via inet6", word(&hop["via"], "address"));
    push(line, "dev", word(hop, "dev").or(word(hop, "oif")));
}

fn push_flags(line: &mut String, of: &Value) {
    for flag in of["flags"].as_array().into_iter().flatten() {
        push(line, "", flag.as_str().map(str::to_owned));
    }
}

/// Appends a name and its value, if there is one.
fn push(line: &mut String, name: &str, value: Option<String>) {
    let Some(value) = value else { return };
    for word in [name, &value].into_iter().filter(|word| !word.is_empty()) {
        let space = if line.is_empty() { "" } else { " " };
        _ = write!(line, "{space}{word}");
    }
}

/// A text or a number as text.
fn word(of: &Value, name: &str) -> Option<String> {
    match &of[name] {
        Value::String(text) => Some(escaped(text.as_bytes())),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A prefix as ip shows it.
fn short(prefix: String) -> String {
    match prefix.as_str() {
        "0.0.0.0/0" | "::/0" => "default".to_owned(),
        text => match text.split_once('/') {
            Some((address, "32")) if !address.contains(':') => address.to_owned(),
            Some((address, "128")) => address.to_owned(),
            _ => prefix,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_is_shown_in_the_words_of_ip() {
        let route = json!({"family": "ipv4", "type": "unicast", "dst": "10.1.0.0/16", "table": 100, "priority": 7,
            "protocol": "bgp", "scope": "global", "gateway": "192.0.2.2", "oif": 3, "dev": "eth0", "flags": ["onlink"]});
        let wanted = "10.1.0.0/16 via 192.0.2.2 dev eth0 table 100 proto bgp metric 7 onlink";
        assert_eq!(line(&route), wanted);
        let route =
            json!({"type": "blackhole", "dst": "192.0.2.1/32", "table": 254, "protocol": "static"});
        assert_eq!(line(&route), "blackhole 192.0.2.1 proto static");
        let route = json!({"type": "unicast", "dst": "::/0", "table": 254, "protocol": "ra", "nexthops": [
            {"gateway": "fe80::1", "oif": 3, "weight": 1}, {"oif": 4, "dev": "br0", "weight": 2}]});
        let wanted = "default proto ra nexthop via fe80::1 dev 3 weight 1 nexthop dev br0 weight 2";
        assert_eq!(line(&route), wanted);
    }
}

//! Decoded values in a format of serde's: the names are the promise.

#![cfg(all(feature = "serde", target_endian = "little"))]

use nlring::conntrack::{Expectation, Flow, Layer4, Tuple};
use nlring::route::Route;
use nlring::{Message, MessageList};
use nlring_testing::datagrams::{conntrack, route as routes};
use serde_json::{Value, json};

/// What the first message of a datagram is serialized to, without what is null.
fn serialized(datagram: &[u8], decode: impl Fn(&Message<'_>) -> Option<Value>) -> Value {
    let list = MessageList::new(datagram);
    let value = list.iter().find_map(|message| decode(&message));
    let mut value = value.expect("it decodes");
    let object = value.as_object_mut().expect("an object");
    object.retain(|_, value| !value.is_null());
    value
}

fn value_of(decoded: impl serde::Serialize) -> Value {
    serde_json::to_value(decoded).expect("it serializes")
}

fn flow(message: &Message<'_>) -> Option<Value> {
    Flow::decode(message).map(value_of)
}

fn route(message: &Message<'_>) -> Option<Value> {
    Route::decode(message).map(value_of)
}

#[test]
fn a_flow_has_the_names_of_its_fields_and_times_in_nanoseconds() {
    let value = serialized(conntrack::TCP_DESTROY, flow);
    assert_eq!(
        (&value["kind"], &value["family"]),
        (&json!("delete"), &json!("ipv4"))
    );
    let orig = json!({
        "src": "127.0.0.1", "dst": "127.0.0.1", "protocol": 6,
        "layer4": {"ports": {"src": 47152, "dst": 9000}},
    });
    assert_eq!(value["orig"], orig);
    assert_eq!(value["state"], json!({"tcp": 7}));
    assert_eq!(value["counters_orig"], json!({"packets": 6, "bytes": 321}));
    let ns = ["start_ns", "stop_ns", "event_ns"].map(|name| value[name].as_u64().expect(name));
    assert!(
        ns.is_sorted() && ns[0] > 1_500_000_000_000_000_000,
        "{ns:?}"
    );
    let value = serialized(conntrack::TCP_NEW, flow);
    assert_eq!(value["helper"], json!("ftp"));
    let value = serialized(conntrack::UDP_NEW, flow);
    assert_eq!(value["zone"], json!({"id": 78, "direction": "orig"}));
    let value = serialized(conntrack::EXPECT_NEW, |message| {
        Expectation::decode(message).map(value_of)
    });
    assert_eq!(
        (&value["kind"], &value["class"]),
        (&json!("new"), &json!(0))
    );
}

#[test]
fn a_route_has_lists_of_hops_and_metrics_and_addresses_as_text() {
    let value = serialized(routes::MULTIPATH, route);
    assert_eq!(
        (&value["kind"], &value["dst"]),
        (&json!("new"), &json!("10.3.1.0"))
    );
    let hops = value["nexthops"].as_array().expect("a list");
    assert_eq!(hops.len(), 2);
    assert_eq!(hops[0]["hop"]["gateway"], json!("10.0.0.2"));
    assert_eq!(
        (&hops[0]["oif"], &hops[0]["weight"]),
        (&json!(3), &json!(1))
    );
    let value = serialized(routes::METRICS, route);
    let metrics = value["metrics"].as_array().expect("a list");
    assert!(metrics.contains(&json!({"number": 2, "value": 1400})));
    assert!(metrics.contains(&json!({"number": 16, "value": "cubic"})));
    let value = serialized(routes::VIA_INET6, route);
    assert_eq!(
        value["hop"]["via"],
        json!({"family": "ipv6", "address": "fe80::5"})
    );
    let value = serialized(routes::ENCAP_IP, route);
    let encap = value["hop"]["encap"].as_array().expect("a list");
    assert_eq!(encap[0]["attribute_type"], json!(1));
}

#[test]
fn an_owned_value_is_serialized_as_the_borrowed_one() {
    let owned = |message: &Message<'_>| {
        let flow = Flow::decode(message)?.into_owned();
        Some(value_of(flow))
    };
    assert_eq!(
        serialized(conntrack::TCP_NEW, owned),
        serialized(conntrack::TCP_NEW, flow)
    );
    let owned = |message: &Message<'_>| {
        let route = Route::decode(message)?.into_owned();
        Some(value_of(route))
    };
    assert_eq!(
        serialized(routes::METRICS, owned),
        serialized(routes::METRICS, route)
    );
}

#[test]
fn a_protocol_without_ports_is_serialized_as_a_word() {
    let addresses = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let tuple = Tuple::new(addresses.0, addresses.1, 89, Layer4::None);
    assert_eq!(
        serde_json::to_value(tuple).unwrap()["layer4"],
        json!("none")
    );
}

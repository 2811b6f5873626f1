//! Decoding any bytes as a flow, an expectation, an object of rtnetlink or a family of generic netlink never panics,
//! and gives the same answer twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nlring::{MessageList, conntrack, generic, route};

fuzz_target!(|bytes: &[u8]| {
    for message in &MessageList::new(bytes) {
        let flow = conntrack::Flow::decode(&message);
        assert_eq!(format!("{flow:?}"), format!("{:?}", conntrack::Flow::decode(&message)));
        if let Some(flow) = flow {
            let _ = (flow.nat(), flow.label_bits().count());
        }
        let _ = conntrack::Expectation::decode(&message);
        if let Some(route) = route::Route::decode(&message) {
            let _ = (route.nexthops.count(), route.metrics.count());
        }
        if let Some(route::Object::Link(link)) = route::Object::decode(&message) {
            let _ = link.alt_names.count();
        }
        let _ = generic::GenericFamily::decode(&message);
    }
});

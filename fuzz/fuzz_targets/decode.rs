//! Decoding any bytes as a flow, an expectation, a route, a link or a family of generic netlink never panics, and gives
//! the same answer twice.
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
        let _ = route::Link::decode(&message);
        let _ = generic::GenericFamily::decode(&message);
    }
});

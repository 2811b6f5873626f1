//! Decoding any bytes as each kind of message never panics, and gives the same answer twice. What it gives is written as
//! text that steers no terminal, and as valid JSON without a key twice.
#![no_main]

use std::fmt::Debug;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nlring::conntrack::{Expectation, Flow, OwnedFlow};
use nlring::route::{Object, OwnedRoute, Route};
use nlring::{Message, MessageList, Timestamp, generic, route};
use nlring_fuzz::lines::{check_json, check_text};
use nlring_print::conntrack::{FlowFormat, LabelNames, TextOptions};
use nlring_print::monitor::MonitorFormat;
use nlring_print::route::{self as printed, DeviceNames, IprouteNames, RouteFormat};
use nlring_print::{LocalTime, Style};

const NOW: Timestamp = Timestamp::from_ns(1_700_000_000_123_456_789);

static FORMATS: LazyLock<Formats> = LazyLock::new(Formats::new);

struct Formats {
    flows: [FlowFormat; 3],
    routes: [RouteFormat; 2],
    objects: [MonitorFormat; 3],
}

impl Formats {
    fn new() -> Self {
        let labels = || LabelNames::parse(b"0 plain\n1 \"q\\\"uo\x1bte\"\n127 last\n");
        let all = TextOptions {
            timestamp: true,
            extended: true,
            id: true,
            ktimestamp: Some(LocalTime::system()),
            labels: Some(labels()),
        };
        let text = || {
            RouteFormat::Text(Box::new(printed::TextOptions {
                names: IprouteNames::built_in(),
                timestamp: None,
            }))
        };
        let json = || RouteFormat::Json(Box::new(IprouteNames::built_in()));
        Self {
            flows: [
                FlowFormat::default(),
                FlowFormat::Text(all),
                FlowFormat::Json(labels()),
            ],
            routes: [text(), json()],
            objects: [
                MonitorFormat::new(text()),
                MonitorFormat::new(text()).labels(true),
                MonitorFormat::new(json()),
            ],
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let list = MessageList::new(bytes);
    let mut devices = DeviceNames::default();
    for message in &list {
        let flow = twice(&message, Flow::decode);
        if let Some(flow) = flow {
            use_flow(&flow);
        }
        if let Some(expectation) = twice(&message, Expectation::decode) {
            use_expectation(&expectation);
        }
        if let Some(route) = twice(&message, Route::decode) {
            use_route(&route, &devices);
        }
        let object = twice(&message, Object::decode);
        if let Some(object) = &object {
            use_object(object, &mut devices);
        }
        let question = twice(&message, route::Neighbour::decode_question);
        assert!(question.is_none() || object.is_none());
        for format in &FORMATS.objects {
            let mut line = Vec::new();
            format.write_event(&mut line, &message, &devices, NOW);
            check(format.style(), &line);
        }
        twice(&message, generic::GenericFamily::decode);
        twice(&message, |message| {
            Some(nlring::fuzzing::decode_statistics(message))
        });
    }
});

/// What a message decodes as, which is the same each time.
fn twice<'a, T: Debug>(
    message: &Message<'a>,
    decode: impl Fn(&Message<'a>) -> Option<T>,
) -> Option<T> {
    let decoded = decode(message);
    assert_eq!(format!("{decoded:?}"), format!("{:?}", decode(message)));
    decoded
}

fn check(style: Style, line: &[u8]) {
    match style {
        Style::Text => check_text(line),
        Style::Json if line.is_empty() => {} // an entry of the route cache
        Style::Json => check_json(line),
    }
}

fn use_flow(flow: &Flow<'_>) {
    let _ = (flow.nat(), flow.label_bits().count(), flow.key());
    let owned = OwnedFlow::from(*flow);
    assert_eq!(owned.as_flow(), *flow);
    for format in &FORMATS.flows {
        let mut line = Vec::new();
        format.write_event(&mut line, flow, NOW);
        check(format.style(), &line);
        format.style().mark_resynced(&mut line);
        check(format.style(), &line);
        line.clear();
        format.write_entry(&mut line, flow, NOW);
        check(format.style(), &line);
    }
}

fn use_expectation(expectation: &Expectation<'_>) {
    for format in &FORMATS.flows {
        let mut line = Vec::new();
        format.write_expectation(&mut line, expectation, NOW);
        check(format.style(), &line);
    }
}

fn use_route(route: &Route<'_>, devices: &DeviceNames) {
    let _ = (route.nexthops.count(), route.metrics.count());
    let owned = OwnedRoute::from(*route);
    assert_eq!(owned.as_route(), *route);
    for format in &FORMATS.routes {
        let mut line = Vec::new();
        if format.write_event(&mut line, route, devices, NOW) {
            check(format.style(), &line);
            format.style().mark_resynced(&mut line);
        }
        check(format.style(), &line);
        line.clear();
        format.write_entry(&mut line, route, devices, NOW);
        check(format.style(), &line);
    }
}

fn use_object(object: &Object<'_>, devices: &mut DeviceNames) {
    let _ = (object.kind(), object.name());
    if let Object::Link(link) = object {
        devices.apply(link);
        for name in link.alt_names {
            assert!(name.len() <= u16::MAX.into());
        }
    }
}

//! How fast a decoded event becomes a line of JSON.
#![allow(dead_code, unused_imports, clippy::wildcard_imports)] // of the command's files that are taken in here, only some is measured

#[path = "../src/conntrack_json.rs"]
mod conntrack_json;
#[path = "../src/device_names.rs"]
mod device_names;
#[path = "../../benches/split/events.rs"]
mod events;
#[path = "../src/json.rs"]
mod json;
#[path = "../src/label_names.rs"]
mod label_names;
#[path = "../src/route_json.rs"]
mod route_json;
#[path = "../src/text.rs"]
mod text;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use nlring::MessageList;
use nlring::conntrack::Flow;
use nlring::route::Route;

use device_names::DeviceNames;
use label_names::LabelNames;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    flows(&mut criterion);
    routes(&mut criterion);
    criterion.final_summary();
}

fn flows(criterion: &mut Criterion) {
    let labels = LabelNames::default();
    let mut group = criterion.benchmark_group("JSON of a flow");
    for (name, event) in [
        ("that begins", events::flow_begins()),
        ("that ends", events::flow_ends()),
    ] {
        let list = MessageList::new(&event);
        let flow = list
            .iter()
            .find_map(|message| Flow::decode(&message))
            .expect("a flow");
        let mut out = Vec::new();
        let mut write = || {
            out.clear();
            conntrack_json::write_flow(&mut out, black_box(&flow), &labels, 0);
            out.len()
        };
        group.throughput(Throughput::Bytes(write() as u64));
        group.bench_function(name, |bencher| bencher.iter(&mut write));
    }
}

fn routes(criterion: &mut Criterion) {
    let devices = DeviceNames::default();
    let mut group = criterion.benchmark_group("JSON of a route");
    for (name, event) in [
        ("with a gateway", events::route(1)),
        ("with 8 nexthops", events::route(8)),
    ] {
        let list = MessageList::new(&event);
        let route = list
            .iter()
            .find_map(|message| Route::decode(&message))
            .expect("a route");
        let mut out = Vec::new();
        let mut write = || {
            out.clear();
            route_json::write_route(&mut out, black_box(&route), &devices, 0);
            out.len()
        };
        group.throughput(Throughput::Bytes(write() as u64));
        group.bench_function(name, |bencher| bencher.iter(&mut write));
    }
}

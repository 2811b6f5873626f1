//! How fast a decoded event becomes a line of JSON.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use nlring::conntrack::Flow;
use nlring::route::Route;
use nlring::{MessageList, Timestamp};

use nlring_print::conntrack::{FlowFormat, LabelNames};
use nlring_print::route::{DeviceNames, RouteFormat};
use nlring_testing::events;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    flows(&mut criterion);
    routes(&mut criterion);
    criterion.final_summary();
}

fn flows(criterion: &mut Criterion) {
    let format = FlowFormat::Json(LabelNames::default());
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
            format.write_event(&mut out, black_box(&flow), Timestamp::UNIX_EPOCH);
            out.len()
        };
        group.throughput(Throughput::Bytes(write() as u64));
        group.bench_function(name, |bencher| bencher.iter(&mut write));
    }
}

fn routes(criterion: &mut Criterion) {
    let (json, devices) = (RouteFormat::json(), DeviceNames::default());
    let received_at = Timestamp::UNIX_EPOCH;
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
            json.write_event(&mut out, black_box(&route), &devices, received_at);
            out.len()
        };
        group.throughput(Throughput::Bytes(write() as u64));
        group.bench_function(name, |bencher| bencher.iter(&mut write));
    }
}

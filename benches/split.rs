//! How fast bytes in the cache become messages, attributes, flows and routes.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use nlring::MessageList;
use nlring::conntrack::Flow;
use nlring::route::Route;

use nlring_testing::events::{flow_begins, flow_ends, messages, route};

/// Few enough for the first-level cache.
const DATAGRAM_COUNT: usize = 64;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    split(&mut criterion);
    attributes(&mut criterion);
    decode(&mut criterion);
    criterion.final_summary();
}

/// From datagrams to messages: all lengths are checked, and every header is read.
fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split");
    let single = vec![messages(1, 200); DATAGRAM_COUNT];
    let dump = vec![messages(160, 200)];
    for (name, datagrams, count) in [
        ("1 message of 200 bytes a datagram", single, DATAGRAM_COUNT),
        ("160 messages of 200 bytes a datagram", dump, 160),
    ] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut sum = 0;
                for datagram in black_box(&datagrams) {
                    for message in &MessageList::new(datagram) {
                        sum += u64::from(message.sequence());
                    }
                }
                sum
            });
        });
    }
}

/// From a message to its attributes, without the nested ones.
fn attributes(criterion: &mut Criterion) {
    let event = flow_begins();
    let list = MessageList::new(&event);
    let message = list.iter().next().expect("one message");
    let mut group = criterion.benchmark_group("attributes");
    group.throughput(Throughput::Elements(message.attributes(4).count() as u64));
    group.bench_function("of a conntrack event", |bencher| {
        bencher.iter(|| {
            let attributes = black_box(&message).attributes(4);
            attributes.fold(0, |sum, attribute| {
                sum + usize::from(attribute.attribute_type()) + attribute.bytes().len()
            })
        });
    });
}

/// From a datagram's bytes to flows and routes.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, event) in [
        ("Flow that begins", flow_begins()),
        ("Flow that ends", flow_ends()),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for message in &MessageList::new(black_box(&event)) {
                    black_box(&Flow::decode(&message));
                }
            });
        });
    }
    for (name, event) in [("Route", route(1)), ("Route with 8 nexthops", route(8))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut hop_count = 0;
                for message in &MessageList::new(black_box(&event)) {
                    if let Some(route) = &Route::decode(&message) {
                        black_box(route);
                        hop_count += route.nexthops.count();
                    }
                }
                hop_count
            });
        });
    }
}

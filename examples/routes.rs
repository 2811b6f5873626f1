//! Prints the routes that come and go: `cargo run --example routes -- [COUNT]`.
//!
//! Needs no privileges. Ends after COUNT events, or never.

use std::error::Error;
use std::ops::ControlFlow::{Break, Continue};

use nlring::EventKind;
use nlring::route::{Group, Route};
use nlring::{Engine, Event, Protocol, Socket};

fn main() -> Result<(), Box<dyn Error>> {
    let limit = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => usize::MAX,
    };
    let socket = Socket::builder(Protocol::ROUTE)
        .groups([Group::Ipv4Route, Group::Ipv6Route])
        .recv_buffer_bytes(8 << 20)
        .open()?;
    let mut engine = Engine::builder().build()?;
    engine.add(socket)?;

    let mut count = 0;
    engine.start()?.run(|event, _control| {
        match event {
            Event::Messages(_, list) => {
                for route in list.iter().filter_map(|message| Route::decode(&message)) {
                    print(&route);
                    count += 1;
                    if count == limit {
                        return Break(());
                    }
                }
            }
            Event::Lost(_, loss) => eprintln!("{} datagrams lost", loss.count),
            Event::Notice(_, notice) => eprintln!("{notice}"),
        }
        Continue(())
    })?;
    Ok(())
}

fn print(route: &Route<'_>) {
    let sign = match route.kind {
        EventKind::New | EventKind::Update | EventKind::Entry => '+',
        EventKind::Delete => '-',
    };
    match route.dst.and_then(|dst| dst.ip()) {
        Some(dst) => print!("{sign} {dst}/{}", route.dst_prefix_len),
        None => print!("{sign} default"),
    }
    if let Some(gateway) = route.hop.gateway {
        print!(" via {gateway}");
    }
    if let Some(device) = route.oif {
        print!(" on device {device}");
    }
    // An iterator over the bytes of the message: nothing is copied or allocated.
    for nexthop in route.nexthops {
        print!(" and device {}", nexthop.oif);
    }
    println!(" in table {}", route.table);
}

//! A stream of owned items in a task: `cargo run --release --features tokio --example stream -- [SECONDS]`.
//!
//! Counts route events in a task of tokio's multi-threaded runtime. Needs no privileges.

use std::error::Error;
use std::time::Duration;

use nlring::route::{Group, Route};
use nlring::stream::{EventStream, Item, WhenFull};
use nlring::{Engine, Protocol, Socket};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(10), |text| text.parse())?;
    let socket = Socket::builder(Protocol::ROUTE)
        .groups([Group::Ipv4Route, Group::Ipv6Route])
        .open()?;
    let mut engine = Engine::builder().build()?;
    engine.add(socket)?;
    let stream = EventStream::builder()
        .capacity(256)
        .when_full(WhenFull::Skip)
        .spawn(engine)?;

    let stop = stream.stop_handle();
    let counting = tokio::spawn(count(stream));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.stop(); // what is queued is still delivered
    let route_count = counting.await??;
    println!("{route_count} route events in all");
    Ok(())
}

/// Reads the stream to its end.
async fn count(mut stream: EventStream) -> nlring::Result<usize> {
    let mut route_count = 0;
    while let Some(item) = stream.recv().await {
        match item? {
            Item::Messages(_, list) => {
                let routes = list.iter().filter_map(|message| Route::decode(&message));
                route_count += routes.count();
            }
            Item::Lost(socket, loss) => eprintln!("{} datagrams lost on {socket}", loss.count),
            Item::Skipped(socket, skipped) => {
                eprintln!("{} messages skipped on {socket}", skipped.messages);
            }
            Item::Notice(socket, notice) => eprintln!("{socket}: {notice}"),
        }
    }
    Ok(route_count)
}

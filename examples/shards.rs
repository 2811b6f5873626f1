//! Counts the flows that begin and end, on several threads: `cargo run --example shards -- [SHARDS] [SECONDS]`.
//!
//! Needs `CAP_NET_ADMIN`. Ends after SECONDS, 10 by default.

use std::error::Error;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use nlring::conntrack::{Flow, Group, Shards};
use nlring::{Engine, Event, EventKind, Finished, Protocol, Socket, Statistics};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().map_or(Ok(2), |count| count.parse())?;
    let seconds = arguments.next().map_or(Ok(10), |count| count.parse())?;

    let socket = Socket::builder(Protocol::NETFILTER)
        .groups([Group::New, Group::Destroy])
        .recv_buffer_bytes(8 << 20); // of each shard
    let shards = Shards::builder(count).open(&socket)?;

    // Each shard has a callback of its own, on its own thread: no lock, and nothing that two threads share.
    let threads = shards.spawn(&Engine::builder(), |shard| {
        let mut open_count = 0_i64;
        move |event, _control| {
            match event {
                Event::Messages(_, list) => {
                    for flow in list.iter().filter_map(|message| Flow::decode(&message)) {
                        match flow.kind {
                            EventKind::New => open_count += 1,
                            EventKind::Delete => open_count -= 1,
                            _ => {}
                        }
                    }
                    println!("shard {shard}: {open_count:+} flows");
                }
                Event::Lost(_, loss) => eprintln!("shard {shard}: {loss} lost"),
                Event::Notice(_, notice) => eprintln!("shard {shard}: {notice}"),
            }
            ControlFlow::<()>::Continue(())
        }
    })?;

    thread::sleep(Duration::from_secs(seconds));
    threads.stop();
    let ends = threads.join();
    let sum: Statistics = ends.iter().map(Finished::statistics).sum();
    println!("{} datagrams received, {} lost", sum.received, sum.dropped);
    for end in ends {
        end.outcome?; // an engine that failed
    }
    Ok(())
}

//! An engine among the tasks of tokio: `cargo run --example tokio -- [SECONDS]`.
//!
//! Counts route events, and prints every second how many there were. Needs no privileges. A started engine stays on
//! its thread, so this runtime has one thread. In a runtime with several threads, run the engine on a thread of
//! its own and send its results over a channel, as `stream.rs` does.

use std::error::Error;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nlring::route::{Group, Route};
use nlring::{Engine, Event, Protocol, Running, Socket, Turn};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, interval, sleep_until};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(10), |text| text.parse())?;
    let socket = Socket::builder(Protocol::ROUTE)
        .groups([Group::Ipv4Route, Group::Ipv6Route])
        .open()?;
    let mut engine = Engine::builder().pollable(true).build()?;
    engine.add(socket)?;
    let mut running = engine.start()?;

    let fd = running.pollable_fd().ok_or("built pollable")?;
    let readiness = watch(fd.try_clone_to_owned()?)?;
    let end = sleep_until(Instant::now() + Duration::from_secs(seconds));
    tokio::pin!(end);
    let mut tick = interval(Duration::from_secs(1));
    let mut count = 0_u64;
    loop {
        tokio::select! {
            guard = readiness.readable() => {
                guard?.clear_ready(); // before the turns: what comes during them makes it ready again
                take_turns(&mut running, &mut count)?;
            }
            _ = tick.tick() => println!("{count} route events"),
            () = &mut end => break,
        }
    }
    // The end delivers what is still queued.
    let finished = running.finish(|event, _control| take(&event, &mut count));
    finished.outcome?;
    println!("{count} route events in all");
    Ok(())
}

#[allow(unsafe_code, reason = "tokio has no safe way to watch a descriptor")]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and the same, for as long as it lives, and the AsyncFd owns it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Takes turns, without waiting, until nothing is left.
fn take_turns(running: &mut Running, count: &mut u64) -> nlring::Result<()> {
    loop {
        match running.poll(Some(Duration::ZERO), |event, _control| take(&event, count))? {
            Turn::Delivered => {}
            Turn::Idle | Turn::Stopped | Turn::Break(()) => return Ok(()),
        }
    }
}

fn take(event: &Event<'_>, count: &mut u64) -> ControlFlow<()> {
    match event {
        Event::Messages(_, list) => {
            let routes = list.iter().filter_map(|message| Route::decode(&message));
            *count += routes.count() as u64;
        }
        Event::Lost(_, loss) => eprintln!("{} datagrams lost", loss.count),
        Event::Notice(_, notice) => eprintln!("{notice}"),
    }
    ControlFlow::Continue(())
}

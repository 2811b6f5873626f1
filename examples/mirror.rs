//! Keeps the table of connections in memory, and prints once a second how many there are in each state.
//!
//! `cargo run --example mirror`, as root, on a host that tracks flows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nlring::conntrack::{Change, Group, Mirror, ProtocolState};
use nlring::{Engine, MirrorOptions, Protocol, Result, Socket};

fn main() -> Result<()> {
    let socket = Socket::builder(Protocol::NETFILTER)
        .groups([Group::New, Group::Update, Group::Destroy]) // a mirror needs all three
        .recv_buffer_bytes(8 << 20)
        .open()?;
    let mut engine = Engine::builder().build()?;
    let id = engine.add(socket)?;
    let mut running = engine.start()?;
    let mut mirror = Mirror::new(MirrorOptions::new());
    let mut print_at = Instant::now() + Duration::from_secs(1);
    loop {
        // Wait no longer than until the mirror has something to do. While it reads a dump, that is at once.
        let next = mirror
            .due(Instant::now())
            .map_or(print_at, |due| due.min(print_at));
        let timeout = next.saturating_duration_since(Instant::now());
        let _ = running.poll(Some(timeout), |event, _| {
            mirror.feed(&event, note);
            ControlFlow::<()>::Continue(())
        })?;
        if let Some(socket) = running.socket(id) {
            mirror.advance(socket, note)?;
        }
        if Instant::now() >= print_at {
            print_at += Duration::from_secs(1);
            print_states(&mirror);
        }
    }
}

/// The mirror reports each change of a flow, from an event or in place of a lost one. This program prints only
/// recoveries from losses.
#[expect(
    clippy::large_types_passed_by_value,
    reason = "the mirror hands changes out by value"
)]
fn note(change: Change<'_>) {
    if let Change::Resynced(resync) = change {
        println!("right again: {resync:?}");
    }
}

fn print_states(mirror: &Mirror) {
    let mut counts = BTreeMap::<&str, u64>::new();
    for flow in mirror.iter() {
        let state = flow.state.and_then(ProtocolState::name);
        *counts
            .entry(state.unwrap_or("without a state"))
            .or_default() += 1;
    }
    println!("{} flows: {counts:?}", mirror.len());
}

//! Part 4 of the tour: the CPU time of an event, in nlring and in a plain loop over recv(2), both measured now.

use std::time::Duration;

use super::follower::Receiving;
use super::stage::Stage;
use crate::args::{Receiver, SourceKind, Way};
use crate::latency::{self, Cost};
use crate::outcome::Failure;
use crate::units::ratio;

const RATE: u32 = 20_000;
/// How often each of the two is measured, and for how long.
const REPEAT_COUNT: usize = 3;
const TIME: Duration = Duration::from_millis(350);
const WARMUP: Duration = Duration::from_millis(100);

pub fn show(stage: &mut Stage, how: Receiving) -> Result<(), Failure> {
    stage.part(
        "4. What an event costs",
        &format!(
            "nlring and a plain loop over recv(2) take turns in receiving {RATE} events per second. This is the CPU time \
             that the receiving thread needs."
        ),
    )?;
    let nlring = Way {
        receiver: Receiver::Engine(how.backend),
        wait: Some(how.wait),
    };
    let recv = Way {
        receiver: Receiver::Recv,
        wait: None,
    };
    let measurement = latency::Measurement {
        source: SourceKind::Conntrack,
        rate: RATE,
        warmup: WARMUP,
        time: TIME,
        repeat_count: REPEAT_COUNT,
    };
    let costs = latency::costs(measurement, [nlring, recv])?;
    show_costs(stage, costs)
}

fn show_costs(stage: &mut Stage, [nlring, recv]: [Cost; 2]) -> Result<(), Failure> {
    stage.events(&line("nlring", &nlring))?;
    stage.events(&line("recv(2) loop", &recv))?;
    stage.say(&comparison(&nlring, &recv))?;
    let made = nlring.made + recv.made;
    let accounted = nlring.accounted + recv.accounted;
    stage.check(
        made == accounted,
        &format!("{made} events made, {accounted} received or counted as lost."),
    )
}

fn line(name: &str, cost: &Cost) -> String {
    let micros = ratio(cost.cpu_ns_per_event, 1000);
    let events = cost.events_per_switch.clamp(1.0, 9999.0);
    format!("{name:13} {micros:5.2} µs per event, {events:4.0} events per wake-up")
}

/// Compares the two. On a busy machine such a short measurement can fail, and the text says so.
fn comparison(nlring: &Cost, recv: &Cost) -> String {
    let times = ratio(recv.cpu_ns_per_event, nlring.cpu_ns_per_event);
    let gathers = nlring.events_per_switch > 2.0 * recv.events_per_switch;
    if times > 1.0 && gathers {
        format!(
            "The loop takes {times:.1} times as much. Waking up is most of the cost: under load nlring gathers events for \
             up to 1 ms."
        )
    } else {
        format!(
            "The loop takes {times:.1} times as much. The machine is too busy to measure this well: try nlring latency."
        )
    }
}

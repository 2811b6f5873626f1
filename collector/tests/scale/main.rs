//! What a record costs with one node and with ten: nlringd in hosts of their own, a server or a cluster, and a worker that
//! stores.

mod figures;
mod load;
mod network;
mod programs;
mod run;
mod stored;
mod stream;
#[path = "../support/mod.rs"]
mod support;

use std::panic::resume_unwind;
use std::thread;

use nlring_testing::run_or_skip;

use figures::{Figures, print_heads};
use run::Plan;
use support::nats;

/// The most that a record may cost with ten nodes, compared with one.
const MOST: f64 = 1.15;

/// Measures in a thread of its own, which ends with its namespaces.
fn measure(plan: Plan) -> Figures {
    let measured = thread::spawn(move || run::run(plan)).join();
    let figures = measured.unwrap_or_else(|panic| resume_unwind(panic));
    figures.print(&plan);
    figures
}

/// A number from the environment, or this one.
fn setting(name: &str, number: u32) -> u32 {
    let text = std::env::var(name).ok();
    text.map_or(number, |text| text.parse().expect("a number"))
}

/// A node that makes fewer records wakes up for fewer events and sends smaller batches, so each of its records costs more.
/// Therefore nodes are compared at the same rate. Then fewer nodes make as many records as ten do, which shows what the rate
/// of a node does.
#[test]
#[ignore = "a measurement"]
fn a_record_costs_the_same_with_ten_nodes() {
    run_or_skip("scale", || {
        nats::program();
        let plan = Plan {
            hosts: 10,
            servers: 1,
            rate: setting("NLRING_SCALE_RATE", 4000),
            seconds: setting("NLRING_SCALE_SECONDS", 10),
        };
        print_heads();
        let costs = [1, 2, 5, 10].map(|hosts| measure(Plan { hosts, ..plan }).cpu_us());
        let together = plan.rate * u32::from(plan.hosts);
        for (hosts, servers) in [(1, 1), (2, 1), (5, 1), (2, 3), (10, 3)] {
            let rate = together / u32::from(hosts);
            measure(Plan {
                hosts,
                servers,
                rate,
                ..plan
            });
        }
        let ratio = costs[3] / costs[0];
        eprintln!(
            "at the same rate of each node, a record costs {ratio:.2} times as much with ten nodes as with one"
        );
        assert!(ratio <= MOST, "more than {MOST}");
    });
}

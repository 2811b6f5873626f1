//! `nlring doctor`: whether a collector works on this host, and how to fix what is wrong. The checks try what a
//! collector does; a check that only reads a setting says so.

mod capabilities;
mod conntrack;
mod kernel;
mod listeners;
mod memory;
mod receiving;
mod remedy;
mod report;
mod tracking;

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use crate::args::DoctorArguments;
use crate::host::listeners::NetlinkSockets;
use crate::host::namespace;
use crate::outcome::{self, Outcome};
use crate::write::sink::Sink;
use receiving::BackendTrials;
use report::{Check, Diagnosis};
use tracking::LoopbackTrial;

/// Exits with 1 when conntrack or route events cannot be received here, or the report cannot be written.
pub fn run(arguments: &DoctorArguments) -> Outcome {
    let netns = arguments.netns.as_deref();
    let launcher = netns.map(namespace::launcher);
    namespace::move_to(netns, "doctor")?;
    let mut checks = examine();
    if let Some(launcher) = launcher {
        let commands = checks.iter_mut().filter_map(|check| check.remedy.as_mut());
        for command in commands.filter(|command| is_of_namespace(command)) {
            command.insert_str(0, &format!("{launcher} "));
        }
    }
    let report = Diagnosis { checks };
    let text = if arguments.json {
        report.json()
    } else {
        report.text(terminal_columns())
    };
    outcome::report(&text)?;
    Ok(if report.is_impossible() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether a command changes the network namespace that it runs in. Other commands concern this process or the kernel.
fn is_of_namespace(command: &str) -> bool {
    ["sysctl -w net.", "ip ", "nft "]
        .iter()
        .any(|start| command.starts_with(start))
}

fn examine() -> Vec<Check> {
    // First, because later the list would contain our own sockets and flows.
    let sockets = NetlinkSockets::read();
    let flow_count = tracking::flow_count();
    let trials = BackendTrials::run();
    let mut checks = vec![
        kernel::kernel(),
        receiving::io_uring(&trials),
        receiving::backends(&trials),
        memory::locked_memory(&trials),
        receiving::receive_buffer(),
        receiving::route_events(),
        conntrack::events(),
        receiving::other_namespaces(),
        capabilities::capabilities(),
    ];
    let trial = LoopbackTrial::run();
    checks.extend([
        tracking::tracking(&trial, flow_count),
        conntrack::flows(flow_count, sockets.conntrack_listeners().count()),
        conntrack::table(flow_count),
        conntrack::counters(),
        conntrack::event_time(&trial),
        listeners::listeners(&sockets),
        listeners::drops(&sockets),
    ]);
    checks
}

/// The width of the terminal. None: a program reads the text, and gets one line for each check.
fn terminal_columns() -> Option<usize> {
    let sink = Sink::new(io::stdout().as_fd()).ok()?;
    sink.is_terminal().then(|| sink.columns())
}

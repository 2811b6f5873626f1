//! `nlring demo`: shows what nlring does, with real events of this kernel in a private network namespace.
//!
//! Without options it is a tour in four parts, and each part checks what it shows. With `--events` it makes events,
//! follows them as a collector does, and compares the counts.

mod burst;
mod cost;
mod flows;
mod follower;
mod generator;
mod live;
mod mirror;
mod plain;
mod stage;
mod tour;

use crate::args::DemoArguments;
use crate::outcome::Outcome;
use crate::write::console::Console;

pub fn run(arguments: &DemoArguments, console: &mut Console) -> Outcome {
    if arguments.events {
        plain::run(arguments, console)
    } else {
        tour::run(arguments, console)
    }
}

//! The filter of `nlring route`.

use super::devices::Devices;
use crate::args::RouteArguments;
use crate::outcome::Failure;

/// Which routes are shown, and who evaluates that.
pub type Selection = crate::follow::selection::Selection<nlring::route::Term>;

/// What the options ask for. Devices are those of this thread's namespace.
pub fn select(arguments: &RouteArguments) -> Result<Selection, Failure> {
    let devices = devices(arguments)?;
    let filter = arguments.filter.filter(|name| devices.index(name))?;
    let table = &arguments.collector.table;
    if table.once || table.has_mirror() {
        Selection::of_entries(filter)
    } else {
        Selection::of_events(filter)
    }
}

/// The devices, if the options name one.
fn devices(arguments: &RouteArguments) -> Result<Devices, Failure> {
    match arguments.filter.devices().next() {
        None => Ok(Devices::default()),
        Some(name) if arguments.collector.follow.netns.all_netns.is_some() => {
            Err(Failure::Usage(format!(
                "the device {name} has another index in each namespace; choose a namespace with --netns, or give the index"
            )))
        }
        Some(_) => Devices::load(None),
    }
}

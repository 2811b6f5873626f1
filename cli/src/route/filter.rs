//! The filter of `nlring route`.

use super::devices::Devices;
use crate::args::{AllNetns, RouteArguments};
use crate::outcome::Failure;

/// Which routes are shown, and who evaluates that.
pub type Selection = crate::follow::selection::Selection<nlring::route::Term>;

/// What the options select. Devices are those of this thread's namespace.
pub fn select(arguments: &RouteArguments) -> Result<Selection, Failure> {
    let devices = named_devices(
        arguments.filter.devices(),
        arguments.collector.follow.netns.all_netns,
    )?;
    let filter = arguments.filter.filter(|name| devices.index(name))?;
    let table = &arguments.collector.table;
    if table.once {
        Selection::of_entries(filter)
    } else if table.has_mirror() {
        Selection::of_mirror(filter)
    } else {
        Selection::of_events(filter)
    }
}

/// The devices, if a filter's options name one.
pub fn named_devices<'a>(
    mut names: impl Iterator<Item = &'a str>,
    all_netns: Option<AllNetns>,
) -> Result<Devices, Failure> {
    match names.next() {
        None => Ok(Devices::default()),
        Some(name) if all_netns.is_some() => Err(Failure::Usage(format!(
            "the device {name} has another index in each namespace; choose a namespace with --netns, or give the index"
        ))),
        Some(_) => Devices::load(None),
    }
}

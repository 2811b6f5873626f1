//! The filter of `nlring conntrack`.

use crate::args::{ConntrackArguments, ConntrackEvent};
use crate::outcome::Failure;

/// Which flows are shown, and who evaluates that.
pub type Selection = crate::follow::selection::Selection<nlring::conntrack::Term>;

/// What the options select.
pub fn select(arguments: &ConntrackArguments) -> Result<Selection, Failure> {
    let filter = arguments.filter.filter()?;
    if !filter.is_all() && arguments.events.contains(&ConntrackEvent::Expect) {
        return Err(Failure::Usage(
            "filters select flows, not expectations; leave out the filter or -e expect".to_owned(),
        ));
    }
    let table = &arguments.collector.table;
    if table.once {
        Selection::of_entries(filter)
    } else if table.has_mirror() {
        Selection::of_mirror(filter)
    } else {
        Selection::of_events(filter)
    }
}

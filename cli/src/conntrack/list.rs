//! `nlring conntrack --snapshot --once`: lists the existing flows in the lines of conntrack -L.

use nlring::Timestamp;
use nlring::conntrack::{Filter, Flow, Requests};

use super::format;
use crate::args::ConntrackArguments;
use crate::follow::{listing, namespaces};
use crate::host::kept::Kept;
use crate::outcome::Outcome;
use crate::write::console::Console;

pub fn run(arguments: &ConntrackArguments, filter: &Filter, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    let which = collector.follow.netns.all_netns;
    let kept = Kept::CONNTRACK.and(which.map_or(Kept::NONE, namespaces::kept));
    listing::run(&collector.follow.common, kept, console, |listing| {
        let format = format(arguments, listing.console);
        listing.in_each_namespace(which, format.style(), |listing, namespace| {
            let mut requests = match namespace {
                Some(namespace) => Requests::open_in(namespace)?,
                None => Requests::open()?,
            };
            let replies = requests.dump_replies(&filter.dump_filter())?;
            listing.start(collector.follow.count)?;
            let now = Timestamp::now();
            listing.write_all(replies, |message, out| match &Flow::decode(message) {
                Some(flow) if filter.matches(flow) => {
                    format.write_entry(out, flow, now);
                    true
                }
                _ => false,
            })
        })
    })
}

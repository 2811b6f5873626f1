//! `nlring route --snapshot --once`: lists the existing routes of all tables in the lines of ip route.

use nlring::Family;
use nlring::route::{Filter, Requests, Route};

use super::{RouteFormatter, format, style};
use crate::args::RouteArguments;
use crate::follow::{listing, namespaces};
use crate::host::kept::Kept;
use crate::outcome::Outcome;
use crate::write::console::Console;

pub fn run(arguments: &RouteArguments, filter: &Filter, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    let which = collector.follow.netns.all_netns;
    let kept = which.map_or(Kept::NONE, namespaces::kept);
    listing::run(&collector.follow.common, kept, console, |listing| {
        listing.in_each_namespace(which, style(arguments), |listing, namespace| {
            let mut formatter = RouteFormatter::load(format(arguments), namespace)?;
            let mut requests = match namespace {
                Some(namespace) => Requests::open_in(namespace)?,
                None => Requests::open()?,
            };
            let replies = requests.dump_replies(&filter.dump_filter())?;
            listing.start(collector.follow.count)?;
            listing.write_all(replies, |message, out| match &Route::decode(message) {
                Some(route) if is_listed(route) && filter.matches(route) => {
                    formatter.look_for_devices(route);
                    formatter.write_entry(out, route)
                }
                _ => false,
            })
        })
    })
}

/// Whether a route is one of the lines of ip route, which has no multicast routing.
fn is_listed(route: &Route<'_>) -> bool {
    !matches!(route.family, Family::IPMR | Family::IP6MR)
}

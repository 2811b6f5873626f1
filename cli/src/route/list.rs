//! `nlring route --snapshot --once`: lists the existing routes of all tables in the lines of ip route.

use nlring::Family;
use nlring::route::{DumpFilter, Requests, Route};

use super::{RouteFormatter, format};
use crate::args::RouteArguments;
use crate::follow::listing;
use crate::outcome::Outcome;
use crate::write::console::Console;

pub fn run(arguments: &RouteArguments, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    listing::run(&collector.follow.common, console, |listing| {
        let mut formatter = RouteFormatter::load(format(arguments))?;
        let mut requests = Requests::open()?;
        let replies = requests.dump_replies(&DumpFilter::new())?;
        listing.start(collector.follow.count)?;
        listing.write_all(replies, |message, out| match &Route::decode(message) {
            Some(route) if !matches!(route.family, Family::IPMR | Family::IP6MR) => {
                formatter.look_for_devices(route);
                formatter.write_entry(out, route)
            }
            _ => false,
        })
    })
}

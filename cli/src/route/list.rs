//! `nlring route --snapshot --once`: the routes that there are, of all tables, in the lines of ip route.

use nlring::Family;
use nlring::message::flags;
use nlring::route::Route;
use nlring::{Protocol, Requester};

use super::{RouteFormatter, format};
use crate::args::RouteArguments;
use crate::follow::listing;
use crate::outcome::Outcome;
use crate::write::console::Console;

/// `RTM_GETROUTE`.
const GET_ROUTE: u16 = 26;

pub fn run(arguments: &RouteArguments, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    listing::run(&collector.common, console, |listing| {
        let mut formatter = RouteFormatter::load(format(arguments))?;
        let mut requester = Requester::open(Protocol::ROUTE)?;
        // struct rtmsg of zeros: all families.
        let replies = requester.send(GET_ROUTE, flags::DUMP, |request| request.bytes(&[0; 12]))?;
        listing.start(collector.count)?;
        listing.take(replies, |message, out| match &Route::decode(message) {
            Some(route) if !matches!(route.family, Family::IPMR | Family::IP6MR) => {
                formatter.look_for_devices(route);
                formatter.write_entry(out, route)
            }
            _ => false,
        })
    })
}

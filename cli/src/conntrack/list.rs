//! `nlring conntrack --snapshot --once`: the flows that there are, in the lines of conntrack -L.

use nlring::conntrack::Flow;
use nlring::message::flags;
use nlring::{Protocol, Requester};
use nlring_print::realtime_now_ns;

use super::format;
use crate::args::ConntrackArguments;
use crate::follow::listing;
use crate::outcome::Outcome;
use crate::write::console::Console;

/// Subsystem 1 (`NFNL_SUBSYS_CTNETLINK`), message `IPCTNL_MSG_CT_GET`.
const CT_GET: u16 = 0x101;

pub fn run(arguments: &ConntrackArguments, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    listing::run(&collector.common, console, |listing| {
        let format = format(arguments, listing.console);
        let mut requester = Requester::open(Protocol::NETFILTER)?;
        // struct nfgenmsg of zeros: all families.
        let replies = requester.send(CT_GET, flags::DUMP, |request| request.bytes(&[0; 4]))?;
        listing.start(collector.count)?;
        let now_ns = realtime_now_ns();
        listing.take(replies, |message, out| match &Flow::decode(message) {
            Some(flow) => {
                format.write_entry(out, flow, now_ns);
                true
            }
            None => false,
        })
    })
}

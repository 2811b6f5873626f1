//! The arguments of `nlring flood`.

use std::time::Duration;

use clap::Args;

use super::{parse_count, parse_cpu, parse_datagram_size, parse_events};
use crate::load::SourceKind;
use crate::units::parse_time;

#[derive(Args, Debug)]
#[command(after_help = FLOOD_HELP)]
pub struct FloodArguments {
    /// What to make
    pub source: SourceKind,

    /// Make them in this network namespace, not in one of its own
    #[arg(long)]
    pub here: bool,

    /// Events a second; without it as fast as it goes
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_events)]
    pub rate: Option<u32>,

    /// Make N at once, and pause for so much longer
    #[arg(long, value_name = "N", allow_hyphen_values = true, requires = "rate", default_value = "1", value_parser = parse_events)]
    pub burst: u32,

    /// End after N events
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_count)]
    pub count: Option<u64>,

    /// End after this time: 10s without --count
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// The size of usersock's datagrams, from 32 bytes to 32KiB: 200 without it
    #[arg(long = "size", value_name = "SIZE", allow_hyphen_values = true, value_parser = parse_datagram_size)]
    pub datagram_bytes: Option<usize>,

    /// Run on this CPU only, counted from 0
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_cpu)]
    pub cpu: Option<usize>,

    /// Report as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

const FLOOD_HELP: &str = "\
To load a collector, both must be in the same network namespace, and --here is it:
    ip netns add x
    ip netns exec x nlring conntrack --output /dev/null &
    ip netns exec x nlring flood --here conntrack --rate 100000
With --here nothing is set up: for conntrack-flows and conntrack-tcp a rule must need conntrack (nlring doctor tells), and
for these and route the loopback device must be up. Without it, in a namespace where nobody listens, it shows how fast the
kernel is without listeners.

When an event is due does not depend on how the ones before went. What falls behind is made at once, and the report says
how late the latest was: rate, what was reached; lateness, at worst.

Of conntrack-flush --count is the number of entries, 100000 without it; their removal is as many events again. Of the
others it is rounded up, to 2 events each or conntrack-tcp's 5: what is made is removed before the next is made.

Addresses: conntrack and conntrack-flush make TCP entries from 198.18.0.0/16 to 198.19.0.0/16, conntrack-flows and
conntrack-tcp flows from 127.0.0.1 to 127.0.0.0/8, route /32 routes in 240.0.0.0/5 with protocol 158. At its end, also by Ctrl-C, it removes
what it has made, and nothing else. What a kill -9 leaves:
    conntrack -D -m 0x6e6c0000/0xffff0000      # of conntrack-flush; it ends by itself after ten minutes
    ip route flush proto 158                   # of route";

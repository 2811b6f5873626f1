//! The arguments of `nlring flood`.

use std::time::Duration;

use clap::Args;

use super::source::SourceKind;
use super::values::{parse_count, parse_cpu, parse_datagram_size, parse_events};
use crate::units::parse_time;

#[derive(Args, Debug)]
#[command(after_help = FLOOD_HELP)]
pub struct FloodArguments {
    /// Which events to make, and how
    pub source: SourceKind,

    /// Make the events in this network namespace, where others hear them, instead of a private one
    #[arg(long)]
    pub here: bool,

    /// Events per second [default: unlimited]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_events)]
    pub rate: Option<u32>,

    /// Make the events in bursts of N; the rate stays the same
    #[arg(long, value_name = "N", allow_hyphen_values = true, requires = "rate", default_value = "1", value_parser = parse_events)]
    pub burst: u32,

    /// End after N events
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_count)]
    pub count: Option<u64>,

    /// End after this time [default: 10s, unless --count is given]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub duration: Option<Duration>,

    /// Size of usersock's datagrams, from 32 bytes to 32KiB [default: 200]
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
To load a collector, run both in the same network namespace, and flood with --here:
    ip netns add x
    ip netns exec x nlring conntrack --output /dev/null &
    ip netns exec x nlring flood --here conntrack --rate 100000
With --here nothing is set up: conntrack-flows and conntrack-tcp need a firewall rule that makes the kernel track flows
(nlring doctor shows one), and they and route need the loopback device to be up. Without --here nobody listens: that shows
how fast the kernel makes events that nobody receives.

Each event is due at a fixed time, no matter how late the events before it were. If flood falls behind, it makes all due
events at once. The report says how late the latest event was, and which rate was reached.

--count is rounded up to whole flows or routes, because each is removed before the next is made: 2 events each, 5 for
conntrack-tcp. For conntrack-flush it is the number of entries [default: 100000]; removing them makes as many events again.

conntrack and conntrack-flush make TCP entries from 198.18.0.0/16 to 198.19.0.0/16, conntrack-flows and conntrack-tcp make
flows from 127.0.0.1 to 127.0.0.0/8, route makes /32 routes in 240.0.0.0/5 with protocol 158. At its end, also by Ctrl-C,
flood removes what it has made and nothing else. After a kill -9 some of it remains. Entries time out after ten minutes;
these commands remove it at once:
    conntrack -D -m 0x6e6c0000/0xffff0000      # of conntrack-flush
    ip route flush proto 158                   # of route";

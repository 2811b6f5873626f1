//! All objects of rtnetlink as lines: what `ip monitor` prints, and JSON. Each kind of object has a file.

mod address;
mod format;
mod hardware;
mod link;
mod multicast_route;
mod neighbour;
mod netconf;
mod nexthop;
mod nexthop_bucket;
mod rule;
#[cfg(test)]
mod tests;
mod unknown;

pub use format::MonitorFormat;

//! Gives up the capabilities that are not needed after the start (capabilities(7)).

use rustix::io::{Errno, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// What is needed until the end: the kernel demands it for requests to conntrack, and to leave its groups.
const KEPT: CapabilitySet = CapabilitySet::NET_ADMIN;

/// Gives up all capabilities but `CAP_NET_ADMIN` for ever. It affects this thread and those that it starts later. So root
/// without capabilities reads and writes only the files that root may: the configured directories are opened before.
pub fn give_up_capabilities() -> Result<()> {
    set_no_new_privs(true)?;
    let before = capabilities(None)?;
    if before.effective.contains(CapabilitySet::SETPCAP) {
        for (_, capability) in CapabilitySet::all().difference(KEPT).iter_names() {
            match remove_capability_from_bounding_set(capability) {
                Err(Errno::INVAL) => {} // this kernel does not have it
                removed => removed?,
            }
        }
    }
    let kept = before.effective & KEPT;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

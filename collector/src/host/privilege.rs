//! Gives up the capabilities that are not needed after the start (capabilities(7)).

use rustix::io::{Errno, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Gives up all capabilities for ever that are not needed until the end. It affects this thread and those that it starts
/// later. So root without capabilities reads and writes only the files that root may: the configured directories are
/// opened before.
///
/// The kernel demands `CAP_NET_ADMIN` for requests to conntrack, and to leave its groups; and `CAP_SYS_ADMIN` to ask in
/// another network namespace.
pub fn give_up_capabilities(asks_in_namespaces: bool) -> Result<()> {
    let mut needed = CapabilitySet::NET_ADMIN;
    needed.set(CapabilitySet::SYS_ADMIN, asks_in_namespaces);
    set_no_new_privs(true)?;
    let before = capabilities(None)?;
    if before.effective.contains(CapabilitySet::SETPCAP) {
        for (_, capability) in CapabilitySet::all().difference(needed).iter_names() {
            match remove_capability_from_bounding_set(capability) {
                Err(Errno::INVAL) => {} // this kernel does not have it
                removed => removed?,
            }
        }
    }
    let kept = before.effective & needed;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

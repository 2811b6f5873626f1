//! Drops the capabilities that are not needed after startup (capabilities(7)).

use rustix::io::{Errno, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Permanently drops all capabilities that are not needed until the end. It affects this thread and those that it
/// starts later. Root without capabilities can only read and write the files that root may, so the configured
/// directories are opened earlier.
///
/// The kernel requires `CAP_NET_ADMIN` for conntrack requests and for leaving its groups, and `CAP_SYS_ADMIN` for
/// requests in another network namespace.
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

//! Drops the capabilities that a command does not need after startup (capabilities(7)).

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// The capabilities that a command keeps while it runs, if it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(CapabilitySet);

impl Kept {
    pub const NONE: Self = Self(CapabilitySet::empty());
    /// For requests to conntrack, and to leave its groups at the end (Linux v6.18, net/netlink/af_netlink.c,
    /// `netlink_setsockopt`). bind(2) leaves them without a capability, but the kernel then keeps making events as if
    /// somebody listened (net/netfilter/nfnetlink.c, `nfnetlink_unbind`).
    pub const CONNTRACK: Self = Self(CapabilitySet::NET_ADMIN);
    /// For receive buffers that grow beyond `net.core.rmem_max`.
    pub const GROWTH: Self = Self(CapabilitySet::NET_ADMIN);
    /// To open sockets in network namespaces that appear, with the requested receive buffer.
    pub const NAMESPACES: Self = Self(CapabilitySet::NET_ADMIN.union(CapabilitySet::SYS_ADMIN));
    /// To find the network namespaces of other users' processes.
    pub const PROCESSES: Self = Self(CapabilitySet::SYS_PTRACE);
    /// To open or replace files by their names again, including those of other users: reopening a log after its
    /// rotation must not fail if opening it at startup worked.
    pub const FILES: Self = Self(
        CapabilitySet::CHOWN
            .union(CapabilitySet::DAC_OVERRIDE)
            .union(CapabilitySet::FOWNER),
    );
    /// To make events.
    pub const LOAD: Self = Self(CapabilitySet::NET_ADMIN);
    /// For rings, whose memory counts against the user's limit without it.
    pub const RINGS: Self = Self(CapabilitySet::IPC_LOCK);

    pub const fn and(self, other: Self) -> Self {
        Self(self.0.union(other.0))
    }

    /// Adds the others, if the condition holds.
    pub const fn and_if(self, condition: bool, others: Self) -> Self {
        if condition { self.and(others) } else { self }
    }

    /// The capabilities that the calling thread has.
    pub fn current() -> Self {
        Self(capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective))
    }

    /// The names, as in capabilities(7).
    pub fn names(self) -> Vec<String> {
        let names = self.0.iter_names();
        names.map(|(name, _)| format!("CAP_{name}")).collect()
    }

    /// Permanently drops all other capabilities. It affects the calling thread, the threads that it starts later, and
    /// the programs that they execute.
    ///
    /// # Errors
    ///
    /// The kernel refuses, for example because of a seccomp filter. None or some of the capabilities were dropped.
    pub fn give_up_others(self) -> io::Result<()> {
        set_no_new_privs(true)?;
        let before = capabilities(None)?;
        if before.effective.contains(CapabilitySet::SETPCAP) {
            for (_, capability) in CapabilitySet::all().difference(self.0).iter_names() {
                match remove_capability_from_bounding_set(capability) {
                    Err(Errno::INVAL) => {} // this kernel does not have it
                    removed => removed?,
                }
            }
        }
        let kept = before.effective & self.0;
        set_capabilities(
            None,
            CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            },
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_manual() {
        assert!(Kept::NONE.names().is_empty());
        let kept = Kept::NAMESPACES.and_if(false, Kept::FILES);
        assert_eq!(kept.names(), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        assert_eq!(kept.and(Kept::NONE), kept);
    }

    #[test]
    fn a_thread_keeps_what_it_named_and_others_keep_theirs() {
        let before = Kept::current();
        let kept = std::thread::spawn(|| {
            Kept::CONNTRACK.give_up_others().unwrap();
            let once_more = Kept::CONNTRACK.give_up_others(); // without CAP_SETPCAP
            (once_more.is_ok(), Kept::current())
        });
        let (is_ok, kept) = kept.join().unwrap();
        assert!(is_ok);
        assert_eq!(kept.0, before.0 & Kept::CONNTRACK.0);
        assert_eq!(Kept::current(), before);
    }
}

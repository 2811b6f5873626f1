//! What the sources of flows over the loopback device share: the addresses, and the set-up that makes the kernel track
//! flows.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use nlring::conntrack::Key;
use nlring::{Protocol, Requester};
use rustix::io::Errno;

use super::Namespace;
use super::batch::Remedies;
use super::entry;
use super::route::loopback_up;
use crate::outcome::Failure;

/// 127.1.0.0: the first and the last addresses of the network have other uses.
const FIRST: u32 = 127 << 24 | 1 << 16;
const NUMBERS: u32 = 253 << 16;

/// A table with a rule that needs conntrack and changes nothing. It is a macro because `concat!` takes only literals.
macro_rules! track {
    () => {
        "table inet nlring { chain track { type filter hook output priority 0; ct state new; }; }"
    };
}

/// What to do if the kernel refuses to remove a flow.
pub const REMEDIES: Remedies = &[(
    Errno::NOENT,
    concat!(
        "flows are not tracked here, because no rule needs it: nft '",
        track!(),
        "'"
    ),
)];

/// Sets up what flows over the loopback device need, in a private namespace only.
pub fn set_up(namespace: Namespace) -> Result<(), Failure> {
    if namespace == Namespace::Private {
        loopback_up(&mut Requester::open(Protocol::ROUTE)?)?;
        track_flows()?;
    }
    Ok(())
}

/// Makes the kernel track the flows of this namespace.
fn track_flows() -> Result<(), Failure> {
    let output = Command::new("nft").arg(track!()).output();
    let output = output.map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => " (the package nftables has it)",
            _ => "",
        };
        Failure::Other(format!(
            "run nft, so that flows are tracked: {error}{remedy}"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().next().unwrap_or_default();
    Err(Failure::Other(format!(
        "nft could not add the rule that makes the kernel track flows: {first}"
    )))
}

/// The destination of a flow, by its number modulo [`NUMBERS`].
#[allow(clippy::cast_possible_truncation)] // it is less than NUMBERS
pub fn destination(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST + (number % u64::from(NUMBERS)) as u32)
}

/// The key of a flow, by its number. The kernel uses the source 127.0.0.1 for all destinations in 127.0.0.0/8.
pub fn key(protocol: u8, src_port: u16, number: u64, dst_port: u16) -> Key {
    let src = (Ipv4Addr::LOCALHOST, src_port);
    entry::key(protocol, src, (destination(number), dst_port))
}

/// The number of the flow with this destination.
pub fn number_of(destination: IpAddr) -> Option<u64> {
    let IpAddr::V4(address) = destination else {
        return None;
    };
    let number = address.to_bits().checked_sub(FIRST)?;
    (number < NUMBERS).then_some(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_back_from_its_destination() {
        for number in [0, 1, 65_536, u64::from(NUMBERS) - 1] {
            let to = destination(number);
            assert_eq!(number_of(to.into()), Some(number), "{to}");
        }
        let beyond = destination(u64::from(NUMBERS) - 1).to_bits() + 1;
        for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::from_bits(beyond)] {
            assert_eq!(number_of(address.into()), None, "{address}");
        }
    }
}

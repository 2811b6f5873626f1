//! What flows over the loopback device have in common: their addresses, and that they are tracked.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use nlring::conntrack::Key;
use nlring::{Protocol, Requester};
use rustix::io::Errno;

use super::Place;
use super::batch::Remedies;
use super::entry;
use super::route::loopback_up;
use crate::outcome::Failure;

/// From 127.1.0.0 on: the first and the last addresses of the network are not for everybody.
const FIRST: u32 = 127 << 24 | 1 << 16;
const NUMBERS: u32 = 253 << 16;

/// A table of its own, with a rule that needs conntrack and only looks; a macro, since only literals are concatenated.
macro_rules! track {
    () => {
        "table inet nlring { chain track { type filter hook output priority 0; ct state new; }; }"
    };
}

/// Of their removal.
pub const REMEDIES: Remedies = &[(
    Errno::NOENT,
    concat!(
        "flows are not tracked here, as no rule needs it: nft '",
        track!(),
        "'"
    ),
)];

/// Sets up what flows over the loopback device need, in a namespace of its own.
pub fn set_up(place: Place) -> Result<(), Failure> {
    if place == Place::Own {
        loopback_up(&mut Requester::open(Protocol::ROUTE)?)?;
        track_flows()?;
    }
    Ok(())
}

/// Lets this namespace track its flows.
fn track_flows() -> Result<(), Failure> {
    let output = Command::new("nft").arg(track!()).output();
    let output = output.map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => " (the package nftables has it)",
            _ => "",
        };
        Failure::Other(format!("run nft to have flows tracked: {error}{remedy}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().next().unwrap_or_default();
    Err(Failure::Other(format!(
        "nft does not let flows be tracked: {first}"
    )))
}

/// Where the flow of a number goes to, modulo [`NUMBERS`].
#[allow(clippy::cast_possible_truncation)] // it is less than NUMBERS
pub fn destination(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST + (number % u64::from(NUMBERS)) as u32)
}

/// A flow of a number. Its source is the address that the kernel takes for all of 127.0.0.0/8.
pub fn key(protocol: u8, src_port: u16, number: u64, dst_port: u16) -> Key {
    let src = (Ipv4Addr::LOCALHOST, src_port);
    entry::key(protocol, src, (destination(number), dst_port))
}

/// The number of a flow that goes there.
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

//! Prefixes, the destinations of routes.

use std::net::IpAddr;
use std::str::FromStr;

/// The addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u32,
}

impl Prefix {
    /// Whether both have an address in common: one of them contains the other.
    pub fn overlaps(self, other: Self) -> bool {
        let length = self.length.min(other.length);
        let differing = match (self.address, other.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        differing >= length
    }
}

/// `10.0.0.0/8`; an address alone has all its bits.
impl FromStr for Prefix {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(drop)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(most), |length| length.parse().map_err(drop))?;
        (length <= most)
            .then_some(Self { address, length })
            .ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_overlap_if_one_contains_the_other() {
        let overlap = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| text.parse::<Prefix>().expect("a prefix"));
            assert_eq!(a.overlaps(b), b.overlaps(a));
            a.overlaps(b)
        };
        assert!(overlap("10.0.0.0/8", "10.1.2.3"));
        assert!(overlap("10.0.0.0/8", "10.1.0.0/16"));
        assert!(overlap("0.0.0.0/0", "192.0.2.1"));
        assert!(overlap("2001:db8::/32", "2001:db8:1::/48"));
        assert!(overlap("192.0.2.1", "192.0.2.1/32"));
        assert!(!overlap("10.0.0.0/16", "10.1.0.0/16"));
        assert!(!overlap("192.0.2.1", "192.0.2.2"));
        assert!(!overlap("0.0.0.0/0", "::/0"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "100"] {
            assert_eq!(wrong.parse::<Prefix>(), Err(()), "{wrong}");
        }
    }
}

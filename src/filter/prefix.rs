//! Prefixes of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::expression::Expression;
use super::test::{Path, Test};

/// The addresses that share their first bits, such as `10.0.0.0/8`. An address alone is a prefix of all its bits.
///
/// ```
/// use nlring::filter::Prefix;
///
/// let private: Prefix = "10.1.2.3/8".parse().unwrap();
/// assert_eq!(private.to_string(), "10.0.0.0/8");
/// assert!(private.contains("10.9.9.9".parse().unwrap()));
/// assert!(!private.contains("fd00::1".parse().unwrap()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The first `length` bits of the address. The other bits become 0. None if an address of the family has fewer
    /// bits: 32 or 128.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(address) if length <= 32 => IpAddr::V4(Ipv4Addr::from_bits(
                u32::from(address) & mask(length.into()),
            )),
            IpAddr::V6(address) if length <= 128 => {
                let words = words(address.octets());
                let mut octets = [0; 16];
                for (index, octet) in octets.iter_mut().enumerate() {
                    let word = words[index / 4] & word_mask(length.into(), index / 4);
                    *octet = word.to_be_bytes()[index % 4];
                }
                IpAddr::V6(Ipv6Addr::from(octets))
            }
            _ => return None,
        };
        Some(Self { address, length })
    }

    /// The lowest address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits all addresses share.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it covers a single address.
    pub(crate) fn is_one_address(&self) -> bool {
        *self == Self::from(self.address)
    }

    /// Whether the address begins with the prefix. An address of the other family never does.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other)) & mask(self.length.into()) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let bits = u128::from(own) ^ u128::from(other);
                bits.leading_zeros() >= u32::from(self.length)
            }
            _ => false,
        }
    }

    /// The attribute for the prefix's family holds an address that begins with the prefix.
    pub fn is_in(self, [v4, v6]: [Path; 2]) -> Expression<Test> {
        let length = u32::from(self.length);
        match self.address {
            _ if length == 0 && self.address.is_ipv4() => v4.is_present(),
            _ if length == 0 => v6.is_present(),
            IpAddr::V4(address) => v4.field(0, 4).has_bits(address.to_bits(), mask(length)),
            IpAddr::V6(address) => {
                let words = words(address.octets()).into_iter().enumerate();
                let words = words.filter(|&(index, _)| word_mask(length, index) != 0);
                Expression::all_of(words.map(|(index, word)| {
                    let field = v6.field(4 * u32::try_from(index).unwrap_or(0), 4);
                    field.has_bits(word, word_mask(length, index))
                }))
            }
        }
    }
}

/// The upper bits of a word.
fn mask(bit_count: u32) -> u32 {
    !u32::MAX.checked_shr(bit_count).unwrap_or(0)
}

/// The bits of the word with this index that a prefix of an IPv6 address covers.
fn word_mask(bit_count: u32, index: usize) -> u32 {
    let before = 32 * u32::try_from(index).unwrap_or(0);
    mask(bit_count.saturating_sub(before).min(32))
}

fn words(octets: [u8; 16]) -> [u32; 4] {
    let (words, _) = octets.as_chunks::<4>();
    [0, 1, 2, 3].map(|index| words.get(index).map_or(0, |word| u32::from_be_bytes(*word)))
}

/// All bits of the address.
impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }
}

/// Why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixError;

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected an address such as 10.0.0.1, or a prefix such as 10.0.0.0/8 or fd00::/8",
        )
    }
}

impl std::error::Error for PrefixError {}

/// An address, or an address and a length such as `10.0.0.0/8`.
impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(IpAddr::into).map_err(|_| PrefixError);
        };
        let address = address.parse().map_err(|_| PrefixError)?;
        let length = super::text::number(length).and_then(|length| u8::try_from(length).ok());
        length
            .and_then(|length| Self::new(address, length))
            .ok_or(PrefixError)
    }
}

/// The address, with `/` and the length unless it is all bits.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address, f)?;
        match self.address {
            IpAddr::V4(_) if self.length == 32 => Ok(()),
            IpAddr::V6(_) if self.length == 128 => Ok(()),
            _ => write!(f, "/{}", self.length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_contains_the_addresses_that_begin_with_it() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2"),
            ("0.0.0.0/0", "255.1.1.1", "::"),
            ("::/0", "ff::1", "1.1.1.1"),
            ("fd00:1:2:3::/62", "fd00:1:2:1::9", "fd00:1:2:4::"),
            ("fd00::1", "fd00::1", "fd00::2"),
        ] {
            let prefix = prefix(text);
            assert!(prefix.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(
                !prefix.contains(outside.parse().unwrap()),
                "{text} {outside}"
            );
            assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
        assert_eq!(prefix("fd00:1:2:3::1/62").to_string(), "fd00:1:2::/62");
    }

    #[test]
    fn other_texts_are_no_prefixes() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10/8",
            "10.0.0.0/+8",
            "x/8",
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError), "{text}");
        }
    }
}

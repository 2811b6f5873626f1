//! Shares of all flows.

use std::net::IpAddr;
use std::ops::Range;

use crate::conntrack::kernel::{cta, cta_ip, cta_proto, cta_tuple};
use crate::conntrack::tuple::header;
use crate::conntrack::{Layer4, Tuple};
use crate::filter::{Expression, Field, Hash, Hasher, Layout, Path, Test, number};
use crate::message::NESTED;

/// A division of all flows into equal shares, by a hash of the original tuple.
///
/// The hash covers the addresses, the protocol, and the ports or the identifier of an ICMP query. These are the same in
/// all events of a flow and in each dump, so a flow is in one share from its first event to its last. Successive flows
/// with the same tuple, and flows whose tuples differ only in the zone, are in the same share.
///
/// [`Term::share`](super::Term::share) makes a filter from some shares. With the same seed, the first share of 100 is
/// inside the first share of 10. With different seeds two divisions are independent of each other.
///
/// The hash spreads sequential addresses and ports evenly. It does not protect against someone who knows the seed and
/// wants many flows in one share: choose [the seed](Self::seed) at random where that matters.
///
/// ```
/// use nlring::conntrack::{Filter, Layer4, Split, Term, Tuple};
///
/// let (src, dst) = ("10.0.0.1".parse().unwrap(), "9.9.9.9".parse().unwrap());
/// let tuple = Tuple::new(src, dst, 17, Layer4::Ports { src: 40_000, dst: 53 });
/// let split = Split::new(8);
/// assert!(split.share_of(&tuple) < 8);
///
/// let filter = Filter::from(Term::protocol(17)).and(Term::share(split, 0..2));
/// assert_eq!(filter.to_string(), "proto udp and share 0..2/8");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    share_count: u32,
    seed: u32,
}

impl Split {
    /// A division into this many shares, with seed 0. A count of 0 means 1: one share that contains all flows.
    pub fn new(share_count: u32) -> Self {
        Self {
            share_count: share_count.max(1),
            seed: 0,
        }
    }

    /// The same division with another seed, from which the hash starts.
    #[must_use]
    pub fn seed(self, seed: u32) -> Self {
        Self { seed, ..self }
    }

    /// How many shares there are. At least 1.
    pub fn share_count(&self) -> u32 {
        self.share_count
    }

    /// The number of the share that flows with this original tuple are in: from 0 to `share_count() - 1`.
    pub fn share_of(&self, orig: &Tuple) -> u32 {
        let product = u64::from(hash(self.seed, orig)) * u64::from(self.share_count);
        // Less than the count, because the hash is less than 2^32.
        u32::try_from(product >> 32).unwrap_or(0)
    }
}

/// Some shares of a division.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Share {
    split: Split,
    kept: Range<u32>,
}

impl Share {
    /// The shares of a range that exist.
    pub fn new(split: Split, kept: Range<u32>) -> Self {
        let end = kept.end.min(split.share_count);
        let kept = if kept.start < end {
            kept.start..end
        } else {
            0..0
        };
        Self { split, kept }
    }

    /// Reads `3/8` or `0..25/100`, followed by `@SEED` if the seed is not 0.
    pub fn parse(word: &str) -> Option<Self> {
        let (kept, rest) = word.split_once('/')?;
        let (count, seed) = match rest.split_once('@') {
            Some((count, seed)) => (number(count)?, number(seed)?),
            None => (number(rest)?, 0),
        };
        let kept = match kept.split_once("..") {
            Some((start, end)) => number(start)?..number(end)?,
            None => number(kept)?..number(kept)?.checked_add(1)?,
        };
        let exists = count > 0 && kept.start <= kept.end && kept.end <= count;
        exists.then(|| Self::new(Split::new(count).seed(seed), kept))
    }

    pub fn contains(&self, orig: &Tuple) -> bool {
        self.kept.contains(&self.split.share_of(orig))
    }

    pub fn test(&self) -> Expression<Test> {
        if self.kept.is_empty() {
            return Expression::NEVER;
        }
        if self.kept == (0..self.split.share_count) {
            return Expression::ALWAYS;
        }
        let hash = Hash {
            seed: self.split.seed,
            parts: &PARTS,
            usual: USUAL,
        };
        Expression::Term(Test::HashWithin {
            hash,
            low: self.first_hash(self.kept.start),
            high: self.first_hash(self.kept.end).wrapping_sub(1),
        })
    }

    /// The lowest hash in a share, modulo 2^32: 0 for the share after the last one.
    fn first_hash(&self, share: u32) -> u32 {
        let first = (u64::from(share) << 32).div_ceil(u64::from(self.split.share_count));
        u32::try_from(first).unwrap_or(0)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Range { start, end } = self.kept;
        if end - start == 1 {
            write!(f, "{start}")?;
        } else {
            write!(f, "{start}..{end}")?;
        }
        write!(f, "/{}", self.split.share_count)?;
        match self.split.seed {
            0 => Ok(()),
            seed => write!(f, "@{seed:#x}"),
        }
    }
}

/// What is hashed. [`hash`] adds the same numbers in the same order.
const PARTS: [&[&[Field]]; 3] = [
    &[
        &[
            address(cta_ip::V4_SRC).field(0, 4),
            address(cta_ip::V4_DST).field(0, 4),
        ],
        &[
            address(cta_ip::V6_SRC).field(0, 4),
            address(cta_ip::V6_SRC).field(4, 4),
            address(cta_ip::V6_SRC).field(8, 4),
            address(cta_ip::V6_SRC).field(12, 4),
            address(cta_ip::V6_DST).field(0, 4),
            address(cta_ip::V6_DST).field(4, 4),
            address(cta_ip::V6_DST).field(8, 4),
            address(cta_ip::V6_DST).field(12, 4),
        ],
    ],
    &[
        &[
            layer4(cta_proto::SRC_PORT).field(0, 2),
            layer4(cta_proto::DST_PORT).field(0, 2),
        ],
        &[layer4(cta_proto::ICMP_ID).field(0, 2)],
        &[layer4(cta_proto::ICMPV6_ID).field(0, 2)],
    ],
    &[&[layer4(cta_proto::NUM).field(0, 1)]],
];

/// IPv4 addresses and ports as the kernel writes them in every event of TCP and UDP: the original tuple first, without a
/// zone (Linux v6.18, net/netfilter/nf_conntrack_netlink.c, `ctnetlink_conntrack_event`). A tuple in any other form is
/// hashed by [`PARTS`], with the same result.
const USUAL: Layout = Layout {
    headers: &[
        (20, header(52, cta::TUPLE_ORIG | NESTED)),
        (24, header(20, cta_tuple::IP | NESTED)),
        (28, header(8, cta_ip::V4_SRC)),
        (36, header(8, cta_ip::V4_DST)),
        (44, header(28, cta_tuple::PROTO | NESTED)),
        (48, header(5, cta_proto::NUM)),
        (56, header(6, cta_proto::SRC_PORT)),
        (64, header(6, cta_proto::DST_PORT)),
    ],
    fields: &[
        Field::fixed(32, 4),
        Field::fixed(40, 4),
        Field::fixed(60, 2),
        Field::fixed(68, 2),
        Field::fixed(52, 1),
    ],
    least_bytes: 70,
};

const fn address(attribute_type: u16) -> Path {
    Path::new(&[cta::TUPLE_ORIG, cta_tuple::IP, attribute_type])
}

const fn layer4(attribute_type: u16) -> Path {
    Path::new(&[cta::TUPLE_ORIG, cta_tuple::PROTO, attribute_type])
}

/// The hash of a tuple.
fn hash(seed: u32, orig: &Tuple) -> u32 {
    let hasher = add_address(Hasher::new(seed), orig.src);
    let hasher = add_address(hasher, orig.dst);
    let hasher = match orig.layer4 {
        Layer4::Ports { src, dst } => hasher.add(src.into()).add(dst.into()),
        Layer4::Icmp { id, .. } => hasher.add(id.into()),
        Layer4::None => hasher.add(0),
    };
    hasher.add(orig.protocol.into()).finish()
}

fn add_address(hasher: Hasher, address: IpAddr) -> Hasher {
    match address {
        IpAddr::V4(address) => hasher.add(address.to_bits()),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let words = octets.as_chunks::<4>().0.iter();
            words.fold(hasher, |hasher, word| hasher.add(u32::from_be_bytes(*word)))
        }
    }
}

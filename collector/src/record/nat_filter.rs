//! A filter of the addresses and ports to which sources were translated.
//!
//! Parquet has bloom filters of single columns. Each row group contains a given address of a gateway, and a given port,
//! but hardly ever both in one flow. So files have a filter of both together: a split block bloom filter of [`key`], as
//! described in Parquet's `BloomFilter.md`. Each follows its row group; the metadata says where.

use std::net::IpAddr;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, UInt16Type};
use arrow_array::{Array as _, RecordBatch};
use parquet::bloom_filter::Sbbf;
use parquet::errors::Result;
use twox_hash::XxHash64;

/// The name in the metadata under which [`Place`]s are, one for each row group, with spaces between them.
pub const PLACES: &str = "nlring.nat_filters";

/// One in 40 absent values is mistaken for a present one.
const BITS_PER_KEY: usize = 8;
const BLOCK_BITS: usize = 256;

/// Where a filter is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub length: u64,
}

/// Collects the sources of a row group.
#[derive(Default)]
pub struct NatFilter {
    keys: Vec<u64>,
}

/// Address and port as one number: their hash.
pub fn key(address: IpAddr, port: u16) -> u64 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&address.octets());
    bytes[16..].copy_from_slice(&port.to_be_bytes());
    XxHash64::oneshot(0, &bytes)
}

impl NatFilter {
    /// Adds the sources of these records.
    pub fn add(&mut self, batch: &RecordBatch) {
        let sources = batch["nat_src"].as_dictionary::<Int32Type>();
        let texts = sources.values().as_string::<i32>();
        let addresses: Vec<Option<IpAddr>> = texts.iter().map(|text| text?.parse().ok()).collect();
        let ports = batch["nat_sport"].as_primitive::<UInt16Type>();
        let key = |row| {
            let address = addresses[sources.key(row)?]?;
            ports.is_valid(row).then(|| key(address, ports.value(row)))
        };
        self.keys.extend((0..batch.num_rows()).filter_map(key));
    }

    /// The bytes of the filter. Afterwards there are no sources.
    ///
    /// # Errors
    ///
    /// There are none: the filter is written to memory.
    pub fn take(&mut self) -> Result<Vec<u8>> {
        let blocks = (self.keys.len() * BITS_PER_KEY).div_ceil(BLOCK_BITS);
        let mut filter = Sbbf::new(&vec![0; blocks * BLOCK_BITS / 8]);
        for key in self.keys.drain(..) {
            filter.insert(&key);
        }
        let mut bytes = Vec::new();
        filter.write_bitset(&mut bytes)?;
        Ok(bytes)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.offset, self.length)
    }
}

impl std::str::FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (offset, length) = text.split_once('+').unwrap_or((text, ""));
        Ok(Self {
            offset: offset.parse()?,
            length: length.parse()?,
        })
    }
}

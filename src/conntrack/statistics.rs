//! Conntrack's own counters.

use super::kernel::{FIXED_BYTES, cta_stats, cta_stats_global};
use crate::message::Message;

/// What conntrack has counted on one CPU since the namespace was created (`enum ctattr_stats_cpu`). The counters wrap
/// at 32 bits.
///
/// A kernel sends the counters that it has; the others are None (Linux v6.18, net/netfilter/nf_conntrack_netlink.c,
/// `ctnetlink_ct_stat_cpu_fill_info`).
///
/// ```
/// use nlring::ErrorKind;
/// use nlring::conntrack::{CpuStatistics, Requests};
///
/// let each_cpu: Vec<CpuStatistics> = match Requests::open()?.statistics() {
///     Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()), // without CAP_NET_ADMIN
///     each_cpu => each_cpu?,
/// };
/// let dropped: u32 = each_cpu.iter().filter_map(|cpu| cpu.drop).sum();
/// println!("{dropped} packets dropped");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CpuStatistics {
    /// The CPU's number.
    pub cpu: u16,
    /// Lookups. Later kernels do not count them.
    pub searched: Option<u32>,
    /// Lookups that found an entry.
    pub found: Option<u32>,
    /// Entries that were created. Later kernels do not count them.
    pub new: Option<u32>,
    /// Packets that could not be tracked.
    pub invalid: Option<u32>,
    /// Packets that needed no lookup. Later kernels do not count them.
    pub ignore: Option<u32>,
    /// Entries that were removed. Later kernels do not count them.
    pub delete: Option<u32>,
    /// Entries that were put on the dying list. Later kernels do not count them.
    pub delete_list: Option<u32>,
    /// Entries that were put into the table.
    pub insert: Option<u32>,
    /// Entries that were not put into the table, because it had one with the same tuple.
    pub insert_failed: Option<u32>,
    /// Packets that were dropped because no entry could be created or put into the table.
    pub drop: Option<u32>,
    /// Entries that were removed early, to make room for new ones in a full table.
    pub early_drop: Option<u32>,
    /// ICMP errors that could not be tracked.
    pub error: Option<u32>,
    /// Lookups that started again because the table changed.
    pub search_restart: Option<u32>,
    /// Races between two first packets of a flow that the kernel resolved. Available since Linux 5.10.
    pub clash_resolve: Option<u32>,
    /// Entries that were not put into the table, because too many had the same hash. Available since Linux 5.15.
    pub chain_toolong: Option<u32>,
}

impl CpuStatistics {
    /// None if the message is too short. `struct nfgenmsg` contains the CPU's number.
    pub(super) fn decode(message: &Message<'_>) -> Option<Self> {
        let &[_family, _version, cpu_high, cpu_low, ..] = message.payload() else {
            return None;
        };
        let mut statistics = Self {
            cpu: u16::from_be_bytes([cpu_high, cpu_low]),
            ..Self::default()
        };
        for attribute in message.attributes(FIXED_BYTES) {
            if let Some(counter) = statistics.counter(attribute.attribute_type()) {
                *counter = attribute.as_be32();
            }
        }
        Some(statistics)
    }

    fn counter(&mut self, attribute_type: u16) -> Option<&mut Option<u32>> {
        Some(match attribute_type {
            cta_stats::SEARCHED => &mut self.searched,
            cta_stats::FOUND => &mut self.found,
            cta_stats::NEW => &mut self.new,
            cta_stats::INVALID => &mut self.invalid,
            cta_stats::IGNORE => &mut self.ignore,
            cta_stats::DELETE => &mut self.delete,
            cta_stats::DELETE_LIST => &mut self.delete_list,
            cta_stats::INSERT => &mut self.insert,
            cta_stats::INSERT_FAILED => &mut self.insert_failed,
            cta_stats::DROP => &mut self.drop,
            cta_stats::EARLY_DROP => &mut self.early_drop,
            cta_stats::ERROR => &mut self.error,
            cta_stats::SEARCH_RESTART => &mut self.search_restart,
            cta_stats::CLASH_RESOLVE => &mut self.clash_resolve,
            cta_stats::CHAIN_TOOLONG => &mut self.chain_toolong,
            _ => return None,
        })
    }
}

/// How full the table is (`enum ctattr_stats_global`).
///
/// ```
/// use nlring::ErrorKind;
/// use nlring::conntrack::{Requests, TableStatistics};
///
/// let table: TableStatistics = match Requests::open()?.table_statistics() {
///     Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()), // without CAP_NET_ADMIN
///     table => table?,
/// };
/// println!("{} flows, at most {:?}", table.entry_count, table.max_entry_count);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TableStatistics {
    /// The number of flows in this namespace.
    pub entry_count: u32,
    /// The largest number of flows: `net.netfilter.nf_conntrack_max`. Available since Linux 4.18.
    pub max_entry_count: Option<u32>,
}

impl TableStatistics {
    pub(super) fn decode(message: &Message<'_>) -> Option<Self> {
        let attributes = message.attributes(FIXED_BYTES);
        Some(Self {
            entry_count: attributes.get(cta_stats_global::ENTRIES)?.as_be32()?,
            max_entry_count: attributes
                .get(cta_stats_global::MAX_ENTRIES)
                .and_then(|max| max.as_be32()),
        })
    }
}

/// What a fuzzer reads.
#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use super::{CpuStatistics, Message, TableStatistics};

    pub(crate) fn decode_statistics(message: &Message<'_>) -> String {
        let (cpu, table) = (
            CpuStatistics::decode(message),
            TableStatistics::decode(message),
        );
        format!("{cpu:?} {table:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageBuilder, Messages};

    #[test]
    fn counters_have_their_numbers_and_the_cpu_its_own() {
        let mut bytes = Vec::new();
        let mut builder = MessageBuilder::new(&mut bytes, 0x104, 0).bytes(&[0, 0, 1, 2]);
        for counter in 1..=16 {
            builder = builder.attribute_be32(counter, 100 + u32::from(counter));
        }
        builder.finish().unwrap();
        let statistics = CpuStatistics::decode(&Messages::new(&bytes).next().unwrap()).unwrap();
        assert_eq!(statistics.cpu, 0x102);
        assert_eq!(
            (statistics.searched, statistics.found),
            (Some(101), Some(102))
        );
        assert_eq!((statistics.insert, statistics.drop), (Some(108), Some(110)));
        assert_eq!(statistics.chain_toolong, Some(115));
    }

    #[test]
    fn a_truncated_counter_is_none() {
        let mut bytes = Vec::new();
        let builder = MessageBuilder::new(&mut bytes, 0x105, 0).bytes(&[0; 4]);
        builder.attribute_u8(1, 3).finish().unwrap();
        let message = Messages::new(&bytes).next().unwrap();
        assert_eq!(TableStatistics::decode(&message), None);
        let short = MessageBuilder::new(&mut bytes, 0x104, 0);
        short.finish().unwrap();
        let message = Messages::new(&bytes).last().unwrap();
        assert_eq!(CpuStatistics::decode(&message), None);
    }
}

//! Dumps of the flows that match a filter.

use std::net::IpAddr;

use super::Filter;
use super::term::{End, Kind, Side, Term};
use crate::conntrack::DumpFilter;
use crate::family::Family;

impl Filter {
    /// The criteria by which the kernel can leave flows out of a dump. With these,
    /// [`Requests::dump`](crate::conntrack::Requests::dump) returns all flows that match the filter, and perhaps
    /// others. So evaluate [`matches`](Self::matches) on each.
    ///
    /// They are the values that every matching flow must have: family, zone, mark, status, and the protocol, addresses
    /// and ports of the original tuple.
    ///
    /// ```
    /// use nlring::Family;
    /// use nlring::conntrack::{DumpFilter, Filter, status};
    ///
    /// let filter: Filter = "src 10.0.0.0/8 and not status assured and mark 0x10/0xf0".parse()?;
    /// let wider = DumpFilter::new()
    ///     .family(Family::INET)
    ///     .status(0, status::ASSURED)
    ///     .mark(0x10, 0xf0);
    /// assert_eq!(filter.dump_filter(), wider);
    /// # Ok::<(), nlring::filter::ParseError>(())
    /// ```
    pub fn dump_filter(&self) -> DumpFilter {
        let mut wanted = Wanted::default();
        for (term, is_negated) in self.required_terms() {
            wanted.note(&term, is_negated);
        }
        wanted.filter()
    }
}

/// The values that every matching flow must have. Of two values that exclude each other, one is enough.
#[derive(Default)]
struct Wanted {
    family: Option<Family>,
    zone: Option<u16>,
    /// Value and mask.
    mark: (u32, u32),
    status: (u32, u32),
    protocol: Option<u8>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
}

impl Wanted {
    fn note(&mut self, term: &Term, is_negated: bool) {
        self.note_orig(term, is_negated);
        match (&term.0, is_negated) {
            (Kind::Family(family), false) => self.family = Some(*family),
            (Kind::Family(Family::INET), true) => self.family = Some(Family::INET6),
            (Kind::Family(Family::INET6), true) => self.family = Some(Family::INET),
            (
                Kind::Address(_, _, prefix)
                | Kind::SrcNat(Some(prefix))
                | Kind::DstNat(Some(prefix)),
                false,
            ) => self.family = Some(family_of(prefix.address())),
            (Kind::Zone(Side::Any, id), false) => self.zone = Some(*id),
            (Kind::Mark { value, mask }, false) => join(&mut self.mark, (*value, *mask)),
            (Kind::Status(bits), false) => join(&mut self.status, (*bits, *bits)),
            // With several bits, it is not known which one is clear.
            (Kind::Status(bits), true) if bits.is_power_of_two() => {
                join(&mut self.status, (0, *bits));
            }
            _ => {}
        }
    }

    /// Records what the original tuple must have.
    fn note_orig(&mut self, term: &Term, is_negated: bool) {
        match &term.0 {
            _ if is_negated => {}
            Kind::Protocol(protocol) => self.protocol = Some(*protocol),
            Kind::Address(Side::Orig, end, prefix) if prefix.is_one_address() => match end {
                End::Src => self.src = Some(prefix.address()),
                End::Dst => self.dst = Some(prefix.address()),
                End::Either => {}
            },
            Kind::Port(Side::Orig, end, ports) => {
                let port = ports.single().and_then(|port| u16::try_from(port).ok());
                match end {
                    End::Src => self.src_port = port.or(self.src_port),
                    End::Dst => self.dst_port = port.or(self.dst_port),
                    End::Either => {}
                }
            }
            _ => {}
        }
    }

    fn filter(self) -> DumpFilter {
        let mut filter = DumpFilter::new();
        if let Some(protocol) = self.protocol {
            filter = filter.protocol(protocol);
        }
        if let Some(src) = self.src {
            filter = filter.src(src);
        }
        if let Some(dst) = self.dst {
            filter = filter.dst(dst);
        }
        if let Some(port) = self.src_port {
            filter = filter.sport(port);
        }
        if let Some(port) = self.dst_port {
            filter = filter.dport(port);
        }
        if let Some(family) = self.family {
            filter = filter.family(family);
        }
        if let Some(zone) = self.zone {
            filter = filter.zone(zone);
        }
        let (value, mask) = self.mark;
        if mask != 0 {
            filter = filter.mark(value, mask);
        }
        let (value, mask) = self.status;
        if mask != 0 {
            filter = filter.status(value, mask);
        }
        filter
    }
}

fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::INET,
        IpAddr::V6(_) => Family::INET6,
    }
}

/// Adds bits that are not required yet.
fn join((wanted, mask): &mut (u32, u32), (more, more_mask): (u32, u32)) {
    let new_bits = more_mask & !*mask;
    *wanted |= more & new_bits;
    *mask |= new_bits;
}

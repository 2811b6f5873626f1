//! How NAT translates a flow.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::flow::Flow;
use super::kernel::status;
use super::tuple::{Layer4, Tuple};

/// An address with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port, the GRE key, or the identifier of a sender of ICMP queries. None if the protocol has none of these.
    pub port: Option<u16>,
}

impl Endpoint {
    pub(super) fn new(address: IpAddr, port: Option<u16>) -> Self {
        Self { address, port }
    }

    /// The second end, if it differs from the first.
    #[inline]
    fn changed(from: (IpAddr, Option<u16>), to: (IpAddr, Option<u16>)) -> Option<Self> {
        let (address, port) = to;
        (from != to).then_some(Self { address, port })
    }
}

/// `address:port`, with an IPv6 address in brackets, or the address alone.
///
/// ```
/// # use nlring::conntrack::{Layer4, Tuple};
/// let tuple = Tuple::new("fd00::1".parse()?, "fd00::2".parse()?, 6, Layer4::Ports { src: 40_000, dst: 443 });
/// assert_eq!(tuple.to_string(), "tcp [fd00::1]:40000 -> [fd00::2]:443");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => fmt::Display::fmt(&SocketAddr::new(self.address, port), f),
            None => fmt::Display::fmt(&self.address, f),
        }
    }
}

/// What the addresses of a flow are translated to: the result of [`Flow::nat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Nat {
    /// The source that the destination sees. None if the source is not translated.
    pub src: Option<Endpoint>,
    /// The actual destination of the packets. None if the destination is not translated.
    pub dst: Option<Endpoint>,
}

impl Flow<'_> {
    /// Whether this flow lost a NAT race: another flow has the same [`key`](Self::key), and only their reply tuples
    /// differ.
    ///
    /// If two packets of one UDP socket start flows at the same moment, NAT can give each a different reply tuple. The
    /// kernel keeps both flows. The second one ends after one second or with its first answer. Its end causes an event,
    /// its beginning does not (Linux v6.18, net/netfilter/nf_conntrack_core.c, `nf_ct_resolve_clash_harder`).
    #[inline]
    pub fn is_nat_clash(&self) -> bool {
        self.status.unwrap_or(0) & status::NAT_CLASH != 0
    }

    /// What the flow's addresses are translated to. The tuples show it, because answers go to the translated source and
    /// come from the translated destination. None if nothing is translated, or if the message has no reply tuple.
    ///
    /// The bits [`status::SRC_NAT`] and `DST_NAT` only say that a rule applied, which may have chosen the same address.
    #[inline]
    pub fn nat(&self) -> Option<Nat> {
        Nat::between(&self.orig, &self.reply?)
    }
}

impl Nat {
    /// What a flow's addresses are translated to, given its original tuple and that of its answers. None if nothing is
    /// translated.
    ///
    /// ```
    /// use nlring::conntrack::{Layer4, Nat, Tuple};
    ///
    /// let (client, server) = ("10.0.0.1".parse()?, "192.0.2.1".parse()?);
    /// let orig = Tuple::new(client, server, 6, Layer4::Ports { src: 40_000, dst: 443 });
    /// let ports = Layer4::Ports { src: 443, dst: 1024 };
    /// let reply = Tuple::new(server, "203.0.113.9".parse()?, 6, ports);
    /// let nat = Nat::between(&orig, &reply).unwrap();
    /// assert_eq!(nat.src.unwrap().to_string(), "203.0.113.9:1024");
    /// assert_eq!(nat.dst, None);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[inline]
    pub fn between(orig: &Tuple, reply: &Tuple) -> Option<Self> {
        // The identifier of an ICMP query belongs to its sender.
        let sender_port = |tuple: &Tuple, ports: Option<u16>| match tuple.layer4 {
            Layer4::Icmp { id, .. } => Some(id),
            _ => ports,
        };
        let (src_port, dst_port) = orig.ports().unzip();
        let (reply_src_port, reply_dst_port) = reply.ports().unzip();
        let src = Endpoint::changed(
            (orig.src, sender_port(orig, src_port)),
            (reply.dst, sender_port(reply, reply_dst_port)),
        );
        let dst = Endpoint::changed((orig.dst, dst_port), (reply.src, reply_src_port));
        (src.is_some() || dst.is_some()).then_some(Self { src, dst })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::kernel::cta;
    use crate::{MessageBuilder, MessageList};

    /// Appends a tuple from a source and its port to a destination and its port; addresses end in these numbers.
    fn tuple(
        builder: MessageBuilder<'_>,
        number: u16,
        protocol: u8,
        [src, src_port, dst, dst_port]: [u16; 4],
    ) -> MessageBuilder<'_> {
        let address = |host: u16| [&[10, 0][..], &host.to_be_bytes()].concat();
        builder.nested(number, |tuple| {
            let tuple = tuple.nested(1, |ip| {
                ip.attribute(1, &address(src)).attribute(2, &address(dst))
            });
            tuple.nested(2, |layer4| {
                let layer4 = layer4.attribute_u8(1, protocol);
                match protocol {
                    1 => layer4
                        .attribute_be16(4, src_port)
                        .attribute_u8(5, 8)
                        .attribute_u8(6, 0),
                    89 => layer4,
                    _ => layer4
                        .attribute_be16(2, src_port)
                        .attribute_be16(3, dst_port),
                }
            })
        })
    }

    fn flow_of(protocol: u8, orig: [u16; 4], reply: [u16; 4]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let message = MessageBuilder::new(&mut bytes, 0x100, 0).bytes(&[2, 0, 0, 0]);
        let message = tuple(message, cta::TUPLE_ORIG, protocol, orig);
        tuple(message, cta::TUPLE_REPLY, protocol, reply)
            .finish()
            .unwrap();
        bytes
    }

    #[test]
    fn translations_are_derived_from_the_tuples() {
        let nat = |protocol, orig, reply| {
            let bytes = flow_of(protocol, orig, reply);
            let list = MessageList::new(&bytes);
            let message = list.iter().next().unwrap();
            let nat = Flow::decode(&message).unwrap().nat()?;
            let end = |end: Endpoint| {
                let IpAddr::V4(address) = end.address else {
                    panic!()
                };
                (address.octets()[3], end.port)
            };
            Some((nat.src.map(end), nat.dst.map(end)))
        };
        let (tcp, icmp, ospf) = (6, 1, 89);
        assert_eq!(nat(tcp, [1, 1000, 2, 80], [2, 80, 1, 1000]), None);
        // Another source; another port alone; another destination; both.
        assert_eq!(
            nat(tcp, [1, 1000, 2, 80], [2, 80, 9, 1000]),
            Some((Some((9, Some(1000))), None))
        );
        assert_eq!(
            nat(tcp, [1, 1000, 2, 80], [2, 80, 1, 1001]),
            Some((Some((1, Some(1001))), None))
        );
        assert_eq!(
            nat(tcp, [1, 1000, 2, 80], [3, 8080, 1, 1000]),
            Some((None, Some((3, Some(8080)))))
        );
        assert_eq!(
            nat(tcp, [1, 1000, 2, 80], [3, 80, 9, 1001]),
            Some((Some((9, Some(1001))), Some((3, Some(80)))))
        );
        // The identifier is the source's.
        assert_eq!(nat(icmp, [1, 77, 2, 0], [2, 77, 1, 0]), None);
        assert_eq!(
            nat(icmp, [1, 77, 2, 0], [2, 78, 9, 0]),
            Some((Some((9, Some(78))), None))
        );
        assert_eq!(
            nat(icmp, [1, 77, 2, 0], [3, 77, 1, 0]),
            Some((None, Some((3, None))))
        );
        assert_eq!(
            nat(ospf, [1, 0, 2, 0], [2, 0, 9, 0]),
            Some((Some((9, None)), None))
        );
    }
}

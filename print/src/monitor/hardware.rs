//! Hardware types and hardware addresses.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::text::{write_decimal, write_ip};

/// Types whose addresses are IPv4 addresses: `ARPHRD_TUNNEL`, `ARPHRD_SIT`, `ARPHRD_IPGRE`.
const OVER_IPV4: [u16; 3] = [768, 776, 778];
/// Types whose addresses are IPv6 addresses: `ARPHRD_TUNNEL6`, `ARPHRD_IP6GRE`.
const OVER_IPV6: [u16; 2] = [769, 823];

/// Appends a hardware address as ip does: that of a tunnel as an IP address, and others in hexadecimal.
pub fn write_address(out: &mut Vec<u8>, bytes: &[u8], link_type: Option<u16>) {
    let is_of = |types: &[u16]| link_type.is_some_and(|link_type| types.contains(&link_type));
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes)
        && is_of(&OVER_IPV4)
    {
        return write_ip(out, Ipv4Addr::from(bytes).into());
    }
    if let Ok(bytes) = <[u8; 16]>::try_from(bytes)
        && is_of(&OVER_IPV6)
    {
        return write_ip(out, Ipv6Addr::from(bytes).into());
    }
    for (index, byte) in bytes.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        let _ = write!(out, "{colon}{byte:02x}"); // writing to a Vec cannot fail
    }
}

/// Appends a hardware address as a field of a JSON object.
pub fn write_address_field(out: &mut Vec<u8>, key: &str, bytes: &[u8], link_type: Option<u16>) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    write_address(out, bytes, link_type);
    out.extend_from_slice(b"\",");
}

/// Appends the name of a hardware type, or the number in brackets.
pub fn write_type(out: &mut Vec<u8>, link_type: u16) {
    if let Some(name) = type_name(link_type) {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(b'[');
        write_decimal(out, link_type);
        out.push(b']');
    }
}

/// The name of a hardware type (`ARPHRD_*`, include/uapi/linux/if_arp.h), as ip prints it.
#[rustfmt::skip]
pub fn type_name(link_type: u16) -> Option<&'static str> {
    Some(match link_type {
        0 => "netrom", 1 => "ether", 2 => "eether", 3 => "ax25", 4 => "pronet", 5 => "chaos", 6 => "ieee802",
        7 => "arcnet", 8 => "atalk", 15 => "dlci", 19 => "atm", 23 => "metricom", 24 => "ieee1394",
        32 => "infiniband", 256 => "slip", 257 => "cslip", 258 => "slip6", 259 => "cslip6", 260 => "rsrvd",
        264 => "adapt", 270 => "rose", 271 => "x25", 272 => "hwx25", 280 => "can", 512 => "ppp", 513 => "hdlc",
        516 => "lapb", 517 => "ddcmp", 518 => "rawhdlc", 768 => "ipip", 769 => "tunnel6", 770 => "frad",
        771 => "skip", 772 => "loopback", 773 => "ltalk", 774 => "fddi", 775 => "bif", 776 => "sit",
        777 => "ip/ddp", 778 => "gre", 779 => "pimreg", 780 => "hippi", 781 => "ash", 782 => "econet",
        783 => "irda", 784 => "fcpp", 785 => "fcal", 786 => "fcpl", 787 => "fcfb0", 788 => "fcfb1",
        789 => "fcfb2", 790 => "fcfb3", 791 => "fcfb4", 792 => "fcfb5", 793 => "fcfb6", 794 => "fcfb7",
        795 => "fcfb8", 796 => "fcfb9", 797 => "fcfb10", 798 => "fcfb11", 799 => "fcfb12", 800 => "tr",
        801 => "ieee802.11", 802 => "ieee802.11/prism", 803 => "ieee802.11/radiotap", 804 => "ieee802.15.4",
        805 => "ieee802.15.4/monitor", 820 => "phonet", 821 => "phonet_pipe", 822 => "caif", 823 => "gre6",
        824 => "netlink", 825 => "6lowpan", 0xfffe => "none", 0xffff => "void",
        _ => return None,
    })
}

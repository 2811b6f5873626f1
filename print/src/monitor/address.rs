//! An address of a device (ip's function `print_addrinfo`).

use std::io::Write as _;
use std::net::IpAddr;

use nlring::route::{InterfaceAddress, address_flags, scope_name};
use nlring::{EventKind, Family};

use crate::json::{bits, ip, name, number, optional, word_or_number};
use crate::route::DeviceNames;
use crate::route::json::write_family;
use crate::route::text::Line;
use crate::text::{write_decimal, write_escaped, write_ip};

/// The names of the bits `IFA_F_*`, lowest bit first. ip prints them in this order, except for `permanent`.
#[rustfmt::skip]
const FLAGS: [&str; 12] = [
    "secondary", "nodad", "optimistic", "dadfailed", "home", "deprecated", "tentative", "permanent",
    "mngtmpaddr", "noprefixroute", "autojoin", "stable-privacy",
];

impl Line<'_> {
    pub(crate) fn interface_address(&mut self, address: &InterfaceAddress<'_>) {
        if address.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        write_decimal(self.out, address.index);
        self.device(": ", address.index);
        self.out.pop(); // the blank
        self.text("    ");
        self.family_name(address.family);
        self.own_address(address);
        if let Some(broadcast) = address.broadcast {
            self.labelled_ip("brd ", broadcast);
        }
        if let Some(anycast) = address.anycast {
            self.labelled_ip("any ", anycast);
        }
        self.name("scope ", &self.names.scopes, address.scope.into());
        self.address_flags(address);
        if let Some(label) = address.label {
            write_escaped(self.out, label);
        }
        self.lifetimes(address);
        self.text("\n");
    }

    fn family_name(&mut self, family: Family) {
        match family_name(family) {
            Some(name) => {
                self.text(name);
                self.text(" ");
            }
            None => self.number("family ", family.number()),
        }
    }

    fn own_address(&mut self, address: &InterfaceAddress<'_>) {
        let Some(own) = address.own() else {
            return;
        };
        write_ip(self.out, own);
        if let Some(peer) = address.peer() {
            self.text(" peer ");
            write_ip(self.out, peer);
        }
        self.number("/", address.prefix_len);
        if let Some(priority) = address.priority {
            self.number("metric ", priority);
        }
    }

    fn labelled_ip(&mut self, label: &str, address: IpAddr) {
        self.text(label);
        write_ip(self.out, address);
        self.text(" ");
    }

    /// Appends the flags. An address without `permanent` is dynamic, and an IPv6 address that is secondary is
    /// temporary.
    fn address_flags(&mut self, address: &InterfaceAddress<'_>) {
        let mut left = address.flags;
        for (bit, name) in FLAGS.iter().enumerate() {
            let mask = 1 << bit;
            left &= !mask;
            let is_set = address.flags & mask != 0;
            match mask {
                address_flags::PERMANENT if !is_set => self.text("dynamic "),
                address_flags::PERMANENT => {}
                address_flags::SECONDARY if is_set && address.family == Family::INET6 => {
                    self.text("temporary ");
                }
                _ if is_set => {
                    self.text(name);
                    self.text(" ");
                }
                _ => {}
            }
        }
        if left != 0 {
            let _ = write!(self.out, "flags {left:02x} "); // writing to a Vec cannot fail
        }
    }

    fn lifetimes(&mut self, address: &InterfaceAddress<'_>) {
        let (Some(valid), Some(preferred)) = (address.valid_seconds, address.preferred_seconds)
        else {
            return;
        };
        self.text("\n       valid_lft ");
        self.lifetime(valid);
        self.text(" preferred_lft ");
        if address.flags & address_flags::DEPRECATED != 0 && preferred != u32::MAX {
            write_decimal(self.out, preferred.cast_signed());
            self.text("sec");
        } else {
            self.lifetime(preferred);
        }
    }

    fn lifetime(&mut self, seconds: u32) {
        if seconds == u32::MAX {
            self.text("forever");
        } else {
            write_decimal(self.out, seconds);
            self.text("sec");
        }
    }
}

/// The name of a family, as ip prints it.
pub fn family_name(family: Family) -> Option<&'static str> {
    Some(match family {
        Family::INET => "inet",
        Family::INET6 => "inet6",
        Family::PACKET => "link",
        Family::MPLS => "mpls",
        Family::BRIDGE => "bridge",
        _ => return None,
    })
}

/// Appends the fields of the JSON object.
pub fn write_json(out: &mut Vec<u8>, address: &InterfaceAddress<'_>, devices: &DeviceNames) {
    write_family(out, address.family);
    number(out, r#""index":"#, address.index);
    if let Some(device) = devices.get(address.index) {
        name(out, r#""dev":"#, device);
    }
    for (key, value) in [
        (r#""address":"#, address.own()),
        (r#""peer":"#, address.peer()),
        (r#""broadcast":"#, address.broadcast),
        (r#""anycast":"#, address.anycast),
    ] {
        if let Some(value) = value {
            ip(out, key, value);
        }
    }
    number(out, r#""prefix_len":"#, address.prefix_len);
    optional(out, r#""priority":"#, address.priority);
    word_or_number(
        out,
        r#""scope":"#,
        scope_name(address.scope),
        address.scope.into(),
    );
    if address.flags != 0 {
        bits(out, r#""flags":"#, address.flags, &FLAGS);
    }
    if let Some(label) = address.label {
        name(out, r#""label":"#, label);
    }
    optional(out, r#""valid_s":"#, address.valid_seconds);
    optional(out, r#""preferred_s":"#, address.preferred_seconds);
    optional(out, r#""address_protocol":"#, address.protocol);
}

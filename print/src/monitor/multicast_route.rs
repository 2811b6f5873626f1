//! A multicast route (ip's function `print_mroute`).

use std::net::IpAddr;

use nlring::EventKind;
use nlring::route::{MulticastRoute, route_flags, route_type_name, table};

use crate::json::{close, ip, number, optional, word_or_number};
use crate::route::json::{write_device, write_family, write_flags};
use crate::route::text::Line;
use crate::route::{DeviceNames, IprouteNames};
use crate::text::write_ip;

impl Line<'_> {
    pub(crate) fn multicast_route(&mut self, route: &MulticastRoute<'_>) {
        if route.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        let start = self.out.len();
        self.text("(");
        self.ip_or_unknown(route.src);
        self.text(",");
        self.ip_or_unknown(route.dst);
        self.text(")");
        self.pad(start, 32);
        self.text(" Iif: ");
        match route.iif.filter(|&iif| iif != 0) {
            Some(iif) => {
                let start = self.out.len();
                self.device("", iif);
                self.out.pop(); // the blank
                self.pad(start, 10);
                self.text(" ");
            }
            None => self.text("unresolved "),
        }
        let mut label = "Oifs: ";
        for hop in route.hops {
            self.device(label, hop.oif);
            label = "";
            if hop.ttl > 1 {
                self.out.pop(); // the blank
                self.number("(ttl ", hop.ttl);
                self.out.pop(); // the blank
                self.text(") ");
            }
        }
        self.text(if route.is_unresolved() {
            " State: unresolved"
        } else {
            " State: resolved"
        });
        if route.flags & route_flags::OFFLOAD != 0 {
            self.text(" offload");
        }
        if route.table != 0 && route.table != table::MAIN {
            self.name(" Table: ", &self.names.tables, route.table);
            self.out.pop(); // the blank
        }
        self.text("\n");
    }

    fn ip_or_unknown(&mut self, address: Option<IpAddr>) {
        match address {
            Some(address) => write_ip(self.out, address),
            None => self.text("unknown"),
        }
    }

    /// Fills what was written since `start` up with blanks to a width.
    fn pad(&mut self, start: usize, width: usize) {
        let end = self.out.len().max(start + width);
        self.out.resize(end, b' ');
    }
}

/// Appends the fields of the JSON object.
pub fn write_json(
    out: &mut Vec<u8>,
    route: &MulticastRoute<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
) {
    write_family(out, route.family);
    let known = route_type_name(route.route_type);
    word_or_number(out, r#""type":"#, known, route.route_type.into());
    for (key, address) in [(r#""src":"#, route.src), (r#""dst":"#, route.dst)] {
        if let Some(address) = address {
            ip(out, key, address);
        }
    }
    if let Some(iif) = route.iif {
        number(out, r#""iif":"#, iif);
        if let Some(device) = devices.get(iif) {
            crate::json::name(out, r#""iif_name":"#, device);
        }
    }
    out.extend_from_slice(br#""hops":["#);
    for hop in route.hops {
        out.push(b'{');
        write_device(out, devices, Some(hop.oif));
        number(out, r#""ttl":"#, hop.ttl);
        close(out, b'}');
    }
    close(out, b']');
    names.write_table(out, route.table);
    names.write_protocol(out, route.protocol);
    write_flags(out, route.flags);
    if let Some(statistics) = route.statistics {
        number(out, r#""packets":"#, statistics.packets);
        number(out, r#""bytes":"#, statistics.bytes);
        number(out, r#""wrong_device":"#, statistics.wrong_device);
    }
    let idle_ms = route.idle.map(|hundredths| hundredths.saturating_mul(10));
    optional(out, r#""idle_ms":"#, idle_ms);
}

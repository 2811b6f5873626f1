//! A neighbour (ip's function `print_neigh`).

use nlring::EventKind;
use nlring::route::{Neighbour, neighbour_flags, route_type, route_type_name};

use super::hardware;
use crate::json::{bits, ip, name, number, optional, word_or_number};
use crate::route::json::write_family;
use crate::route::text::Line;
use crate::route::{DeviceNames, IprouteNames};
use crate::text::write_ip;

/// The names of the bits `NUD_*`, lowest bit first.
#[rustfmt::skip]
const STATES: [(&str, &str); 8] = [
    ("INCOMPLETE ", "incomplete"), ("REACHABLE ", "reachable"), ("STALE ", "stale"), ("DELAY ", "delay"),
    ("PROBE ", "probe"), ("FAILED ", "failed"), ("NOARP ", "noarp"), ("PERMANENT ", "permanent"),
];

/// The words for the bits `NTF_*`, lowest bit first.
#[rustfmt::skip]
const FLAG_WORDS: [&str; 9] = [
    "use", "self", "master", "proxy", "ext-learned", "offloaded", "sticky", "router", "managed",
];

impl Line<'_> {
    pub(crate) fn neighbour(&mut self, neighbour: &Neighbour<'_>) {
        if neighbour.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        if let Some(dst) = neighbour.dst {
            write_ip(self.out, dst);
            self.text(" ");
        }
        if neighbour.index != 0 {
            self.device("dev ", neighbour.index);
        }
        if let Some(address) = neighbour.address {
            self.text("lladdr ");
            let link_type = self.devices.link_type(neighbour.index);
            hardware::write_address(self.out, address, link_type);
            self.text(" ");
        }
        for (flag, name) in [
            (neighbour_flags::ROUTER, "router "),
            (neighbour_flags::PROXY, "proxy "),
            (neighbour_flags::MANAGED, "managed "),
            (neighbour_flags::EXT_LEARNED, "extern_learn "),
            (neighbour_flags::OFFLOADED, "offload "),
        ] {
            if neighbour.flags & flag != 0 {
                self.text(name);
            }
        }
        for (bit, (name, _)) in STATES.iter().enumerate() {
            if neighbour.state >> bit & 1 != 0 {
                self.text(name);
            }
        }
        if let Some(protocol) = neighbour.protocol.filter(|&protocol| protocol != 0) {
            self.name("proto ", &self.names.protocols, protocol.into());
        }
        self.text("\n");
    }
}

/// Appends the fields of the JSON object.
pub fn write_json(
    out: &mut Vec<u8>,
    neighbour: &Neighbour<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
) {
    write_family(out, neighbour.family);
    if neighbour.index != 0 {
        number(out, r#""index":"#, neighbour.index);
    }
    if let Some(device) = devices.get(neighbour.index) {
        name(out, r#""dev":"#, device);
    }
    if let Some(dst) = neighbour.dst {
        ip(out, r#""dst":"#, dst);
    }
    if let Some(address) = neighbour.address {
        let link_type = devices.link_type(neighbour.index);
        hardware::write_address_field(out, r#""address":"#, address, link_type);
    }
    bits(
        out,
        r#""state":"#,
        neighbour.state.into(),
        &STATES.map(|(_, word)| word),
    );
    if neighbour.flags != 0 {
        bits(out, r#""flags":"#, neighbour.flags, &FLAG_WORDS);
    }
    if neighbour.neighbour_type != route_type::UNICAST && neighbour.neighbour_type != 0 {
        let known = route_type_name(neighbour.neighbour_type);
        word_or_number(out, r#""type":"#, known, neighbour.neighbour_type.into());
    }
    if let Some(protocol) = neighbour.protocol.filter(|&protocol| protocol != 0) {
        names.write_protocol(out, protocol);
    }
    optional(out, r#""probes":"#, neighbour.probe_count);
    if let Some(times) = neighbour.times {
        let ms = |hundredths: u32| u64::from(hundredths) * 10;
        number(out, r#""used_ms":"#, ms(times.used));
        number(out, r#""confirmed_ms":"#, ms(times.confirmed));
        number(out, r#""updated_ms":"#, ms(times.updated));
        number(out, r#""references":"#, times.reference_count);
    }
    write_forwarding(out, neighbour, devices);
}

/// Appends the fields that only entries of forwarding databases have.
fn write_forwarding(out: &mut Vec<u8>, neighbour: &Neighbour<'_>, devices: &DeviceNames) {
    optional(out, r#""master":"#, neighbour.master);
    if let Some(master) = neighbour.master.and_then(|index| devices.get(index)) {
        name(out, r#""master_name":"#, master);
    }
    optional(out, r#""vlan":"#, neighbour.vlan);
    optional(out, r#""port":"#, neighbour.port);
    optional(out, r#""vni":"#, neighbour.vni);
    optional(out, r#""via_index":"#, neighbour.via_index);
    optional(out, r#""nexthop_id":"#, neighbour.nexthop_id);
}

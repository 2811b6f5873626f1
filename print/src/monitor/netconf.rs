//! Settings of a device (ip's function `print_netconf`).

use nlring::EventKind;
use nlring::route::{Netconf, NetconfScope};

use super::address::family_name;
use crate::json::{name, number, optional, word};
use crate::route::DeviceNames;
use crate::route::json::write_family;
use crate::route::text::Line;

const RP_FILTERS: [&str; 3] = ["off", "strict", "loose"];

impl Line<'_> {
    pub(crate) fn netconf(&mut self, netconf: &Netconf) {
        if netconf.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        self.text(family_name(netconf.family).unwrap_or("???"));
        self.text(" ");
        match netconf.scope {
            Some(NetconfScope::All) => self.text("all "),
            Some(NetconfScope::Default) => self.text("default "),
            Some(NetconfScope::Device(index)) => self.device("", index),
            None => {}
        }
        self.on_off("forwarding ", netconf.forwarding);
        if let Some(rp_filter) = netconf.rp_filter {
            match RP_FILTERS.get(rp_filter as usize) {
                Some(name) => {
                    self.text("rp_filter ");
                    self.text(name);
                    self.text(" ");
                }
                None => self.number("rp_filter ", rp_filter),
            }
        }
        self.on_off("mc_forwarding ", netconf.mc_forwarding);
        self.on_off("proxy_neigh ", netconf.proxy_neighbour);
        self.on_off(
            "ignore_routes_with_linkdown ",
            netconf.ignore_routes_with_linkdown,
        );
        self.on_off("input ", netconf.input);
        self.text("\n");
    }

    fn on_off(&mut self, label: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.text(label);
            self.text(if value == 0 { "off " } else { "on " });
        }
    }
}

/// Appends the fields of the JSON object.
pub fn write_json(out: &mut Vec<u8>, netconf: &Netconf, devices: &DeviceNames) {
    write_family(out, netconf.family);
    match netconf.scope {
        Some(NetconfScope::All) => word(out, r#""of":"#, "all"),
        Some(NetconfScope::Default) => word(out, r#""of":"#, "default"),
        Some(NetconfScope::Device(index)) => {
            number(out, r#""index":"#, index);
            if let Some(device) = devices.get(index) {
                name(out, r#""dev":"#, device);
            }
        }
        None => {}
    }
    for (key, value) in [
        (r#""forwarding":"#, netconf.forwarding),
        (r#""rp_filter":"#, netconf.rp_filter),
        (r#""mc_forwarding":"#, netconf.mc_forwarding),
        (r#""proxy_neigh":"#, netconf.proxy_neighbour),
        (
            r#""ignore_routes_with_linkdown":"#,
            netconf.ignore_routes_with_linkdown,
        ),
        (r#""input":"#, netconf.input),
        (r#""bc_forwarding":"#, netconf.bc_forwarding),
    ] {
        optional(out, key, value);
    }
}

//! A device (ip's function `print_linkinfo`).

use std::io::Write as _;

use nlring::route::{Link, link_flags};
use nlring::{EventKind, Family};

use super::hardware;
use crate::json::{bits, close, name, number, optional, word, word_or_number};
use crate::route::json::write_family;
use crate::route::text::Line;
use crate::route::{DeviceNames, IprouteNames};
use crate::text::{write_decimal, write_escaped, write_hex};

/// The names of the bits `IFF_*`, in the order in which ip prints them.
#[rustfmt::skip]
const FLAGS: [(u32, &str); 18] = [
    (1 << 3, "LOOPBACK"), (1 << 1, "BROADCAST"), (1 << 4, "POINTOPOINT"), (1 << 12, "MULTICAST"),
    (1 << 7, "NOARP"), (1 << 9, "ALLMULTI"), (1 << 8, "PROMISC"), (1 << 10, "MASTER"), (1 << 11, "SLAVE"),
    (1 << 2, "DEBUG"), (1 << 15, "DYNAMIC"), (1 << 14, "AUTOMEDIA"), (1 << 13, "PORTSEL"),
    (1 << 5, "NOTRAILERS"), (1 << 0, "UP"), (1 << 16, "LOWER_UP"), (1 << 17, "DORMANT"), (1 << 18, "ECHO"),
];

/// The words for the bits `IFF_*`, lowest bit first.
#[rustfmt::skip]
const FLAG_WORDS: [&str; 19] = [
    "up", "broadcast", "debug", "loopback", "pointopoint", "notrailers", "running", "noarp",
    "promisc", "allmulti", "master", "slave", "multicast", "portsel", "automedia", "dynamic",
    "lower-up", "dormant", "echo",
];

/// The operational states (`IF_OPER_*`).
const OPER_STATES: [(&str, &str); 7] = [
    ("UNKNOWN", "unknown"),
    ("NOTPRESENT", "not-present"),
    ("DOWN", "down"),
    ("LOWERLAYERDOWN", "lower-layer-down"),
    ("TESTING", "testing"),
    ("DORMANT", "dormant"),
    ("UP", "up"),
];

/// Why a message was sent (`IFLA_EVENT_*`).
const EVENTS: [(&str, &str); 7] = [
    ("NONE", "none"),
    ("REBOOT", "reboot"),
    ("FEATURE CHANGE", "feature-change"),
    ("BONDING FAILOVER", "bonding-failover"),
    ("NOTIFY PEERS", "notify-peers"),
    ("RESEND IGMP", "resend-igmp"),
    ("BONDING OPTION", "bonding-option"),
];

impl Line<'_> {
    pub(crate) fn link(&mut self, link: &Link<'_>) {
        if link.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        write_decimal(self.out, link.index);
        self.text(": ");
        self.device_name(link.name, link.index);
        self.lower_device(link);
        self.text(": ");
        let is_lower_down = link.link_netnsid.is_none()
            && link.link.is_some_and(|index| self.devices.is_down(index));
        self.link_flags(link.flags, is_lower_down);
        self.link_settings(link);
        self.link_addresses(link);
        self.link_namespaces(link);
        self.proto_down(link);
        for alt_name in link.alt_names {
            self.text("\n    altname ");
            write_escaped(self.out, alt_name);
        }
        self.text("\n");
    }

    fn device_name(&mut self, name: Option<&[u8]>, index: u32) {
        if let Some(name) = name {
            write_escaped(self.out, name);
        } else {
            self.text("if");
            write_decimal(self.out, index);
        }
    }

    /// Appends the device that this one is built on or paired with.
    fn lower_device(&mut self, link: &Link<'_>) {
        match link.link {
            None => {}
            Some(0) => self.text("@NONE"),
            Some(index) if link.link_netnsid.is_some() => {
                self.text("@");
                self.device_name(None, index);
            }
            Some(index) => {
                self.text("@");
                self.device_name(self.devices.get(index), index);
            }
        }
    }

    fn link_flags(&mut self, flags: u32, is_lower_down: bool) {
        self.text("<");
        let mut separator = "";
        if flags & link_flags::UP != 0 && flags & link_flags::RUNNING == 0 {
            self.text("NO-CARRIER");
            separator = ",";
        }
        let mut left = flags & !link_flags::RUNNING;
        for (bit, name) in FLAGS.iter().filter(|(bit, _)| flags & bit != 0) {
            self.text(separator);
            self.text(name);
            separator = ",";
            left &= !bit;
        }
        if left != 0 {
            self.text(separator);
            write_hex(self.out, left.into());
        }
        self.text(if is_lower_down { ",M-DOWN> " } else { "> " });
    }

    fn link_settings(&mut self, link: &Link<'_>) {
        if let Some(mtu) = link.mtu {
            self.number("mtu ", mtu);
        }
        self.xdp(link);
        if let Some(qdisc) = link.qdisc {
            self.text("qdisc ");
            write_escaped(self.out, qdisc);
            self.text(" ");
        }
        if let Some(master) = link.master {
            self.device("master ", master);
        }
        if let Some(state) = link.oper_state {
            self.text("state ");
            match OPER_STATES.get(usize::from(state)) {
                Some((name, _)) => {
                    self.text(name);
                    self.text(" ");
                }
                None => {
                    let _ = write!(self.out, "{state:#x}"); // writing to a Vec cannot fail
                }
            }
        }
        if let Some(group) = link.group {
            self.name("group ", &self.names.groups, group);
        }
        match link.event {
            None | Some(0) => {}
            Some(event) => match EVENTS.get(event as usize) {
                Some((name, _)) => {
                    self.text("event ");
                    self.text(name);
                    self.text(" ");
                }
                None => self.number("event ", event),
            },
        }
    }

    fn xdp(&mut self, link: &Link<'_>) {
        let Some(mode) = link.xdp_mode.filter(|&mode| mode != 0) else {
            return;
        };
        match mode {
            1 => self.text("xdp"),
            2 => self.text("xdpgeneric"),
            3 => self.text("xdpoffload"),
            4 => self.text("xdpmulti"),
            _ => {
                let _ = write!(self.out, "xdp[{mode}]"); // writing to a Vec cannot fail
            }
        }
        if let Some(id) = link.xdp_program_id.filter(|&id| id != 0) {
            self.text("/id:");
            write_decimal(self.out, id);
        }
        self.text(" ");
    }

    fn link_addresses(&mut self, link: &Link<'_>) {
        self.text("\n    link/");
        hardware::write_type(self.out, link.link_type);
        self.text(" ");
        let link_type = Some(link.link_type);
        if let Some(address) = link.address {
            hardware::write_address(self.out, address, link_type);
        }
        if let Some(broadcast) = link.broadcast {
            self.text(if link.flags & link_flags::POINT_TO_POINT == 0 {
                " brd "
            } else {
                " peer "
            });
            hardware::write_address(self.out, broadcast, link_type);
        }
        if let Some(permanent) = link.permanent_address
            && link.address != Some(permanent)
        {
            self.text(" permaddr ");
            hardware::write_address(self.out, permanent, link_type);
        }
    }

    fn link_namespaces(&mut self, link: &Link<'_>) {
        match link.link_netnsid {
            None => {}
            Some(id) if id < 0 => self.text(" link-netnsid unknown"),
            Some(id) => self.namespace([" link-netns ", " link-netnsid "], id),
        }
        if let Some(id) = link.new_netnsid {
            self.namespace([" new-netns ", " new-netnsid "], id);
        }
        if let Some(index) = link.new_index {
            self.text(" new-ifindex ");
            write_decimal(self.out, index);
        }
    }

    /// Appends a namespace by its name, or by its id if it has none.
    fn namespace(&mut self, [name_label, id_label]: [&str; 2], id: i32) {
        if let Some(name) = self.devices.namespace(id) {
            self.text(name_label);
            write_escaped(self.out, name);
        } else {
            self.text(id_label);
            write_decimal(self.out, id);
        }
    }

    fn proto_down(&mut self, link: &Link<'_>) {
        if link.proto_down == Some(true) {
            self.text(" protodown on ");
        }
        let reasons = link.proto_down_reasons.unwrap_or(0);
        if link.proto_down.is_none() || reasons == 0 {
            return;
        }
        let mut separator = "protodown_reason <";
        for bit in (0..32).filter(|bit| reasons >> bit & 1 != 0) {
            self.text(separator);
            match self.names.proto_down_reasons.get(bit) {
                Some(name) => self.text(name),
                None => write_decimal(self.out, bit),
            }
            separator = ",";
        }
        self.text(">");
    }
}

/// Appends the fields of the JSON object.
pub fn write_json(out: &mut Vec<u8>, link: &Link<'_>, devices: &DeviceNames, names: &IprouteNames) {
    if link.family != Family::UNSPEC {
        write_family(out, link.family);
    }
    number(out, r#""index":"#, link.index);
    optional_name(out, r#""name":"#, link.name);
    let known = hardware::type_name(link.link_type);
    word_or_number(out, r#""link_type":"#, known, link.link_type.into());
    bits(out, r#""flags":"#, link.flags, &FLAG_WORDS);
    optional(out, r#""mtu":"#, link.mtu);
    optional_name(out, r#""qdisc":"#, link.qdisc);
    write_relatives(out, link, devices);
    if let Some(state) = link.oper_state {
        let known = OPER_STATES.get(usize::from(state)).map(|(_, word)| *word);
        word_or_number(out, r#""oper_state":"#, known, state.into());
    }
    optional(out, r#""group":"#, link.group);
    if let Some(group) = link.group {
        names.groups.write_field(out, r#""group_name":"#, group);
    }
    optional(out, r#""tx_queue_len":"#, link.tx_queue_len);
    optional(out, r#""carrier":"#, link.carrier.map(u8::from));
    optional(out, r#""promiscuity":"#, link.promiscuity);
    if let Some(event) = link.event.filter(|&event| event != 0) {
        let known = EVENTS.get(event as usize).map(|(_, word)| *word);
        word_or_number(out, r#""reason":"#, known, event);
    }
    write_addresses(out, link);
    optional_name(out, r#""kind":"#, link.device_kind);
    optional_name(out, r#""master_kind":"#, link.master_kind);
    optional_name(out, r#""alias":"#, link.alias);
    write_rest(out, link);
}

fn optional_name(out: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        name(out, key, value);
    }
}

/// Appends the devices that this one is connected to.
fn write_relatives(out: &mut Vec<u8>, link: &Link<'_>, devices: &DeviceNames) {
    optional(out, r#""master":"#, link.master);
    optional_name(
        out,
        r#""master_name":"#,
        link.master.and_then(|index| devices.get(index)),
    );
    optional(out, r#""link":"#, link.link);
    match link.link_netnsid {
        Some(id) => {
            number(out, r#""link_netnsid":"#, id);
            optional_name(out, r#""link_netns":"#, devices.namespace(id));
        }
        None => optional_name(
            out,
            r#""link_name":"#,
            link.link.and_then(|index| devices.get(index)),
        ),
    }
    optional(out, r#""new_netnsid":"#, link.new_netnsid);
    optional_name(
        out,
        r#""new_netns":"#,
        link.new_netnsid.and_then(|id| devices.namespace(id)),
    );
    optional(out, r#""new_index":"#, link.new_index);
}

fn write_addresses(out: &mut Vec<u8>, link: &Link<'_>) {
    let broadcast = if link.flags & link_flags::POINT_TO_POINT == 0 {
        r#""broadcast":"#
    } else {
        r#""peer_address":"#
    };
    for (key, address) in [
        (r#""address":"#, link.address),
        (broadcast, link.broadcast),
        (r#""permanent_address":"#, link.permanent_address),
    ] {
        if let Some(address) = address {
            hardware::write_address_field(out, key, address, Some(link.link_type));
        }
    }
}

fn write_rest(out: &mut Vec<u8>, link: &Link<'_>) {
    if { link.alt_names }.next().is_some() {
        out.extend_from_slice(br#""alt_names":["#);
        for alt_name in link.alt_names {
            name(out, "", alt_name);
        }
        close(out, b']');
    }
    optional(out, r#""proto_down":"#, link.proto_down.map(u8::from));
    if let Some(reasons) = link.proto_down_reasons.filter(|&reasons| reasons != 0) {
        out.extend_from_slice(br#""proto_down_reasons":["#);
        for bit in (0..32_u8).filter(|bit| reasons >> bit & 1 != 0) {
            number(out, "", bit);
        }
        close(out, b']');
    }
    if let Some(mode) = link.xdp_mode.filter(|&mode| mode != 0) {
        let known = ["none", "driver", "generic", "hardware", "several"];
        match known.get(usize::from(mode)) {
            Some(known) => word(out, r#""xdp":"#, known),
            None => word_or_number(out, r#""xdp":"#, None, mode.into()),
        }
        optional(out, r#""xdp_program_id":"#, link.xdp_program_id);
    }
    optional(out, r#""min_mtu":"#, link.min_mtu);
    optional(out, r#""max_mtu":"#, link.max_mtu);
}

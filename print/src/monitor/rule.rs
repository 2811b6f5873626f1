//! A policy rule (ip's function `print_rule`).

use std::io::Write as _;

use nlring::EventKind;
use nlring::route::{Rule, route_type_name, rule_action, rule_flags};

use crate::json::{bits, name, number, optional, word_or_number};
use crate::route::IprouteNames;
use crate::route::json::{write_family, write_prefix};
use crate::route::names::Names;
use crate::route::text::Line;
use crate::text::{write_decimal, write_escaped};

/// `RTPROT_KERNEL`, which ip does not show.
const KERNEL: u8 = nlring::route::protocol::KERNEL;
/// `RTN_NAT`, an action of old kernels.
const NAT: u8 = 10;

/// The words for the bits `FIB_RULE_*`, lowest bit first. Empty for bits without a name.
#[rustfmt::skip]
const FLAG_WORDS: [&str; 17] = [
    "permanent", "invert", "unresolved", "iif-detached", "oif-detached", "", "", "",
    "", "", "", "", "", "", "", "", "find-saddr",
];

impl Line<'_> {
    pub(crate) fn rule(&mut self, rule: &Rule<'_>) {
        if rule.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        write_decimal(self.out, rule.priority.unwrap_or(0));
        self.text(":\t");
        if rule.flags & rule_flags::INVERT != 0 {
            self.text("not ");
        }
        self.rule_addresses(rule);
        if rule.tos != 0 {
            self.text(" ");
            self.tos(rule.tos);
            self.out.pop(); // the blank
        }
        self.rule_mark(rule);
        self.rule_devices(rule);
        self.rule_selectors(rule);
        self.rule_table(rule);
        if let Some(realms) = rule.realms {
            self.rule_realms(realms);
        }
        self.rule_action(rule);
        if let Some(protocol) = rule.protocol.filter(|&id| id != 0 && id != KERNEL) {
            self.last_name(" proto ", protocol.into(), |names| &names.protocols);
        }
        self.text("\n");
    }

    /// Appends a label, and the name of a number, or the number if it has none.
    fn last_name(&mut self, label: &str, id: u32, of: fn(&IprouteNames) -> &Names) {
        self.name(label, of(self.names), id);
        self.out.pop(); // the blank
    }

    fn rule_addresses(&mut self, rule: &Rule<'_>) {
        match &rule.src {
            Some(src) => {
                self.text("from ");
                self.prefix(rule.family, src, rule.src_prefix_len);
            }
            None if rule.src_prefix_len != 0 => self.last_number("from 0/", rule.src_prefix_len),
            None => self.text("from all"),
        }
        match &rule.dst {
            Some(dst) => {
                self.text(" to ");
                self.prefix(rule.family, dst, rule.dst_prefix_len);
            }
            None if rule.dst_prefix_len != 0 => self.last_number(" to 0/", rule.dst_prefix_len),
            None => {}
        }
    }

    /// Appends a label and a number.
    fn last_number(&mut self, label: &str, value: impl itoa::Integer) {
        self.text(label);
        write_decimal(self.out, value);
    }

    fn rule_mark(&mut self, rule: &Rule<'_>) {
        if rule.mark.is_none() && rule.mark_mask.is_none() {
            return;
        }
        self.alternate_hex(" fwmark ", rule.mark.unwrap_or(0));
        if let Some(mask) = rule.mark_mask.filter(|&mask| mask != u32::MAX) {
            self.alternate_hex("/", mask);
        }
    }

    /// Appends a label and a number in the layout of C's `%#x`, which writes 0 without a prefix.
    fn alternate_hex(&mut self, label: &str, value: u32) {
        self.text(label);
        let _ = match value {
            0 => write!(self.out, "0"),
            value => write!(self.out, "{value:#x}"),
        }; // writing to a Vec cannot fail
    }

    fn rule_devices(&mut self, rule: &Rule<'_>) {
        for (label, device, detached) in [
            (" iif ", rule.iif, rule_flags::IIF_DETACHED),
            (" oif ", rule.oif, rule_flags::OIF_DETACHED),
        ] {
            if let Some(device) = device {
                self.text(label);
                write_escaped(self.out, device);
                if rule.flags & detached != 0 {
                    self.text(" [detached]");
                }
            }
        }
    }

    fn rule_selectors(&mut self, rule: &Rule<'_>) {
        if rule.l3mdev == Some(true) {
            self.text(" lookup [l3mdev-table]");
        }
        if let Some((start, end)) = rule.uid_range {
            self.last_number(" uidrange ", start);
            self.last_number("-", end);
        }
        if let Some(protocol) = rule.ip_protocol {
            match self.names.ip_protocols.get(protocol.into()) {
                Some(name) => {
                    self.text(" ipproto ");
                    self.text(name);
                }
                None => self.last_number(" ipproto ipproto-", protocol),
            }
        }
        for (label, range) in [(" sport ", rule.sport_range), (" dport ", rule.dport_range)] {
            if let Some((start, end)) = range {
                self.last_number(label, start);
                if start != end {
                    self.last_number("-", end);
                }
            }
        }
        if let Some(id) = rule.tunnel_id {
            self.last_number(" tun_id ", id);
        }
    }

    fn rule_table(&mut self, rule: &Rule<'_>) {
        if rule.table == 0 {
            return;
        }
        self.last_name(" lookup ", rule.table, |names| &names.tables);
        if let Some(len) = rule.suppress_prefix_len.filter(|&len| len != -1) {
            self.last_number(" suppress_prefixlength ", len);
        }
        if let Some(group) = rule.suppress_group.filter(|&group| group != -1) {
            let group = group.cast_unsigned();
            self.last_name(" suppress_ifgroup ", group, |names| &names.groups);
        }
    }

    fn rule_realms(&mut self, realms: u32) {
        let (from, to) = (realms >> 16, realms & 0xffff);
        self.text(" realms ");
        if from != 0 {
            self.last_name("", from, |names| &names.realms);
            self.text("/");
        }
        self.last_name("", to, |names| &names.realms);
    }

    fn rule_action(&mut self, rule: &Rule<'_>) {
        match rule.action {
            rule_action::TO_TABLE => {}
            rule_action::NOP => self.text(" nop"),
            rule_action::GOTO => {
                match rule.goto {
                    Some(priority) => self.last_number(" goto ", priority),
                    None => self.text(" goto none"),
                }
                if rule.flags & rule_flags::UNRESOLVED != 0 {
                    self.text(" [unresolved]");
                }
            }
            NAT => self.text(" masquerade"),
            action => match route_type_name(action) {
                Some(name) => {
                    self.text(" ");
                    self.text(name);
                }
                None => self.last_number(" ", action),
            },
        }
    }
}

/// Appends the fields of the JSON object.
pub fn write_json(out: &mut Vec<u8>, rule: &Rule<'_>, names: &IprouteNames) {
    write_family(out, rule.family);
    number(out, r#""priority":"#, rule.priority.unwrap_or(0));
    let action = match rule.action {
        rule_action::TO_TABLE => Some("lookup"),
        rule_action::GOTO => Some("goto"),
        rule_action::NOP => Some("nop"),
        rule_action::BLACKHOLE => Some("blackhole"),
        rule_action::UNREACHABLE => Some("unreachable"),
        rule_action::PROHIBIT => Some("prohibit"),
        _ => None,
    };
    word_or_number(out, r#""action":"#, action, rule.action.into());
    if rule.table != 0 {
        names.write_table(out, rule.table);
    }
    optional(out, r#""goto":"#, rule.goto);
    for (key, address, len) in [
        (r#""src":""#, rule.src, rule.src_prefix_len),
        (r#""dst":""#, rule.dst, rule.dst_prefix_len),
    ] {
        if address.is_some() || len != 0 {
            write_prefix(out, key, rule.family, address, len);
        }
    }
    write_selectors(out, rule, names);
    if rule.flags != 0 {
        bits(out, r#""flags":"#, rule.flags, &FLAG_WORDS);
    }
    if let Some(protocol) = rule.protocol {
        names.write_protocol(out, protocol);
    }
}

/// Appends the packets that the rule matches.
fn write_selectors(out: &mut Vec<u8>, rule: &Rule<'_>, names: &IprouteNames) {
    optional(out, r#""tos":"#, (rule.tos != 0).then_some(rule.tos));
    optional(out, r#""mark":"#, rule.mark);
    optional(out, r#""mark_mask":"#, rule.mark_mask);
    for (key, device) in [(r#""iif_name":"#, rule.iif), (r#""oif_name":"#, rule.oif)] {
        if let Some(device) = device {
            name(out, key, device);
        }
    }
    if rule.l3mdev == Some(true) {
        number(out, r#""l3mdev":"#, 1_u8);
    }
    if let Some((start, end)) = rule.uid_range {
        number(out, r#""uid_start":"#, start);
        number(out, r#""uid_end":"#, end);
    }
    if let Some(protocol) = rule.ip_protocol {
        number(out, r#""ip_protocol":"#, protocol);
        let known = &names.ip_protocols;
        known.write_field(out, r#""ip_protocol_name":"#, protocol.into());
    }
    if let Some((start, end)) = rule.sport_range {
        number(out, r#""sport_start":"#, start);
        number(out, r#""sport_end":"#, end);
    }
    if let Some((start, end)) = rule.dport_range {
        number(out, r#""dport_start":"#, start);
        number(out, r#""dport_end":"#, end);
    }
    optional(out, r#""tunnel_id":"#, rule.tunnel_id);
    let limit = |value: Option<i32>| value.filter(|&value| value != -1);
    optional(
        out,
        r#""suppress_prefix_len":"#,
        limit(rule.suppress_prefix_len),
    );
    optional(out, r#""suppress_group":"#, limit(rule.suppress_group));
    if let Some(realms) = rule.realms {
        number(out, r#""realm_from":"#, realms >> 16);
        number(out, r#""realm_to":"#, realms & 0xffff);
    }
}

//! A nexthop object (ip's function `__print_nexthop_entry`).

use nlring::route::{NexthopObject, ResilientGroup, protocol, scope, scope_name};
use nlring::{EventKind, Family};

use crate::json::{close, number, optional, word_or_number};
use crate::route::json::{write_device, write_family, write_flags, write_hop};
use crate::route::text::Line;
use crate::route::{DeviceNames, IprouteNames};
use crate::text::write_decimal;

impl Line<'_> {
    pub(crate) fn nexthop_object(&mut self, nexthop: &NexthopObject<'_>) {
        if nexthop.kind == EventKind::Delete {
            self.text("Deleted ");
        }
        self.number("id ", nexthop.id.unwrap_or(0));
        self.nexthop_group(nexthop);
        if let Some(encap) = nexthop.hop.encap {
            self.encap(nexthop.hop.encap_type, encap);
        }
        if let Some(gateway) = nexthop.hop.gateway {
            self.gateway(gateway);
        }
        if let Some(oif) = nexthop.oif.filter(|&oif| oif != 0) {
            self.device("dev ", oif);
        }
        if nexthop.scope != scope::UNIVERSE {
            self.name("scope ", &self.names.scopes, nexthop.scope.into());
        }
        if nexthop.is_blackhole {
            self.text("blackhole ");
        }
        if nexthop.protocol != protocol::UNSPEC {
            self.name("proto ", &self.names.protocols, nexthop.protocol.into());
        }
        self.flags(nexthop.flags);
        self.text(if nexthop.is_fdb { "fdb\n" } else { "\n" });
    }

    fn nexthop_group(&mut self, nexthop: &NexthopObject<'_>) {
        let mut separator = "group ";
        for member in nexthop.group {
            self.text(separator);
            separator = "/";
            write_decimal(self.out, member.id);
            if member.weight > 1 {
                self.text(",");
                write_decimal(self.out, member.weight);
            }
        }
        if separator == "/" {
            self.text(" ");
        }
        match nexthop.group_type.unwrap_or(0) {
            0 => {}
            1 => self.text("type resilient "),
            _ => self.text("type <unknown type> "),
        }
        if let Some(resilient) = &nexthop.resilient {
            self.resilient_group(resilient);
        }
    }

    fn resilient_group(&mut self, group: &ResilientGroup) {
        self.number("buckets ", group.bucket_count);
        self.hundredths("idle_timer ", group.idle_timer.into());
        self.hundredths("unbalanced_timer ", group.unbalanced_timer.into());
        self.hundredths("unbalanced_time ", group.unbalanced_time);
    }

    /// Appends a label, a time in seconds in the layout of C's `%g`, and a blank.
    pub(super) fn hundredths(&mut self, label: &str, time: u64) {
        self.text(label);
        #[allow(clippy::cast_precision_loss, reason = "six digits are written")]
        let seconds = time as f64 / 100.0;
        let scientific = format!("{seconds:.5e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if exponent < 6 {
            // A time of at least a hundredth has at most 7 decimals.
            let decimals = usize::try_from(5 - exponent).unwrap_or(0);
            self.trimmed(&format!("{seconds:.decimals$}"));
        } else {
            self.trimmed(digits);
            self.text(&format!("e+{exponent:02}"));
        }
        self.text(" ");
    }

    /// Appends a number with decimals, without the zeros at its end.
    fn trimmed(&mut self, number: &str) {
        let has_decimals = number.contains('.');
        let trimmed = number.trim_end_matches('0').trim_end_matches('.');
        self.text(if has_decimals { trimmed } else { number });
    }
}

/// Appends the fields of the JSON object.
pub fn write_json(
    out: &mut Vec<u8>,
    nexthop: &NexthopObject<'_>,
    devices: &DeviceNames,
    names: &IprouteNames,
) {
    if nexthop.family != Family::UNSPEC {
        write_family(out, nexthop.family);
    }
    optional(out, r#""id":"#, nexthop.id);
    if { nexthop.group }.next().is_some() {
        write_group(out, nexthop);
    }
    write_hop(out, &nexthop.hop, devices, names);
    write_device(out, devices, nexthop.oif);
    if nexthop.is_blackhole {
        number(out, r#""blackhole":"#, 1_u8);
    }
    if nexthop.is_fdb {
        number(out, r#""fdb":"#, 1_u8);
    }
    word_or_number(
        out,
        r#""scope":"#,
        scope_name(nexthop.scope),
        nexthop.scope.into(),
    );
    names.write_protocol(out, nexthop.protocol);
    write_flags(out, nexthop.flags);
}

fn write_group(out: &mut Vec<u8>, nexthop: &NexthopObject<'_>) {
    out.extend_from_slice(br#""group":["#);
    for member in nexthop.group {
        out.push(b'{');
        number(out, r#""id":"#, member.id);
        number(out, r#""weight":"#, member.weight);
        close(out, b'}');
    }
    close(out, b']');
    let group_type = nexthop.group_type.unwrap_or(0);
    let known = match group_type {
        0 => Some("hash"),
        1 => Some("resilient"),
        _ => None,
    };
    word_or_number(out, r#""group_type":"#, known, group_type.into());
    if let Some(group) = &nexthop.resilient {
        number(out, r#""buckets":"#, group.bucket_count);
        let ms = |hundredths: u64| hundredths.saturating_mul(10);
        number(out, r#""idle_timer_ms":"#, ms(group.idle_timer.into()));
        let timer = ms(group.unbalanced_timer.into());
        number(out, r#""unbalanced_timer_ms":"#, timer);
        number(out, r#""unbalanced_ms":"#, ms(group.unbalanced_time));
    }
}

//! The options of `nlring conntrack` that select flows: --filter, and those of conntrack(8).

use clap::Args;
use nlring::conntrack::{Filter, Term};

use super::values::{
    Addresses, Mask, any_nat, dport, dst_nat, each_or_not, family, icmp_code, icmp_type, label,
    mark, or_not, orig_zone, parse_addresses, parse_expression, parse_mask, protocol, reply_dport,
    reply_dst, reply_sport, reply_src, reply_zone, sport, src_nat, state, status, zone,
};
use crate::outcome::Failure;

/// What flows must match: all of the options. Each is already a filter, except addresses with a mask.
#[derive(Args, Debug)]
#[command(next_help_heading = "Filter")]
pub struct FlowFilterArguments {
    /// Show only flows that match this expression, such as 'proto tcp and not dport {80, 443}' (docs/filters.md)
    #[arg(long = "filter", value_name = "TEXT", value_parser = parse_expression)]
    expressions: Vec<Filter>,

    /// Only this protocol, by name or number. As in all options below, ! in front of the value excludes it: -p '!tcp'
    #[arg(short = 'p', long = "proto", visible_alias = "protonum", value_name = "PROTO", value_parser = or_not(protocol))]
    protocol: Vec<Filter>,

    /// Only this address family: ipv4 or ipv6
    #[arg(short = 'f', long, value_name = "FAMILY", value_parser = or_not(family))]
    family: Vec<Filter>,

    /// Only this source address, or prefix, of the original direction
    #[arg(short = 's', long, visible_alias = "orig-src", value_name = "ADDRESS", value_parser = parse_addresses)]
    src: Vec<Addresses>,

    /// Only this destination address, or prefix, of the original direction
    #[arg(short = 'd', long, visible_alias = "orig-dst", value_name = "ADDRESS", value_parser = parse_addresses)]
    dst: Vec<Addresses>,

    /// Only this source address, or prefix, of the reply direction
    #[arg(short = 'r', long, value_name = "ADDRESS", value_parser = or_not(reply_src))]
    reply_src: Vec<Filter>,

    /// Only this destination address, or prefix, of the reply direction
    #[arg(short = 'q', long, value_name = "ADDRESS", value_parser = or_not(reply_dst))]
    reply_dst: Vec<Filter>,

    /// The mask of --src, such as 255.255.0.0
    #[arg(long, value_name = "MASK", requires = "src", value_parser = parse_mask)]
    mask_src: Option<Mask>,

    /// The mask of --dst
    #[arg(long, value_name = "MASK", requires = "dst", value_parser = parse_mask)]
    mask_dst: Option<Mask>,

    /// Only these source ports of the original direction, such as 53, 1024-2047 or 80,443
    #[arg(long, visible_alias = "orig-port-src", value_name = "PORTS", value_parser = or_not(sport))]
    sport: Vec<Filter>,

    /// Only these destination ports of the original direction
    #[arg(long, visible_alias = "orig-port-dst", value_name = "PORTS", value_parser = or_not(dport))]
    dport: Vec<Filter>,

    /// Only these source ports of the reply direction
    #[arg(long, value_name = "PORTS", value_parser = or_not(reply_sport))]
    reply_port_src: Vec<Filter>,

    /// Only these destination ports of the reply direction
    #[arg(long, value_name = "PORTS", value_parser = or_not(reply_dport))]
    reply_port_dst: Vec<Filter>,

    /// Only these types of ICMP and ICMPv6
    #[arg(long, value_name = "TYPES", value_parser = or_not(icmp_type))]
    icmp_type: Vec<Filter>,

    /// Only these codes of ICMP and ICMPv6
    #[arg(long, value_name = "CODES", value_parser = or_not(icmp_code))]
    icmp_code: Vec<Filter>,

    /// Only this mark, or these bits of it
    #[arg(short = 'm', long, value_name = "MARK[/MASK]", value_parser = or_not(mark))]
    mark: Vec<Filter>,

    /// Only flows with all of these bits, such as ASSURED or SEEN_REPLY,!ASSURED
    #[arg(short = 'u', long, value_name = "STATUS[,...]", value_parser = each_or_not(status))]
    status: Vec<Filter>,

    /// Only this state of TCP, SCTP or DCCP
    #[arg(long, value_name = "STATE", value_parser = or_not(state))]
    state: Vec<Filter>,

    /// Only flows whose source is translated; to this address, prefix, or address and port, if one is given
    #[arg(short = 'n', long, value_name = "ADDRESS[:PORT]", num_args = 0..=1, default_missing_value = "", value_parser = or_not(src_nat))]
    src_nat: Vec<Filter>,

    /// Only flows whose destination is translated; to this address, prefix, or address and port, if one is given
    #[arg(short = 'g', long, value_name = "ADDRESS[:PORT]", num_args = 0..=1, default_missing_value = "", value_parser = or_not(dst_nat))]
    dst_nat: Vec<Filter>,

    /// Only flows whose source or destination is translated; to this address, prefix, or address and port, if one is given
    #[arg(short = 'j', long, value_name = "ADDRESS[:PORT]", num_args = 0..=1, default_missing_value = "", value_parser = or_not(any_nat))]
    any_nat: Vec<Filter>,

    /// Only this zone, in both directions
    #[arg(short = 'w', long, value_name = "ZONE", value_parser = or_not(zone))]
    zone: Vec<Filter>,

    /// Only this zone, in the original direction alone
    #[arg(long, value_name = "ZONE", value_parser = or_not(orig_zone))]
    orig_zone: Vec<Filter>,

    /// Only this zone, in the reply direction alone
    #[arg(long, value_name = "ZONE", value_parser = or_not(reply_zone))]
    reply_zone: Vec<Filter>,

    /// Only flows with all of these labels, by name (connlabel.conf) or number
    #[arg(short = 'l', long, value_name = "LABEL[,...]", value_parser = each_or_not(label))]
    label: Vec<Filter>,

    /// Print which part of the filter the kernel evaluates, which part user space does, and the kernel's program; then
    /// end
    #[arg(long)]
    pub explain: bool,
}

impl FlowFilterArguments {
    /// The filter that matches all of the options. Without options it matches everything.
    pub fn filter(&self) -> Result<Filter, Failure> {
        let filters = [
            &self.expressions,
            &self.protocol,
            &self.family,
            &self.reply_src,
            &self.reply_dst,
            &self.sport,
            &self.dport,
            &self.reply_port_src,
            &self.reply_port_dst,
            &self.icmp_type,
            &self.icmp_code,
            &self.mark,
            &self.status,
            &self.state,
            &self.src_nat,
            &self.dst_nat,
            &self.any_nat,
            &self.zone,
            &self.orig_zone,
            &self.reply_zone,
            &self.label,
        ];
        let mut all: Vec<Filter> = filters.into_iter().flatten().cloned().collect();
        for (option, addresses, mask, term) in [
            ("src", &self.src, self.mask_src, Term::src as fn(_) -> _),
            ("dst", &self.dst, self.mask_dst, Term::dst),
        ] {
            for addresses in addresses {
                let addresses = masked(option, *addresses, mask)?;
                all.push(addresses.filter(term));
            }
        }
        Ok(all.into_iter().fold(Filter::default(), Filter::and))
    }
}

fn masked(option: &str, addresses: Addresses, mask: Option<Mask>) -> Result<Addresses, Failure> {
    let Some(mask) = mask else {
        return Ok(addresses);
    };
    let prefix = mask.of(addresses.prefix).ok_or_else(|| {
        Failure::Usage(format!(
            "--mask-{option} does not fit --{option} {}; give it an address of the same family, without a length",
            addresses.prefix
        ))
    })?;
    Ok(Addresses {
        prefix,
        ..addresses
    })
}

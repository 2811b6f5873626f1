//! Templates of IPFIX (RFC 7011): which elements a data record has, and how each is written.

use std::net::IpAddr;

use super::flow::{Flow, Nat};

/// The first number that a template may have.
const FIRST_ID: u16 = 256;
/// The enterprise number of elements of the reverse direction (RFC 5103).
const REVERSE: u32 = 29305;
const ENTERPRISE_BIT: u16 = 1 << 15;
/// Session events of NAT44 (RFC 8158). For NAT between IPv6 addresses there are only the older events, which say no
/// more.
const NAT44_CREATED: u8 = 4;
const NAT44_DELETED: u8 = 5;
const NAT_CREATED: u8 = 1;
const NAT_DELETED: u8 = 2;

/// What a data record reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    Flow(Flow),
    Event(Flow, Event),
    Loss(Loss),
}

/// What happened to a flow. The values are those of the element firewallEvent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Created = 1,
    Deleted = 2,
    Updated = 5,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub since_ns: u64,
    pub until_ns: u64,
    /// How many events or records are missing in total, as far as known.
    pub total_count: u64,
}

/// An element of a data record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Start,
    End,
    Time,
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    IcmpTypeCode,
    Protocol,
    Octets,
    Packets,
    ReverseOctets,
    ReversePackets,
    NatSource,
    NatDestination,
    NatSourcePort,
    NatDestinationPort,
    EndReason,
    NatEvent,
    FirewallEvent,
    Domain,
    NotSentFlows,
}

/// Which elements a record has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Form {
    is_loss: bool,
    is_event: bool,
    is_ipv6: bool,
    is_icmp: bool,
    has_nat: bool,
    has_counters: bool,
    has_start: bool,
}

/// A template, and the part of a message that defines it.
pub struct Template {
    pub id: u16,
    pub definition: Vec<u8>,
    /// The length of a data record.
    pub length: usize,
    is_options: bool,
    elements: Vec<Element>,
}

/// All templates.
pub struct Templates {
    templates: Vec<Template>,
    domain: u32,
}

impl Data {
    /// The place of its template.
    pub fn template(&self) -> usize {
        Form::of(self).number()
    }
}

impl Form {
    fn of(data: &Data) -> Self {
        let (flow, is_event) = match data {
            Data::Flow(flow) => (flow, false),
            Data::Event(flow, _) => (flow, true),
            Data::Loss(_) => {
                return Self {
                    is_loss: true,
                    ..Self::default()
                };
            }
        };
        Self {
            is_loss: false,
            is_event,
            is_ipv6: flow.src.is_ipv6(),
            is_icmp: flow.icmp.is_some(),
            has_nat: flow.nat.is_some(),
            has_counters: flow.counters.is_some() && !is_event,
            has_start: flow.start_ns.is_some() && !is_event,
        }
    }

    /// The form's place among all of them.
    fn number(self) -> usize {
        let bits = [
            self.is_ipv6,
            self.is_icmp,
            self.has_nat,
            self.has_counters,
            self.has_start,
            self.is_event,
            self.is_loss,
        ];
        let bit = |(place, bit): (usize, bool)| usize::from(bit) << place;
        bits.into_iter().enumerate().map(bit).sum()
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..1 << 7).map(|number| {
            let bit = |place: u32| number & (1 << place) != 0;
            Self {
                is_ipv6: bit(0),
                is_icmp: bit(1),
                has_nat: bit(2),
                has_counters: bit(3),
                has_start: bit(4),
                is_event: bit(5),
                is_loss: bit(6),
            }
        })
    }

    fn elements(self, is_biflow: bool) -> Vec<Element> {
        use Element as E;
        if self.is_loss {
            return vec![E::Domain, E::Start, E::End, E::NotSentFlows];
        }
        let mut elements = match (self.is_event, self.has_nat) {
            (true, true) => vec![E::Time, E::NatEvent],
            (true, false) => vec![E::Time, E::FirewallEvent],
            (false, _) if self.has_start => vec![E::Start, E::End],
            (false, _) => vec![E::End],
        };
        // RFC 8158 has the id of ICMP in place of the source port. In flows, readers would take it for a type.
        let has_source_port = !self.is_icmp || self.is_event;
        let mut add = |condition: bool, added: &[Element]| {
            elements.extend(added.iter().filter(|_| condition).copied());
        };
        add(true, &[E::Source, E::Destination, E::Protocol]);
        add(has_source_port, &[E::SourcePort]);
        add(self.is_icmp, &[E::IcmpTypeCode]);
        add(!self.is_icmp, &[E::DestinationPort]);
        add(self.has_nat, &[E::NatSource, E::NatDestination]);
        add(self.has_nat && has_source_port, &[E::NatSourcePort]);
        add(self.has_nat && !self.is_icmp, &[E::NatDestinationPort]);
        add(self.has_counters, &[E::Octets, E::Packets]);
        add(
            self.has_counters && is_biflow,
            &[E::ReverseOctets, E::ReversePackets],
        );
        add(!self.is_event, &[E::EndReason]);
        elements
    }
}

impl Element {
    /// Its number at IANA, and its length. For addresses these depend on the family.
    fn number_and_length(self, is_ipv6: bool) -> (u16, u16) {
        let address = |ipv4, ipv6| if is_ipv6 { (ipv6, 16) } else { (ipv4, 4) };
        match self {
            Self::Start => (152, 8),
            Self::End => (153, 8),
            Self::Time => (323, 8),
            Self::Source => address(8, 27),
            Self::Destination => address(12, 28),
            Self::SourcePort => (7, 2),
            Self::DestinationPort => (11, 2),
            Self::IcmpTypeCode => (if is_ipv6 { 139 } else { 32 }, 2),
            Self::Protocol => (4, 1),
            Self::Octets => (1, 8),
            Self::Packets => (2, 8),
            Self::ReverseOctets => (1 | ENTERPRISE_BIT, 8),
            Self::ReversePackets => (2 | ENTERPRISE_BIT, 8),
            Self::NatSource => address(225, 281),
            Self::NatDestination => address(226, 282),
            Self::NatSourcePort => (227, 2),
            Self::NatDestinationPort => (228, 2),
            Self::EndReason => (136, 1),
            Self::NatEvent => (230, 1),
            Self::FirewallEvent => (233, 1),
            Self::Domain => (149, 4),
            Self::NotSentFlows => (166, 8),
        }
    }

    fn write_of_loss(self, loss: &Loss, domain: u32, bytes: &mut Vec<u8>) {
        match self {
            Self::Domain => bytes.extend_from_slice(&domain.to_be_bytes()),
            Self::Start => write_ms(loss.since_ns, bytes),
            Self::End => write_ms(loss.until_ns, bytes),
            _ => bytes.extend_from_slice(&loss.total_count.to_be_bytes()),
        }
    }

    fn write(self, flow: &Flow, nat: &Nat, event: Event, bytes: &mut Vec<u8>) {
        let counters = flow.counters.unwrap_or_default();
        let mut number = |number: u64| bytes.extend_from_slice(&number.to_be_bytes());
        match self {
            Self::Start => write_ms(flow.start_ns.unwrap_or(0), bytes),
            Self::End | Self::Time => write_ms(flow.end_ns, bytes),
            Self::Octets => number(counters.bytes),
            Self::Packets => number(counters.packets),
            Self::ReverseOctets => number(counters.reply_bytes),
            Self::ReversePackets => number(counters.reply_packets),
            Self::Source => write_address(flow.src, bytes),
            Self::Destination => write_address(flow.dst, bytes),
            Self::NatSource => write_address(nat.src, bytes),
            Self::NatDestination => write_address(nat.dst, bytes),
            Self::SourcePort => bytes.extend_from_slice(&flow.sport.to_be_bytes()),
            Self::DestinationPort => bytes.extend_from_slice(&flow.dport.to_be_bytes()),
            Self::NatSourcePort => bytes.extend_from_slice(&nat.sport.to_be_bytes()),
            Self::NatDestinationPort => bytes.extend_from_slice(&nat.dport.to_be_bytes()),
            Self::IcmpTypeCode => bytes.extend_from_slice(&flow.icmp.unwrap_or_default()),
            Self::Protocol => bytes.push(flow.protocol),
            Self::EndReason => bytes.push(flow.end_reason),
            Self::NatEvent => bytes.push(nat_event(event, flow.src)),
            Self::FirewallEvent => bytes.push(event as u8),
            // Only losses have these.
            Self::Domain | Self::NotSentFlows => {}
        }
    }
}

fn nat_event(event: Event, address: IpAddr) -> u8 {
    match (event, address.is_ipv4()) {
        (Event::Deleted, true) => NAT44_DELETED,
        (_, true) => NAT44_CREATED,
        (Event::Deleted, false) => NAT_DELETED,
        (_, false) => NAT_CREATED,
    }
}

fn write_ms(ns: u64, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(ns / 1_000_000).to_be_bytes());
}

fn write_address(address: IpAddr, bytes: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
    }
}

impl Template {
    fn new(id: u16, form: Form, is_biflow: bool) -> Self {
        let elements = form.elements(is_biflow);
        let mut definition = Vec::new();
        definition.extend_from_slice(&id.to_be_bytes());
        let count = u16::try_from(elements.len()).unwrap_or(u16::MAX);
        definition.extend_from_slice(&count.to_be_bytes());
        if form.is_loss {
            // The first element is the scope of the others.
            definition.extend_from_slice(&1_u16.to_be_bytes());
        }
        let mut length = 0;
        for element in &elements {
            let (number, bytes) = element.number_and_length(form.is_ipv6);
            definition.extend_from_slice(&number.to_be_bytes());
            definition.extend_from_slice(&bytes.to_be_bytes());
            if number & ENTERPRISE_BIT != 0 {
                definition.extend_from_slice(&REVERSE.to_be_bytes());
            }
            length += usize::from(bytes);
        }
        Self {
            id,
            definition,
            length,
            is_options: form.is_loss,
            elements,
        }
    }

    /// The number of the set that has its definition.
    pub fn set_id(&self) -> u16 {
        if self.is_options { 3 } else { 2 }
    }
}

impl Templates {
    pub fn new(domain: u32, is_biflow: bool) -> Self {
        let forms = (FIRST_ID..).zip(Form::all());
        Self {
            templates: forms
                .map(|(id, form)| Template::new(id, form, is_biflow))
                .collect(),
            domain,
        }
    }

    pub fn len(&self) -> usize {
        self.templates.len()
    }

    pub fn get(&self, place: usize) -> &Template {
        &self.templates[place]
    }

    /// Appends the data record.
    pub fn write(&self, place: usize, data: &Data, bytes: &mut Vec<u8>) {
        let elements = &self.get(place).elements;
        let (flow, event) = match data {
            Data::Flow(flow) => (flow, Event::Deleted),
            Data::Event(flow, event) => (flow, *event),
            Data::Loss(loss) => {
                for element in elements {
                    element.write_of_loss(loss, self.domain, bytes);
                }
                return;
            }
        };
        let nat = flow.after_nat();
        for element in elements {
            element.write(flow, &nat, event, bytes);
        }
    }
}

//! The formats of all objects.

use nlring::route::{Neighbour, Object};
use nlring::{EventKind, Message, Timestamp};

use crate::json::{end_line, number, optional, word};
use crate::monitor::{
    address, link, multicast_route, neighbour, netconf, nexthop, nexthop_bucket, rule, unknown,
};
use crate::route::json as route;
use crate::route::text::Line;
use crate::route::{DeviceNames, IprouteNames, RouteFormat};
use crate::style::Style;

/// How the objects of rtnetlink are written: routes as by a [`RouteFormat`], and all others in the same style.
///
/// ```
/// use nlring::{MessageBuilder, MessageList, Timestamp};
/// use nlring_print::monitor::MonitorFormat;
/// use nlring_print::route::{DeviceNames, RouteFormat, TextOptions};
///
/// // The kernel's message of a new rule (`RTM_NEWRULE`), as this program could receive it.
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 32, 0)
///     .bytes(&[2, 0, 24, 0, 254, 0, 0, 1, 0, 0, 0, 0])
///     .attribute(2, &[198, 51, 100, 0])
///     .attribute_u32(6, 1000)
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let message = list.iter().next().expect("one message");
///
/// let format = MonitorFormat::new(RouteFormat::Text(Box::new(TextOptions::load(None)))).labels(true);
/// let (mut line, devices) = (Vec::new(), DeviceNames::default());
/// assert!(format.write_event(&mut line, &message, &devices, Timestamp::UNIX_EPOCH));
/// assert_eq!(line, b"[RULE]1000:\tfrom 198.51.100.0/24 lookup main\n");
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct MonitorFormat {
    route: RouteFormat,
    has_labels: bool,
}

impl MonitorFormat {
    /// The format whose routes are written like this.
    pub fn new(route: RouteFormat) -> Self {
        Self {
            route,
            has_labels: false,
        }
    }

    /// Whether each line of text begins with the kind of its object, such as `[LINK]`. By default it does not.
    #[must_use]
    pub fn labels(mut self, has_labels: bool) -> Self {
        self.has_labels = has_labels;
        self
    }

    /// The style of these lines, which writes gaps among them.
    pub fn style(&self) -> Style {
        self.route.style()
    }

    /// Appends the event of a message and a newline. A message that this crate cannot read is written in hexadecimal.
    ///
    /// Appends nothing and returns false for an entry of the route cache, which `ip monitor` leaves out.
    ///
    /// `received_at` is when the event was received.
    pub fn write_event(
        &self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        devices: &DeviceNames,
        received_at: Timestamp,
    ) -> bool {
        let event = Event::decode(message);
        if let Event::Object(Object::Route(route)) = &event
            && route.is_cloned()
        {
            return false;
        }
        match &self.route {
            RouteFormat::Text(options) => {
                options.write_timestamp(out, received_at);
                if self.has_labels {
                    out.extend_from_slice(event.label());
                }
                let names = &options.names;
                let mut line = Line {
                    out,
                    devices,
                    names,
                };
                event.write_text(&mut line, message);
            }
            RouteFormat::Json(names) => {
                event.write_json(out, message, devices, names, received_at);
            }
        }
        true
    }
}

/// What a message says.
enum Event<'a> {
    Object(Object<'a>),
    /// The kernel asks programs for a neighbour's hardware address.
    Question(Neighbour<'a>),
    Unknown,
}

impl<'a> Event<'a> {
    fn decode(message: &Message<'a>) -> Self {
        if let Some(object) = Object::decode(message) {
            Self::Object(object)
        } else if let Some(neighbour) = Neighbour::decode_question(message) {
            Self::Question(neighbour)
        } else {
            Self::Unknown
        }
    }

    /// The word with which `ip monitor label` begins the line.
    fn label(&self) -> &'static [u8] {
        match self {
            Self::Object(Object::Link(_)) => b"[LINK]",
            Self::Object(Object::Address(_)) => b"[ADDR]",
            Self::Object(Object::Route(_)) => b"[ROUTE]",
            Self::Object(Object::MulticastRoute(_)) => b"[MROUTE]",
            Self::Object(Object::Neighbour(_)) | Self::Question(_) => b"[NEIGH]",
            Self::Object(Object::Rule(_)) => b"[RULE]",
            Self::Object(Object::Nexthop(_)) => b"[NEXTHOP]",
            Self::Object(Object::NexthopBucket(_)) => b"[NEXTHOPBUCKET]",
            Self::Object(Object::Netconf(_)) => b"[NETCONF]",
            _ => b"",
        }
    }

    fn write_text(&self, line: &mut Line<'_>, message: &Message<'_>) {
        match self {
            Self::Object(Object::Link(device)) => line.link(device),
            Self::Object(Object::Address(address)) => line.interface_address(address),
            Self::Object(Object::Route(route)) => line.route(route),
            Self::Object(Object::MulticastRoute(route)) => line.multicast_route(route),
            Self::Object(Object::Neighbour(neighbour)) => line.neighbour(neighbour),
            Self::Question(neighbour) => {
                line.text("miss ");
                line.neighbour(neighbour);
            }
            Self::Object(Object::Rule(rule)) => line.rule(rule),
            Self::Object(Object::Nexthop(nexthop)) => line.nexthop_object(nexthop),
            Self::Object(Object::NexthopBucket(bucket)) => line.nexthop_bucket(bucket),
            Self::Object(Object::Netconf(netconf)) => line.netconf(netconf),
            _ => line.unknown(message),
        }
    }

    fn write_json(
        &self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        devices: &DeviceNames,
        names: &IprouteNames,
        received_at: Timestamp,
    ) {
        out.push(b'{');
        word(out, r#""object":"#, self.name());
        word(out, r#""event":"#, self.event());
        number(out, r#""time_ns":"#, received_at.as_ns());
        word(out, r#""time_source":"#, "receive");
        match self {
            Self::Object(Object::Link(link)) => link::write_json(out, link, devices, names),
            Self::Object(Object::Address(address)) => address::write_json(out, address, devices),
            Self::Object(Object::Route(route)) => {
                route::write_fields(out, route, devices, names);
                route::write_message_flags(out, route);
            }
            Self::Object(Object::MulticastRoute(route)) => {
                multicast_route::write_json(out, route, devices, names);
            }
            Self::Object(Object::Neighbour(neighbour)) | Self::Question(neighbour) => {
                neighbour::write_json(out, neighbour, devices, names);
            }
            Self::Object(Object::Rule(rule)) => rule::write_json(out, rule, names),
            Self::Object(Object::Nexthop(nexthop)) => {
                nexthop::write_json(out, nexthop, devices, names);
            }
            Self::Object(Object::NexthopBucket(bucket)) => nexthop_bucket::write_json(out, bucket),
            Self::Object(Object::Netconf(netconf)) => netconf::write_json(out, netconf, devices),
            _ => unknown::write_json(out, message),
        }
        let port_id = message.port_id();
        optional(out, r#""port_id":"#, (port_id != 0).then_some(port_id));
        end_line(out);
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Object(object) => object.name(),
            Self::Question(_) => "neighbour",
            Self::Unknown => "unknown",
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Self::Object(object) => match object.kind() {
                EventKind::New => "new",
                EventKind::Delete => "delete",
                EventKind::Update => "update",
                EventKind::Entry => "entry",
            },
            Self::Question(_) => "miss",
            Self::Unknown => "unknown",
        }
    }
}

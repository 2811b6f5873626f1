//! The formats of routes.

use nlring::Timestamp;
use nlring::route::Route;

use super::device_names::DeviceNames;
use super::iproute_names::IprouteNames;
use super::json;
use super::text::{TextOptions, write_line};
use crate::style::Style;

/// How routes are written.
///
/// ```
/// use nlring::route::Route;
/// use nlring::{MessageBuilder, MessageList, Timestamp};
/// use nlring_print::route::{DeviceNames, RouteFormat};
///
/// // The kernel's message of a new route (`RTM_NEWROUTE`), as this program could receive it.
/// let mut bytes = Vec::new();
/// MessageBuilder::new(&mut bytes, 24, 0)
///     .bytes(&[2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0])
///     .attribute(1, &[198, 51, 100, 0])
///     .finish()?;
/// let list = MessageList::new(&bytes);
/// let message = list.iter().next().expect("one message");
/// let route = Route::decode(&message).expect("a route");
///
/// let (mut line, devices) = (Vec::new(), DeviceNames::default());
/// assert!(RouteFormat::json().write_event(&mut line, &route, &devices, Timestamp::from_ns(1_700_000_000_000_000_000)));
/// let start = r#"{"event":"new","time_ns":1700000000000000000,"time_source":"receive","family":"ipv4","#;
/// assert!(line.starts_with(start.as_bytes()));
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub enum RouteFormat {
    /// The lines of `ip monitor route`.
    Text(Box<TextOptions>),
    /// JSON objects, with the names of iproute2's configuration.
    Json(Box<IprouteNames>),
}

impl RouteFormat {
    /// JSON objects with the names of iproute2's configuration on this host. This reads up to 20 files.
    pub fn json() -> Self {
        Self::Json(Box::new(IprouteNames::load()))
    }
}

impl RouteFormat {
    /// The style of these lines, which writes gaps and resyncs among them.
    pub fn style(&self) -> Style {
        match self {
            Self::Text(_) => Style::Text,
            Self::Json(_) => Style::Json,
        }
    }

    /// Appends a route's event and a newline. Appends nothing and returns false for an entry of the route cache, which
    /// `ip monitor` leaves out.
    ///
    /// `received_at` is when the event was received.
    pub fn write_event(
        &self,
        out: &mut Vec<u8>,
        route: &Route<'_>,
        devices: &DeviceNames,
        received_at: Timestamp,
    ) -> bool {
        if route.is_cloned() {
            return false;
        }
        match self {
            Self::Text(options) => write_line(out, route, devices, options, received_at),
            Self::Json(names) => json::write_route(out, route, devices, names, received_at),
        }
        true
    }

    /// Appends an entry of the kernel's or a mirror's table, which is not an event, and a newline. Appends nothing and
    /// returns false for an entry of the route cache.
    ///
    /// `now` is the time that a text with timestamps shows.
    pub fn write_entry(
        &self,
        out: &mut Vec<u8>,
        route: &Route<'_>,
        devices: &DeviceNames,
        now: Timestamp,
    ) -> bool {
        if route.is_cloned() {
            return false;
        }
        match self {
            Self::Text(options) => write_line(out, route, devices, options, now),
            Self::Json(names) => json::write_entry(out, route, devices, names),
        }
        true
    }
}

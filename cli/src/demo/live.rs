//! Part 1 of the tour: a few events of each kind, shown when they happen.

use std::net::Ipv4Addr;
use std::time::Duration;

use nlring::conntrack::{Flow, Group};
use nlring::route::{self, Route, protocol};
use nlring::{ErrorKind, Event, Protocol, SocketId, Timestamp};
use nlring_print::conntrack::{FlowFormat, LabelNames};

use super::flows::{Flows, connection};
use super::follower::{Follower, Receiving, listen};
use super::stage::Stage;
use crate::load::entry;
use crate::load::route::{loopback_up, over_loopback};
use crate::outcome::Failure;
use crate::route::{RouteFormatter, text_format};

/// Room for all events of this part.
const RECV_BUFFER_BYTES: usize = 208 << 10;
/// The pause between two events.
const PAUSE: Duration = Duration::from_millis(350);

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 10), 40_000);
const OTHER_CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 11), 41_000);
const INNER_SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 5), 8443);

pub fn show(stage: &mut Stage, how: Receiving) -> Result<(), Failure> {
    stage.part(
        "1. Live events",
        "The kernel reports each connection that it tracks and each change of its routes; nlring prints them as \
         `conntrack -E` and `ip monitor route` do.",
    )?;
    let mut live = Live::open(how)?;
    live.flows(stage)?;
    live.routes(stage)
}

struct Live {
    flows: Flows,
    routes: route::Requests,
    follower: Follower,
    flow_socket: SocketId,
    formatter: RouteFormatter,
}

/// How to write a flow's event.
#[derive(Clone, Copy)]
enum ShowAs {
    Text,
    /// As text, then the same event as JSON.
    TextAndJson,
}

impl Live {
    fn open(how: Receiving) -> Result<Self, Failure> {
        let mut routes = route::Requests::open()?;
        loopback_up(routes.requester())?;
        let mut engine = how.engine()?;
        let flow_groups = [Group::New, Group::Destroy];
        let flow_socket =
            engine.add(listen(Protocol::NETFILTER, RECV_BUFFER_BYTES, flow_groups)?)?;
        engine.add(listen(
            Protocol::ROUTE,
            RECV_BUFFER_BYTES,
            [route::Group::Ipv4Route],
        )?)?;
        Ok(Self {
            flows: Flows::open()?,
            routes,
            follower: Follower::start(engine)?,
            flow_socket,
            formatter: RouteFormatter::load(text_format(None), None)?,
        })
    }

    fn flows(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        let key = connection(CLIENT);
        stage.say("A connection begins ([USERSPACE]: a request of the demo made it):")?;
        self.flows.make(&entry::connection(&key))?;
        self.show_event(stage, ShowAs::Text)?;

        let translated = connection(OTHER_CLIENT);
        let to = (INNER_SERVER.0.into(), Some(INNER_SERVER.1));
        let flow = entry::connection(&translated).dst_nat(to.0, to.1);
        match self.flows.requests().add(&flow) {
            Ok(()) => {
                stage.say(
                    "Another one begins, and NAT redirects it to 10.0.0.5: the second half of the line shows the addresses \
                     of the answers. Below it is the same event as --json writes it:",
                )?;
                self.show_event(stage, ShowAs::TextAndJson)?;
                self.flows.remove(&translated)?;
                stage.say("Both end:")?;
                self.show_event(stage, ShowAs::Text)?;
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                stage.say("(Connections through NAT are left out: this kernel has no NAT.)")?;
                stage.say("It ends:")?;
            }
            Err(error) => return Err(error.into()),
        }
        self.flows.remove(&key)?;
        self.show_event(stage, ShowAs::Text)
    }

    fn routes(&mut self, stage: &mut Stage) -> Result<(), Failure> {
        stage.say("A route is added, and deleted:")?;
        let route = over_loopback(Ipv4Addr::new(198, 51, 100, 0), 24, protocol::STATIC);
        self.routes.add(&route)?;
        self.show_event(stage, ShowAs::Text)?;
        if !self.routes.delete(&route)? {
            let message = "delete a route: another program has deleted it";
            return Err(Failure::Other(message.to_owned()));
        }
        self.show_event(stage, ShowAs::Text)
    }

    /// Receives one event, and shows it.
    fn show_event(&mut self, stage: &mut Stage, how: ShowAs) -> Result<(), Failure> {
        let (flow_socket, formatter) = (self.flow_socket, &self.formatter);
        let (mut text, mut json) = (Vec::new(), Vec::new());
        self.follower.receive(1, |event| {
            let Event::Messages(socket, list) = event else {
                return;
            };
            for message in list {
                if *socket != flow_socket {
                    if let Some(route) = Route::decode(&message) {
                        formatter.write_event(&mut text, &route, Timestamp::now());
                    }
                } else if let Some(flow) = Flow::decode(&message) {
                    let received_at = Timestamp::now();
                    FlowFormat::default().write_event(&mut text, &flow, received_at);
                    let json_format = FlowFormat::Json(LabelNames::default());
                    json_format.write_event(&mut json, &flow, received_at);
                }
            }
        })?;
        stage.events(&String::from_utf8_lossy(&text))?;
        if let ShowAs::TextAndJson = how {
            stage.json(&String::from_utf8_lossy(&json))?;
        }
        stage.pause(PAUSE);
        Ok(())
    }
}

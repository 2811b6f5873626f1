//! `nlring demo --events`: makes events in a private network namespace, follows them as a collector does, and compares
//! the counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nlring::route::Route;
use nlring::{Engine, Protocol, SocketId, conntrack, route};
use nlring_print::Style;

use crate::args::DemoArguments;
use crate::conntrack::FlowHandler;
use crate::demo::generator::Generator;
use crate::follow::collect::Limits;
use crate::follow::handler::{Handler, Incoming};
use crate::follow::session::{self, Session};
use crate::host::kept::Kept;
use crate::host::namespace;
use crate::outcome::{End, Failure, Outcome};
use crate::route::{RouteFormatter, text_format};
use crate::write::console::Console;
use crate::write::output::Output;

pub fn run(arguments: &DemoArguments, console: &mut Console) -> Outcome {
    session::run(&arguments.common, console, |session| {
        let engine = session.engine()?;
        namespace::enter("demo")?;
        let demo = Demo::open(session, engine, arguments.recv_buffer_bytes);
        let demo = demo.map_err(|failure| match failure {
            Failure::Denied(text) => namespace::forbidden("demo", &text),
            failure => failure,
        })?;
        session.keep(Kept::LOAD);
        demo.run(session)
    })
}

/// The generator, the sockets that receive its events, and the lines of these events.
struct Demo {
    generator: Generator,
    engine: Engine,
    sockets: [SocketId; 2],
    handler: DemoHandler,
}

impl Demo {
    fn open(
        session: &mut Session<'_>,
        mut engine: Engine,
        recv_buffer_bytes: usize,
    ) -> Result<Self, Failure> {
        let generator = Generator::open()?;
        let flow_groups = [conntrack::Group::New, conntrack::Group::Destroy];
        let flows =
            engine.add(session.socket(Protocol::NETFILTER, recv_buffer_bytes, flow_groups)?)?;
        let routes = engine.add(session.socket(
            Protocol::ROUTE,
            recv_buffer_bytes,
            [route::Group::Ipv4Route],
        )?)?;
        let handler = DemoHandler {
            flows,
            flow_handler: FlowHandler::default(),
            routes: RouteFormatter::load(text_format(None), None)?,
        };
        Ok(Self {
            generator,
            engine,
            sockets: [flows, routes],
            handler,
        })
    }

    fn run(mut self, session: &mut Session<'_>) -> Result<End, Failure> {
        let stop = self.engine.stop_handle();
        let requests = session.requests.clone();
        let is_over = Arc::new(AtomicBool::new(false));
        let generator = self.generator;
        let making = thread::Builder::new().name("generator".to_owned()).spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let made = generator
                    .run(|| is_over.load(Ordering::Relaxed) || requests.stop_since().is_some());
                stop.stop();
                made
            }
        });
        let making = making
            .map_err(|error| Failure::Other(format!("start the generator's thread: {error}")))?;
        let result = session.collect(
            self.engine,
            &self.sockets,
            Limits::default(),
            &mut self.handler,
        );
        is_over.store(true, Ordering::Relaxed);
        let made = making
            .join()
            .map_err(|_| Failure::Other("the generator's thread panicked".to_owned()))?;
        let (end, made) = (result?, made?);
        session.summary.created = Some(made.event_count);
        if made.is_whole && end == End::Stopped {
            compare(
                made.event_count,
                session.summary.received,
                session.summary.dropped,
            )?;
        }
        Ok(end)
    }
}

fn compare(created: u64, received: u64, lost: u64) -> Result<(), Failure> {
    if created == received + lost {
        return Ok(());
    }
    Err(Failure::Other(format!(
        "{created} events were created, but {received} received and {lost} lost: these do not add up"
    )))
}

/// Flows and routes, each by its socket.
struct DemoHandler {
    flows: SocketId,
    flow_handler: FlowHandler,
    routes: RouteFormatter,
}

impl Handler for DemoHandler {
    fn style(&self) -> Style {
        self.flow_handler.style()
    }

    fn handle(&mut self, incoming: &Incoming<'_>, output: &mut Output) {
        if incoming.socket == self.flows {
            self.flow_handler.handle(incoming, output);
        } else if let Some(route) = &Route::decode(&incoming.message) {
            output.event(|out| self.routes.write_event(out, route, incoming.received_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_created_must_be_received_or_lost() {
        assert!(compare(10, 10, 0).is_ok() && compare(10, 7, 3).is_ok());
        assert!(compare(10, 9, 0).is_err() && compare(10, 10, 1).is_err());
    }
}

//! `nlring conntrack --all-netns`: a socket in each network namespace.

use std::rc::Rc;

use nlring::{Namespace, Socket, SocketId};
use nlring_print::Style;
use nlring_print::conntrack::FlowFormat;

use super::filter::Selection;
use super::{FlowHandler, builder, format, groups, mirror, received_events};
use crate::args::{AllNetns, ConntrackArguments};
use crate::follow::collect::Limits;
use crate::follow::keeper::Keeper;
use crate::follow::namespaces::{Namespaces, Opener};
use crate::follow::session;
use crate::outcome::{Failure, Outcome};
use crate::write::console::Console;

pub fn run(
    arguments: &ConntrackArguments,
    selection: &Selection,
    which: AllNetns,
    console: &mut Console,
) -> Outcome {
    let collector = &arguments.collector;
    session::run(&collector.follow.common, console, |session| {
        session.let_recv_buffer_grow(&collector.follow)?;
        let mut engine = session.engine()?;
        let opener = FlowOpener {
            arguments,
            selection,
            format: Rc::new(format(arguments, session.console)),
        };
        let mut handler = Namespaces::open(opener, which, &mut engine, session)?;
        let sockets = handler.sockets();
        session.collect(
            engine,
            &sockets,
            Limits::of(&collector.follow),
            &mut handler,
        )
    })
}

struct FlowOpener<'a> {
    arguments: &'a ConntrackArguments,
    selection: &'a Selection,
    format: Rc<FlowFormat>,
}

impl Opener for FlowOpener<'_> {
    type Handler = FlowHandler;

    fn socket(&self, namespace: &Namespace) -> Result<Socket, Failure> {
        let builder = builder(self.arguments, self.selection).namespace(namespace);
        let groups = groups(&received_events(self.arguments)).collect::<Vec<_>>();
        let bytes = self.arguments.collector.follow.recv_buffer_bytes;
        let (socket, _) = session::open(&builder, bytes, groups)?;
        Ok(socket)
    }

    fn handler(
        &self,
        socket: SocketId,
        _namespace: &Namespace,
        count: usize,
    ) -> Result<FlowHandler, Failure> {
        let (format, keeper) = (
            Rc::clone(&self.format),
            Keeper::without_table(mirror::DOUBT),
        );
        FlowHandler::new(
            self.arguments,
            self.selection,
            format,
            socket,
            keeper,
            count,
        )
    }

    fn style(&self) -> Style {
        self.format.style()
    }
}

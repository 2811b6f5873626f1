//! `nlring route --all-netns`: a socket in each network namespace.

use nlring::{Namespace, Socket, SocketId};
use nlring_print::Style;

use super::filter::Selection;
use super::{RouteFormatter, RouteHandler, builder, format, groups, mirror, style};
use crate::args::{AllNetns, RouteArguments};
use crate::follow::collect::Limits;
use crate::follow::keeper::Keeper;
use crate::follow::namespaces::{Namespaces, Opener};
use crate::follow::session;
use crate::outcome::{Failure, Outcome};
use crate::write::console::Console;

pub fn run(
    arguments: &RouteArguments,
    selection: &Selection,
    which: AllNetns,
    console: &mut Console,
) -> Outcome {
    let collector = &arguments.collector;
    session::run(&collector.follow.common, console, |session| {
        session.let_recv_buffer_grow(&collector.follow)?;
        let mut engine = session.engine()?;
        let opener = RouteOpener {
            arguments,
            selection,
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

struct RouteOpener<'a> {
    arguments: &'a RouteArguments,
    selection: &'a Selection,
}

impl Opener for RouteOpener<'_> {
    type Handler = RouteHandler;

    fn socket(&self, namespace: &Namespace) -> Result<Socket, Failure> {
        let builder = builder(self.selection).namespace(namespace);
        let groups = groups(self.arguments).iter().copied();
        let bytes = self.arguments.collector.follow.recv_buffer_bytes;
        let (socket, _) = session::open(&builder, bytes, groups)?;
        Ok(socket)
    }

    fn handler(
        &self,
        socket: SocketId,
        namespace: &Namespace,
        count: usize,
    ) -> Result<RouteHandler, Failure> {
        let formatter = RouteFormatter::load(format(self.arguments), Some(namespace))?;
        let keeper = Keeper::without_table(mirror::DOUBT);
        Ok(RouteHandler::new(
            self.arguments,
            self.selection,
            formatter,
            socket,
            keeper,
            count,
        ))
    }

    fn style(&self) -> Style {
        style(self.arguments)
    }
}

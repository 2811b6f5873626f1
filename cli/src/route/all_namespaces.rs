//! `nlring route --all-netns`: a socket in each network namespace.

use nlring::{Namespace, Protocol, Socket, SocketId};
use nlring_print::Style;

use super::{RouteFormatter, RouteHandler, format, groups, mirror, style};
use crate::args::{AllNetns, RouteArguments};
use crate::follow::collect::Limits;
use crate::follow::keeper::Keeper;
use crate::follow::namespaces::{Namespaces, Opener};
use crate::follow::session;
use crate::outcome::{Failure, Outcome};
use crate::write::console::Console;

pub fn run(arguments: &RouteArguments, which: AllNetns, console: &mut Console) -> Outcome {
    let collector = &arguments.collector;
    session::run(&collector.follow.common, console, |session| {
        session.let_recv_buffer_grow(&collector.follow)?;
        let mut engine = session.engine()?;
        let mut handler = Namespaces::open(RouteOpener(arguments), which, &mut engine, session)?;
        let sockets = handler.sockets();
        session.collect(
            engine,
            &sockets,
            Limits::of(&collector.follow),
            &mut handler,
        )
    })
}

struct RouteOpener<'a>(&'a RouteArguments);

impl Opener for RouteOpener<'_> {
    type Handler = RouteHandler;

    fn socket(&self, namespace: &Namespace) -> Result<Socket, Failure> {
        let builder = Socket::builder(Protocol::ROUTE).namespace(namespace);
        let groups = groups(self.0).iter().copied();
        let (socket, _) =
            session::open(&builder, self.0.collector.follow.recv_buffer_bytes, groups)?;
        Ok(socket)
    }

    fn handler(
        &self,
        socket: SocketId,
        namespace: &Namespace,
        count: usize,
    ) -> Result<RouteHandler, Failure> {
        let formatter = RouteFormatter::load(format(self.0), Some(namespace))?;
        let keeper = Keeper::without_table(mirror::DOUBT);
        Ok(RouteHandler::new(self.0, formatter, socket, keeper, count))
    }

    fn style(&self) -> Style {
        style(self.0)
    }
}

//! `nlring monitor --all-netns`: a socket in each network namespace.

use nlring::route::Group;
use nlring::{Namespace, Protocol, Socket, SocketId};
use nlring_print::Style;

use super::{MonitorHandler, join};
use crate::args::{AllNetns, MonitorArguments};
use crate::follow::collect::Limits;
use crate::follow::namespaces::{Namespaces, Opener};
use crate::follow::session;
use crate::outcome::{Failure, Outcome};
use crate::write::console::Console;

pub fn run(arguments: &MonitorArguments, which: AllNetns, console: &mut Console) -> Outcome {
    let follow = &arguments.follow;
    session::run(&follow.common, console, |session| {
        session.let_recv_buffer_grow(follow)?;
        let mut engine = session.engine()?;
        let mut handler = Namespaces::open(MonitorOpener(arguments), which, &mut engine, session)?;
        let sockets = handler.sockets();
        session.collect(engine, &sockets, Limits::of(follow), &mut handler)
    })
}

struct MonitorOpener<'a>(&'a MonitorArguments);

impl Opener for MonitorOpener<'_> {
    type Handler = MonitorHandler;

    fn socket(&self, namespace: &Namespace) -> Result<Socket, Failure> {
        let builder = Socket::builder(Protocol::ROUTE).namespace(namespace);
        let bytes = self.0.follow.recv_buffer_bytes;
        let no_groups: [Group; 0] = [];
        let (socket, _) = session::open(&builder, bytes, no_groups)?;
        join(&socket, self.0)?;
        Ok(socket)
    }

    fn handler(
        &self,
        _socket: SocketId,
        namespace: &Namespace,
        _count: usize,
    ) -> Result<MonitorHandler, Failure> {
        MonitorHandler::new(self.0, Some(namespace))
    }

    fn style(&self) -> Style {
        if self.0.follow.json {
            Style::Json
        } else {
            Style::Text
        }
    }
}

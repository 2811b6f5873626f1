//! What `nlring conntrack`, `nlring route` and `nlring monitor` share: each follows one namespace, or all of them.

use std::path::Path;

use nlring::{Namespace, RecvBuffer, Socket, SocketId};
use nlring_print::Style;

use super::collect::Limits;
use super::handler::Handler;
use super::namespaces::{self, Namespaces};
use super::session;
use super::summary::Summary;
use crate::args::FollowArguments;
use crate::host::kept::Kept;
use crate::host::known_namespaces::Label;
use crate::outcome::{Failure, Outcome};
use crate::write::console::Console;

/// What a command opens in each namespace that it follows.
pub trait Collector {
    type Handler: Handler;

    /// The style of all lines.
    fn style(&self) -> Style;

    /// The capabilities that it needs while it runs.
    fn kept(&self) -> Kept {
        Kept::NONE
    }

    /// Examines the namespaces before the first socket is opened. None means that of this process.
    fn look_around(&mut self, _namespaces: &[(Label, Option<Namespace>)], _console: &mut Console) {}

    /// Opens a socket for the events of a namespace. None means that of this process.
    fn socket(
        &mut self,
        namespace: Option<&Namespace>,
        console: &mut Console,
    ) -> Result<(Socket, RecvBuffer), Failure>;

    /// Makes what handles the events of that socket. `count` is how many namespaces there are.
    fn handler(
        &self,
        socket: SocketId,
        namespace: Option<&Namespace>,
        count: usize,
    ) -> Result<Self::Handler, Failure>;

    /// Adds to the summary what is known only at the end.
    fn complete(&self, _summary: &mut Summary) {}
}

/// Follows the namespaces that the options select, up to the summary. `table` is the file of --table.
pub fn run<C: Collector>(
    follow: &FollowArguments,
    table: Option<&Path>,
    console: &mut Console,
    open: impl FnOnce(&mut Console) -> C,
) -> Outcome {
    session::run(&follow.common, console, |session| {
        session.let_recv_buffer_grow(follow)?;
        session.open_table(table)?;
        let mut engine = session.engine()?;
        let mut collector = open(session.console);
        let limits = Limits::of(follow);
        session.keep(collector.kept());
        if let Some(which) = follow.netns.all_netns {
            session.keep(namespaces::kept(which));
            let mut handler = Namespaces::open(collector, which, &mut engine, session)?;
            let sockets = handler.sockets();
            let end = session.collect(engine, &sockets, limits, &mut handler);
            handler.collector().complete(session.summary);
            return end;
        }
        collector.look_around(&[(Label::Own, None)], session.console);
        let (socket, recv_buffer) = collector.socket(None, session.console)?;
        session.note_recv_buffer(recv_buffer);
        let socket = engine.add(socket)?;
        let mut handler = collector.handler(socket, None, 1)?;
        let end = session.collect(engine, &[socket], limits, &mut handler);
        collector.complete(session.summary);
        end
    })
}

//! What all commands that follow events share: from the options to the summary and the exit code.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nlring::{
    Backend, Engine, Namespace, Protocol, RecvBuffer, Running, Socket, SocketBuilder, StopHandle,
    Wait,
};

use crate::args::{CommonArguments, FollowArguments};
use crate::follow::stats_file::StatsFile;
use crate::follow::summary::Summary;
use crate::follow::table_file::TableFile;
use crate::host::kept::Kept;
use crate::host::signals::{FileRequests, Signals, StopRequests};
use crate::host::sysctl;
use crate::outcome::{End, Failure, Failures, Outcome};
use crate::units::Bytes;
use crate::write::console::Console;
use crate::write::output::Output;
use crate::write::place::Place;

/// The exit code after a second signal: the one that a shell reports for SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs a command from its options to its outcome. However `job` ends, the summary is printed and written, and every
/// failure is returned.
pub fn run(
    arguments: &CommonArguments,
    console: &mut Console,
    job: impl FnOnce(&mut Session) -> Result<End, Failure>,
) -> Outcome {
    let mut summary = Summary::default();
    let mut failures = Vec::new();
    let stats = arguments.stats.as_deref().map(StatsFile::open);
    let stats = stats.transpose()?;
    let mut further_failures = Vec::new();
    let opened = Session::open(
        arguments,
        stats.as_ref(),
        console,
        &mut summary,
        &mut further_failures,
    );
    let mut code = ExitCode::SUCCESS;
    match opened.and_then(|mut session| job(&mut session)) {
        Ok(End::AtOnce) => code = ExitCode::from(INTERRUPTED),
        Ok(_) => {}
        Err(failure) => failures.push(failure),
    }
    failures.append(&mut further_failures);
    if summary.backend.is_some() {
        console.say(&summary);
    }
    let is_usage = matches!(failures.first(), Some(Failure::Usage(_)));
    // After wrong usage nothing has run, and the user may have meant another file.
    if let Some(stats) = stats.filter(|_| !is_usage) {
        failures.extend(stats.write(&summary).err());
    }
    Failures::or(code, failures)
}

/// Drops all other capabilities, or warns.
pub fn give_up_all_but(kept: Kept, console: &mut Console) {
    if let Err(error) = kept.give_up_others() {
        console.warn(format_args!(
            "this process keeps capabilities that it does not need: {error}"
        ));
    }
}

/// Opens a socket in a namespace, and joins its groups once its receive buffer has its size. None means the namespace
/// of this thread.
pub fn open(
    builder: SocketBuilder,
    namespace: Option<&Namespace>,
    recv_buffer_bytes: usize,
    groups: impl IntoIterator<Item = impl Into<u32>>,
) -> Result<(Socket, RecvBuffer), Failure> {
    let builder = match namespace {
        Some(namespace) => builder.namespace(namespace),
        None => builder,
    };
    let socket = builder.open()?;
    let buffer = socket.set_recv_buffer_bytes(recv_buffer_bytes)?;
    for group in groups {
        socket.add_membership(group)?;
    }
    Ok((socket, buffer))
}

/// What a command works with: its output, its engine's options and its signals.
pub struct Session<'a> {
    pub console: &'a mut Console,
    pub summary: &'a mut Summary,
    /// Failures in addition to the job's own. They are reported after it.
    pub further_failures: &'a mut Vec<Failure>,
    pub output: Output,
    signals: Option<Signals>,
    pub requests: StopRequests,
    pub stats: Option<&'a StatsFile>,
    pub stats_interval: Option<Duration>,
    /// The file of --table.
    pub table: Option<TableFile>,
    /// Whether --output's file is emptied before the first line.
    pub truncates: bool,
    /// The size up to which the receive buffers grow after losses. None: they do not grow.
    pub recv_buffer_max_bytes: Option<usize>,
    /// The capabilities that are needed until the end.
    kept: Kept,
    backend: Backend,
    wait: Wait,
}

impl<'a> Session<'a> {
    fn open(
        arguments: &CommonArguments,
        stats: Option<&'a StatsFile>,
        console: &'a mut Console,
        summary: &'a mut Summary,
        further_failures: &'a mut Vec<Failure>,
    ) -> Result<Self, Failure> {
        let requests = StopRequests::default();
        let output = Output::open(&arguments.output, requests.clone())?;
        if let Some(place) = stats.and_then(StatsFile::place)
            && output.sink().is_file_of(place)
        {
            return Err(Failure::Usage(
                "--output and --stats name the same file; give each its own".to_owned(),
            ));
        }
        // After the output, because opening a named pipe waits for its reader, and a signal must end that wait.
        let signals = Signals::install(requests.clone(), output.can_reopen())
            .map_err(|error| Failure::Other(format!("handle signals: {error}")))?;
        let replaces = stats.is_some_and(|stats| stats.place().is_some());
        Ok(Self {
            kept: Kept::NONE.and_if(output.can_reopen() || replaces, Kept::FILES),
            console,
            summary,
            further_failures,
            output,
            signals: Some(signals),
            requests,
            stats,
            stats_interval: arguments.stats_interval,
            table: None,
            truncates: arguments.truncate,
            recv_buffer_max_bytes: None,
            backend: arguments.backend,
            wait: arguments.wait,
        })
    }

    /// The other option that names this file, by any path.
    pub fn option_of_file(&self, place: &Place) -> Option<&'static str> {
        let stats = self.stats.and_then(StatsFile::place);
        if self.output.sink().is_file_of(place) {
            Some("--output")
        } else if stats.is_some_and(|stats| stats.is_same(place)) {
            Some("--stats")
        } else {
            None
        }
    }

    /// Opens the file of --table, if there is one.
    pub fn open_table(&mut self, path: Option<&Path>) -> Result<(), Failure> {
        self.table = path.map(|path| TableFile::open(path, self)).transpose()?;
        self.kept = self.kept.and_if(path.is_some(), Kept::FILES);
        Ok(())
    }

    /// Keeps these capabilities until the end.
    pub fn keep(&mut self, needed: Kept) {
        self.kept = self.kept.and(needed);
    }

    /// Drops the capabilities that are no longer needed. Call it when the files and the engine are open, before threads
    /// start.
    pub fn give_up_capabilities(&mut self) {
        give_up_all_but(self.kept, self.console);
        self.summary.capabilities = Kept::current().names();
    }

    /// Builds the engine that the options select.
    pub fn engine(&self) -> Result<Engine, Failure> {
        Ok(Engine::builder()
            .backend(self.backend)
            .wait(self.wait)
            .build()?)
    }

    /// Checks --recv-buffer-max, and lets receive buffers grow up to it.
    pub fn let_recv_buffer_grow(&mut self, follow: &FollowArguments) -> Result<(), Failure> {
        let (from, up_to) = (follow.recv_buffer_bytes, follow.recv_buffer_max_bytes);
        if let Some(most) = up_to.filter(|&most| most < from) {
            let bytes = |bytes: usize| Bytes(bytes as u64);
            return Err(Failure::Usage(format!(
                "--recv-buffer-max ({}) is less than --recv-buffer ({}); give it at least as much",
                bytes(most),
                bytes(from)
            )));
        }
        self.recv_buffer_max_bytes = up_to;
        self.kept = self.kept.and_if(up_to.is_some(), Kept::GROWTH);
        Ok(())
    }

    /// Opens a socket in its groups, and warns if its receive buffer is smaller than requested.
    pub fn socket(
        &mut self,
        protocol: Protocol,
        recv_buffer_bytes: usize,
        groups: impl IntoIterator<Item = impl Into<u32>>,
    ) -> Result<Socket, Failure> {
        let builder = Socket::builder(protocol);
        let (socket, buffer) = open(builder, None, recv_buffer_bytes, groups)?;
        self.note_recv_buffer(buffer);
        Ok(socket)
    }

    /// Records the receive buffer of the first socket, and warns if it is smaller than requested.
    pub fn note_recv_buffer(&mut self, buffer: RecvBuffer) {
        if self.summary.recv_buffer_requested_bytes == 0 {
            self.summary.set_recv_buffer(buffer);
            self.warn_if_clamped(buffer);
        }
    }

    fn warn_if_clamped(&mut self, buffer: RecvBuffer) {
        if buffer.is_clamped() {
            self.console.warn(sysctl::clamped(buffer));
        }
    }

    /// Makes signals end the engine from now on. Returns their other requests.
    pub fn forward_signals(&mut self, stop: StopHandle) -> Result<FileRequests, Failure> {
        let Some(signals) = self.signals.take() else {
            return Ok(FileRequests::default());
        };
        signals
            .forward_to(stop)
            .map_err(|error| Failure::Other(format!("start the thread for signals: {error}")))
    }

    /// Warns if the delay of --wait is longer than the receive buffer can absorb.
    pub fn warn_if_delay_is_cut(&mut self, running: &Running) {
        if let (Wait::Batch(asked), Some(longest)) = (self.wait, running.longest_delay())
            && longest < asked
        {
            let effect = match longest {
                Duration::ZERO => {
                    "has no effect, because the receive buffer is too small".to_owned()
                }
                longest => format!("is cut to {longest:?}, which the receive buffer can absorb"),
            };
            self.console.warn(format_args!(
                "--wait batch:{asked:?} {effect}; a larger --recv-buffer allows more"
            ));
        }
    }
}

//! A NATS server of a test, and what its stream has.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;
use nlring_testing::{await_that, cannot_run};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};

/// Where the servers of tests listen. Each test has a network namespace of its own.
pub const ADDRESS: &str = "127.0.0.1:4222";

/// Debian's nats-server, found before the test has a network namespace without a way out: the one that is installed, or else one that is unpacked in target/tools.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let is_installed = Command::new("nats-server")
            .arg("--version")
            .output()
            .is_ok();
        if is_installed {
            return Some("nats-server".into());
        }
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/nats-server");
        let program = directory.join("usr/sbin/nats-server");
        if !program.exists() {
            fs::create_dir_all(&directory).ok()?;
            let unpack = "apt-get download nats-server && dpkg -x nats-server_*.deb .";
            let shell = Command::new("sh")
                .args(["-c", unpack])
                .current_dir(&directory)
                .output();
            shell.ok().filter(|output| output.status.success())?;
        }
        program.exists().then_some(program)
    });
    let Some(program) = program else {
        cannot_run("no nats-server: install it (apt-get install nats-server)".to_owned())
    };
    program.clone()
}

/// A server.
pub struct Server {
    child: Child,
    directory: PathBuf,
}

impl Server {
    /// Starts a server with JetStream and these lines of its configuration.
    #[track_caller]
    pub fn start(directory: &Path, lines: &str) -> Self {
        let place = directory.display();
        let text = format!(
            "listen: \"{ADDRESS}\"\njetstream {{ store_dir: \"{place}/jetstream\" }}\n{lines}\n"
        );
        Self::start_with(directory, &text)
    }

    /// Starts a server with this configuration, and waits until it answers.
    #[track_caller]
    pub fn start_with(directory: &Path, text: &str) -> Self {
        Self::start_at(ADDRESS, directory, text)
    }

    /// Starts a server with this configuration, and waits until it answers at this address.
    #[track_caller]
    pub fn start_at(address: &str, directory: &Path, text: &str) -> Self {
        let path = directory.join("nats.conf");
        fs::write(&path, text).expect("a configuration");
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(directory.join("nats.log"))
            .expect("a log");
        let child = Command::new(program())
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        let server = Self {
            child,
            directory: directory.to_owned(),
        };
        await_that("the server answers", || {
            let mut line = String::new();
            let connected = TcpStream::connect(address);
            connected.is_ok_and(|stream| BufReader::new(stream).read_line(&mut line).is_ok())
                && line.starts_with("INFO")
        });
        server
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("nats.log")).expect("a log")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// Kills it by SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the server.
pub struct Reader {
    runtime: Runtime,
    context: jetstream::Context,
    /// Up to which sequence records were counted, and how many there were.
    counted: Cell<(u64, u64)>,
}

impl Reader {
    pub fn connect() -> Self {
        Self::connect_with(async_nats::ConnectOptions::new())
    }

    pub fn connect_with(options: async_nats::ConnectOptions) -> Self {
        Self::connect_to(&[ADDRESS.to_owned()], options)
    }

    /// Connects to one of these addresses.
    pub fn connect_to(addresses: &[String], options: async_nats::ConnectOptions) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(options.connect(addresses));
        let guard = runtime.enter();
        let context = jetstream::new(client.expect("a connection"));
        drop(guard);
        Self {
            runtime,
            context,
            counted: Cell::default(),
        }
    }

    /// Changes the settings of the stream, or creates it.
    pub fn set(&self, config: jetstream::stream::Config) {
        let created = self.context.create_or_update_stream(config);
        self.runtime.block_on(created).expect("a stream");
    }

    /// Creates the stream. False: the servers cannot yet.
    pub fn has_created(&self, config: jetstream::stream::Config) -> bool {
        let created = self.context.create_stream(config);
        self.runtime.block_on(created).is_ok()
    }

    /// What the servers say about the stream. None: there is none, or no answer.
    pub fn info(&self) -> Option<jetstream::stream::Info> {
        let stream = self.runtime.block_on(self.context.get_stream("nlring"));
        Some(stream.ok()?.cached_info().clone())
    }

    /// The settings of the stream. None: it is not there.
    pub fn settings(&self) -> Option<jetstream::stream::Config> {
        self.info().map(|info| info.config)
    }

    /// How many messages the stream has.
    pub fn message_count(&self) -> u64 {
        self.info().map_or(0, |info| info.state.messages)
    }

    /// All messages of the stream, in their order.
    pub fn messages(&self) -> Vec<StreamMessage> {
        self.runtime.block_on(async {
            let stream = self.context.get_stream("nlring").await.expect("a stream");
            let state = &stream.cached_info().state;
            let mut messages = Vec::new();
            for sequence in state.first_sequence..=state.last_sequence {
                let message = stream.get_raw_message(sequence).await;
                messages.push(message.expect("a message"));
            }
            messages
        })
    }

    /// How many messages a consumer has not acknowledged, or not been given. None: there is none, or no answer.
    pub fn pending_count(&self, consumer: &str) -> Option<u64> {
        let info = self.consumer(consumer)?;
        Some(info.num_pending + info.num_ack_pending as u64)
    }

    /// What the servers say about a consumer. None: there is none, or no answer.
    pub fn consumer(&self, consumer: &str) -> Option<jetstream::consumer::Info> {
        self.runtime.block_on(async {
            let stream = self.context.get_stream("nlring").await.ok()?;
            stream.consumer_info(consumer).await.ok()
        })
    }

    /// Changes after which time a consumer delivers a message again that is not acknowledged.
    pub fn set_ack_wait(&self, consumer: &str, ack_wait: Duration) {
        let info = self.consumer(consumer).expect("a consumer");
        let config = jetstream::consumer::pull::Config {
            durable_name: Some(consumer.to_owned()),
            ack_policy: info.config.ack_policy,
            max_ack_pending: info.config.max_ack_pending,
            max_deliver: info.config.max_deliver,
            ack_wait,
            ..Default::default()
        };
        let updated = self.runtime.block_on(async {
            let stream = self.context.get_stream("nlring").await.expect("a stream");
            stream.create_consumer(config).await
        });
        updated.expect("the consumer is changed");
    }

    pub fn has_consumer(&self, consumer: &str) -> bool {
        self.consumer(consumer).is_some()
    }

    /// How many records the messages have.
    pub fn record_count(&self) -> u64 {
        self.runtime.block_on(async {
            let Ok(stream) = self.context.get_stream("nlring").await else {
                return 0;
            };
            let state = &stream.cached_info().state;
            let (mut sequence, mut record_count) = self.counted.get();
            while sequence < state.last_sequence {
                sequence += 1;
                let message = stream.get_raw_message(sequence).await;
                let headers = message.expect("a message").headers;
                let count = headers.get("Nlring-Records").expect("a header");
                record_count += count.as_str().parse::<u64>().expect("a number");
            }
            self.counted.set((sequence, record_count));
            record_count
        })
    }

    pub fn publish(&self, subject: &'static str) {
        self.runtime.block_on(async {
            let published = self.context.publish(subject, "".into()).await;
            published.expect("it is sent").await.expect("it is stored");
        });
    }
}

/// What the body of a message has.
pub fn records(message: &StreamMessage) -> Vec<RecordBatch> {
    let mut body = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(&message.payload[..]);
    decoder
        .expect("a decoder")
        .read_to_end(&mut body)
        .expect("a zstd frame");
    let reader = StreamReader::try_new(&body[..], None).expect("a stream of Arrow IPC");
    reader.map(|batch| batch.expect("a batch")).collect()
}

//! Several sockets that divide the events of conntrack among themselves.

mod threads;

use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

pub use self::threads::ShardThreads;
use super::filter::{Filter, Split, Term};
use super::tuple::Tuple;
use crate::engine::{Control, EngineBuilder, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Besides;
use crate::socket::{Protocol, Socket, SocketBuilder};

/// Sockets that divide conntrack's events among themselves, so that several threads can receive.
///
/// Together the shards receive each event exactly once, or count it as lost exactly once. All events of a flow go to
/// the same shard, in the kernel's order. So do the events of successive flows with the same tuple, because the
/// original tuple decides ([`Split`]). Everything that is not an event of a flow, such as an event of an expectation,
/// goes to shard 0. There is no order between shards.
///
/// Each shard is a socket with a filter in the kernel, which is attached before the socket joins a group. The kernel
/// runs the filters of all shards for each event, in the thread that causes it: docs/sharding.md says what that costs,
/// and when shards pay off.
///
/// [`spawn`](Self::spawn) runs an engine for each shard on a separate thread. [`into_sockets`](Self::into_sockets)
/// returns the sockets for engines of your own. [`Statistics`](crate::Statistics) can be summed: the sum over all
/// shards says exactly how many datagrams were received and lost.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use nlring::conntrack::{Flow, Group, Shards};
/// use nlring::{Engine, Event, Finished, Protocol, Socket, Statistics};
///
/// let socket = Socket::builder(Protocol::NETFILTER)
///     .groups([Group::New, Group::Destroy])
///     .recv_buffer_bytes(8 << 20);
/// let shards = Shards::builder(4)
///     .filter("proto tcp and dport 443".parse()?)
///     .open(&socket)?;
/// let threads = shards.spawn(&Engine::builder(), |shard| {
///     move |event, _control| {
///         match event {
///             Event::Messages(_, list) => {
///                 for flow in list.iter().filter_map(|message| Flow::decode(&message)) {
///                     println!("shard {shard}: {:?} {}", flow.kind, flow.orig);
///                 }
///             }
///             Event::Lost(_, loss) => eprintln!("shard {shard} lost {loss}"),
///             Event::Notice(_, notice) => eprintln!("shard {shard}: {notice}"),
///         }
///         ControlFlow::<()>::Continue(())
///     }
/// })?;
/// let ends = threads.join();
/// let sum: Statistics = ends.iter().map(Finished::statistics).sum();
/// println!("{} received, {} lost", sum.received, sum.dropped);
/// # Ok::<(), nlring::Error>(())
/// ```
#[derive(Debug)]
pub struct Shards {
    split: Split,
    sockets: Vec<Socket>,
}

impl Shards {
    /// Starts building this many shards, from 1 to [`MAX_COUNT`](Self::MAX_COUNT).
    pub fn builder(count: usize) -> ShardsBuilder {
        ShardsBuilder {
            count,
            filter: Filter::default(),
            seed: None,
        }
    }

    /// The largest number of shards. The kernel runs the filter of each shard for each event.
    pub const MAX_COUNT: usize = 256;

    /// The number of the shard that receives the events of flows with this original tuple, from 0 on.
    pub fn of(&self, orig: &Tuple) -> usize {
        self.split.share_of(orig) as usize
    }

    /// How flows are divided: a value for [`of`](Self::of) that can be copied to other threads.
    pub fn split(&self) -> Split {
        self.split
    }

    /// The sockets, in the order of the shards.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// The sockets, in the order of the shards. An engine takes each like any other socket; one engine may take
    /// several.
    ///
    /// ```no_run
    /// use nlring::conntrack::{Group, Shards};
    /// use nlring::{AddError, Engine, Protocol, Socket, SocketId, Statistics};
    ///
    /// let socket = Socket::builder(Protocol::NETFILTER).group(Group::Destroy);
    /// let shards = Shards::builder(2).open(&socket)?;
    /// let mut engine = Engine::builder().build()?;
    /// let sockets = shards.into_sockets().into_iter();
    /// let ids: Vec<SocketId> = sockets.map(|socket| engine.add(socket)).collect::<Result<_, AddError>>()?;
    /// let running = engine.start()?;
    /// let sum: Statistics = ids.iter().filter_map(|id| running.statistics(*id)).sum();
    /// assert_eq!(sum.dropped, 0);
    /// # Ok::<(), nlring::Error>(())
    /// ```
    pub fn into_sockets(self) -> Vec<Socket> {
        self.sockets
    }

    /// Runs each shard in its own engine, on its own thread.
    ///
    /// `callback` is called once for each shard, with its number, and returns the callback of that shard's engine. If
    /// one of these breaks or panics, or if an engine fails, all shards end, as after [`ShardThreads::stop`].
    ///
    /// # Errors
    ///
    /// Those of [`EngineBuilder::build`] and [`Engine::add`](crate::Engine::add). [`ErrorKind::System`] or
    /// [`ErrorKind::WouldBlock`]: the system cannot start another thread. Shards that were started are stopped.
    pub fn spawn<B, F>(
        self,
        engine: &EngineBuilder,
        callback: impl FnMut(usize) -> F,
    ) -> Result<ShardThreads<B>>
    where
        F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B> + Send + 'static,
        B: Send + 'static,
    {
        ShardThreads::spawn(self.sockets, engine, callback)
    }
}

/// Opens [`Shards`].
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until `open`"]
pub struct ShardsBuilder {
    count: usize,
    filter: Filter,
    seed: Option<u32>,
}

impl ShardsBuilder {
    /// Receives only events of flows that match. Messages that are not events of flows still arrive.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// The seed of the [`Split`]. Without it the seed is random, so that no outsider can know which ports lead to one
    /// shard. With the same seed and number of shards, each flow is on the same shard again.
    pub fn seed(mut self, seed: u32) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Opens a socket for each shard, all with the options and groups of this builder, which is that of
    /// [`Protocol::NETFILTER`]. The receive buffer's size applies to each shard. A port ID can only belong to a single
    /// shard, so leave it to the kernel.
    ///
    /// Events that happen while the sockets are being opened may reach some shards and not others, because the sockets
    /// join their groups one by one. Once `open` has returned, every event arrives.
    ///
    /// # Errors
    ///
    /// - Those of [`SocketBuilder::open`] and [`Filter::program`](crate::filter::Filter::program). All sockets are then
    ///   closed.
    /// - [`ErrorKind::InvalidInput`]: the number of shards is out of range, the builder is of another protocol, or it
    ///   has a program of its own.
    pub fn open(&self, socket: &SocketBuilder) -> Result<Shards> {
        let split = self.split(socket)?;
        let shards = 0..split.share_count();
        let sockets = shards.map(|shard| {
            let own = Term::share(split, shard..shard + 1);
            let besides = match shard {
                0 => Besides::AllButEvents,
                _ => Besides::Replies,
            };
            let program = self.filter.clone().and(own).program_with(besides)?;
            socket.clone().filter(&program).open()
        });
        let sockets = sockets.collect::<Result<_>>()?;
        Ok(Shards { split, sockets })
    }

    fn split(&self, socket: &SocketBuilder) -> Result<Split> {
        let refuse = |remedy| {
            Err(Error::with_kind("open shards", ErrorKind::InvalidInput).with_remedy(remedy))
        };
        if socket.protocol() != Protocol::NETFILTER {
            return refuse("shards divide the flows of conntrack: use `Protocol::NETFILTER`");
        }
        if socket.has_filter() {
            return refuse(
                "each shard's socket gets a program of its own: give the filter to the shards",
            );
        }
        let seed = self.seed.unwrap_or_else(random_seed);
        match u32::try_from(self.count) {
            Ok(count) if (1..=Shards::MAX_COUNT).contains(&self.count) => {
                Ok(Split::new(count).seed(seed))
            }
            _ => refuse("the number of shards must be from 1 to 256"),
        }
    }
}

/// A number that differs from run to run, from std's source of randomness.
fn random_seed() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

//! Shards that run on separate threads.

use std::fmt;
use std::ops::ControlFlow;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::engine::{Control, Engine, EngineBuilder, Event, Finished, StopHandle};
use crate::error::{Error, Result};
use crate::socket::Socket;

/// The threads of [`Shards::spawn`](super::Shards::spawn). Dropping this stops them, and waits until they have ended.
#[must_use = "dropping this ends the shards"]
pub struct ShardThreads<B> {
    stops: Stops,
    threads: Vec<JoinHandle<Finished<B>>>,
}

impl<B: Send + 'static> ShardThreads<B> {
    pub(super) fn spawn<F>(
        sockets: Vec<Socket>,
        builder: &EngineBuilder,
        mut callback: impl FnMut(usize) -> F,
    ) -> Result<Self>
    where
        F: FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B> + Send + 'static,
    {
        let engines = sockets.into_iter().map(|socket| {
            let mut engine = builder.build()?;
            engine.add(socket)?;
            Ok(engine)
        });
        let engines: Vec<Engine> = engines.collect::<Result<_>>()?;
        let mut this = Self {
            stops: Stops(engines.iter().map(Engine::stop_handle).collect()),
            threads: Vec::with_capacity(engines.len()),
        };
        for (shard, engine) in engines.into_iter().enumerate() {
            let (f, others) = (callback(shard), this.stops.clone());
            let thread = thread::Builder::new().name(format!("nlring shard {shard}"));
            let thread = thread.spawn(move || {
                let _others = others; // which end with this one, also if the callback panics
                run(engine, f)
            });
            let thread = thread.map_err(|error| Error::system("start a thread", error))?;
            this.threads.push(thread);
        }
        Ok(this)
    }
}

impl<B> ShardThreads<B> {
    /// Stops all shards. Each leaves its groups, and delivers what is queued for at most a second.
    pub fn stop(&self) {
        self.stops.stop();
    }

    /// The handles that stop the shards, one for each, for another thread or a signal handler. When one shard is
    /// stopped, the others stop too.
    pub fn stop_handles(&self) -> &[StopHandle] {
        &self.stops.0
    }

    /// Waits until all shards have ended: after a stop, or after one of them broke or failed. Returns how each shard
    /// ended, in the order of the shards, each with its socket and statistics.
    ///
    /// The outcome is `Some` for a shard whose callback broke, `None` for one that was stopped, and an error for one
    /// whose engine failed.
    ///
    /// # Panics
    ///
    /// If a callback panicked: with the same value, when all threads have ended.
    pub fn join(mut self) -> Vec<Finished<B>> {
        let threads = std::mem::take(&mut self.threads);
        let ends: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
        let ends = ends.into_iter().map(|end| match end {
            Ok(finished) => finished,
            Err(value) => panic::resume_unwind(value),
        });
        ends.collect()
    }
}

impl<B> Drop for ShardThreads<B> {
    fn drop(&mut self) {
        self.stops.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // the panic of a callback is reported by the thread itself
        }
    }
}

impl<B> fmt::Debug for ShardThreads<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardThreads")
            .field("count", &self.stops.0.len())
            .finish_non_exhaustive()
    }
}

/// The handles of all shards. Dropping one copy stops all of them.
#[derive(Clone)]
struct Stops(Arc<[StopHandle]>);

impl Stops {
    fn stop(&self) {
        for stop in self.0.iter() {
            stop.stop();
        }
    }
}

impl Drop for Stops {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs one shard to its end.
fn run<B>(
    engine: Engine,
    mut f: impl FnMut(Event<'_>, &mut Control<'_>) -> ControlFlow<B>,
) -> Finished<B> {
    let end = |outcome, sockets| Finished {
        outcome,
        failure: None,
        sockets,
    };
    let mut running = match engine.start() {
        Ok(running) => running,
        Err(error) => return end(Err(error), Vec::new()),
    };
    match running.run(&mut f) {
        Ok(None) => running.finish(f),
        outcome => end(outcome, running.discard()),
    }
}

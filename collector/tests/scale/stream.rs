//! What the servers say about the stream.

use std::thread;

use async_nats::jetstream;
use nlring_testing::await_that;
use tokio::runtime::{Builder, Runtime};

use super::programs::PAUSE;
use super::support::nats;

/// The stream `nlring`.
pub struct Stream {
    runtime: Runtime,
    context: jetstream::Context,
}

impl Stream {
    /// Waits until the server answers.
    pub fn connect() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mut context = None;
        await_that("the server answers", || {
            let client = runtime.block_on(async_nats::connect(nats::ADDRESS));
            let _guard = runtime.enter();
            context = client.ok().map(jetstream::new);
            context.is_some()
        });
        let context = context.expect("a connection");
        Self { runtime, context }
    }

    /// The bytes of its messages.
    pub fn bytes(&self) -> u64 {
        let stream = self.runtime.block_on(self.context.get_stream("nlring"));
        stream.expect("a stream").cached_info().state.bytes
    }

    /// How many messages the workers have not been given, and how many they have not acknowledged. `None`: there is no
    /// consumer yet.
    pub fn pending(&self) -> Option<[u64; 2]> {
        thread::sleep(PAUSE);
        self.runtime.block_on(async {
            let stream = self.context.get_stream("nlring").await.ok()?;
            let info = stream.consumer_info("nlring-store").await.ok()?;
            Some([info.num_pending, info.num_ack_pending as u64])
        })
    }
}

//! The stream of owned items: nothing is missing that is not counted.

mod common;

use std::time::Duration;

use common::{PATIENCE, Source, any_sender, listener, own_namespace};
use nlring::stream::{EventStream, Item, Skipped, WhenFull};
use nlring::{Engine, Loss, Protocol, Reclaimed, Replay, Socket, Statistics, Timestamp};
use nlring_testing::run_or_skip;

/// What a reader has received.
#[derive(Default)]
struct Reader {
    messages: u64,
    lost: u64,
    skipped: Skipped,
    /// The sequence numbers never fall.
    last_sequence: u32,
}

impl Reader {
    fn take(&mut self, item: Item) {
        match item {
            Item::Messages(_, list) => {
                self.messages += list.message_count() as u64;
                for message in list.iter() {
                    assert!(message.sequence() >= self.last_sequence, "in order");
                    self.last_sequence = message.sequence();
                }
            }
            Item::Lost(_, loss) => self.lost += loss.count,
            Item::Skipped(_, skipped) => {
                self.skipped.messages += skipped.messages;
                self.skipped.datagrams += skipped.datagrams;
                self.skipped.lists += skipped.lists;
                self.lost += skipped.lost.map_or(0, |loss| loss.count);
            }
            Item::Notice(_, notice) => println!("{notice}"),
        }
    }

    /// Reads on until the end, with a pause after each item.
    async fn read(&mut self, stream: &mut EventStream, pause: Duration) {
        while let Some(item) = stream.recv().await {
            self.take(item.expect("an item"));
            tokio::time::sleep(pause).await;
        }
    }
}

fn spawn(when_full: WhenFull, recv_buffer_bytes: usize) -> EventStream {
    let mut engine = Engine::builder().build().unwrap();
    engine
        .add_with(listener(recv_buffer_bytes), any_sender())
        .unwrap();
    EventStream::builder()
        .capacity(2)
        .when_full(when_full)
        .spawn(engine)
        .unwrap()
}

fn statistics(reclaimed: &[Reclaimed]) -> Statistics {
    assert_eq!(reclaimed.len(), 1);
    assert!(reclaimed[0].failure.is_none());
    reclaimed[0].statistics
}

/// A flood and a reader that is far too slow, on a runtime with several threads.
fn flood(when_full: WhenFull, recv_buffer_bytes: usize) -> (Reader, Statistics, u64) {
    own_namespace();
    let mut source = Source::new(64);
    let mut stream = spawn(when_full, recv_buffer_bytes);
    let stop = stream.stop_handle();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let reading = runtime.spawn(async move {
        let mut reader = Reader::default();
        reader.read(&mut stream, Duration::from_millis(1)).await;
        assert_eq!(stream.skipped().messages, reader.skipped.messages);
        (reader, stream.finish())
    });
    source.send_many(30_000, None);
    stop.stop();
    let (reader, reclaimed) = runtime
        .block_on(async { tokio::time::timeout(PATIENCE, reading).await })
        .expect("it ends")
        .expect("no panic");
    (reader, statistics(&reclaimed), source.sent_count.into())
}

#[test]
fn a_waiting_stream_delivers_everything_that_the_engine_received() {
    run_or_skip("a_waiting_stream", || {
        let (reader, statistics, sent) = flood(WhenFull::Wait, 64 << 10);
        let Statistics {
            received,
            dropped,
            unread,
            ..
        } = statistics;
        assert_eq!(received + dropped + unread, sent, "{statistics:?}");
        assert_eq!((reader.messages, reader.lost), (received, dropped));
        assert_eq!(reader.skipped, Skipped::default());
        assert!(dropped > 0, "the reader is slow, so the kernel drops");
    });
}

#[test]
fn a_skipping_stream_counts_what_it_skips() {
    run_or_skip("a_skipping_stream", || {
        let (reader, statistics, sent) = flood(WhenFull::Skip, 4 << 20);
        let Statistics {
            received,
            dropped,
            unread,
            ..
        } = statistics;
        assert_eq!(received + dropped + unread, sent, "{statistics:?}");
        assert_eq!(reader.messages + reader.skipped.messages, received);
        assert_eq!(
            reader.skipped.datagrams, reader.skipped.messages,
            "one in each"
        );
        assert_eq!(reader.lost, dropped);
        assert!(reader.skipped.lists > 0, "the reader is slow");
    });
}

#[test]
fn a_dropped_stream_ends_its_thread() {
    run_or_skip("a_dropped_stream", || {
        own_namespace();
        let mut source = Source::new(64);
        let stream = spawn(WhenFull::Wait, 1 << 20);
        source.send_many(1000, None); // the channel fills up, and the engine's thread waits
        drop(stream);
    });
}

#[test]
fn items_come_in_order_and_the_streams_end_gives_the_sockets_back() {
    let datagram = [16u32.to_ne_bytes(), 20u32.to_ne_bytes(), [0; 4], [0; 4]].concat();
    let at = Timestamp::UNIX_EPOCH;
    let script = Replay::new()
        .datagram(datagram.clone())
        .lost(Loss::new(5, at, at))
        .starved()
        .datagram(datagram);
    let mut engine = Engine::builder().replay(script).build().unwrap();
    engine.add(Socket::open(Protocol::ROUTE).unwrap()).unwrap();
    let mut stream = EventStream::builder().capacity(1).spawn(engine).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let kinds = runtime.block_on(async {
        let mut kinds = Vec::new();
        while let Some(item) = stream.recv().await {
            kinds.push(match item.unwrap() {
                Item::Messages(..) => "messages",
                Item::Lost(..) => "lost",
                Item::Skipped(..) => "skipped",
                Item::Notice(..) => "notice",
            });
        }
        kinds
    });
    assert_eq!(kinds, ["messages", "lost", "notice", "messages"]);
    let statistics = statistics(&stream.finish());
    assert_eq!((statistics.received, statistics.dropped), (2, 5));
}

#[test]
fn a_capacity_out_of_range_is_refused() {
    for capacity in [0, (1 << 16) + 1] {
        let engine = Engine::builder().build().unwrap();
        let error = EventStream::builder().capacity(capacity).spawn(engine);
        assert_eq!(error.unwrap_err().kind(), nlring::ErrorKind::InvalidInput);
    }
}

#[test]
fn items_and_streams_may_go_to_other_threads() {
    fn assert_send<T: Send + 'static>() {}
    assert_send::<Item>();
    assert_send::<EventStream>();
}

//! A relay of TCP connections that delays them, for kernels without netem.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How many pieces may be under way. While there are more, the sender is not read.
const MOST_UNDER_WAY: usize = 1024;

type Piece = (Instant, Vec<u8>);

/// Relays what arrives at `listen` to `to`. What is sent arrives after the delay, in each direction. The threads end
/// with the test.
pub fn relay(listen: &str, to: String, delay: Duration) {
    let listener = TcpListener::bind(listen).expect("an address of the relay");
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { continue };
            let Ok(server) = TcpStream::connect(&to) else {
                continue;
            };
            pass(&client, &server, delay);
            pass(&server, &client, delay);
        }
    });
}

fn pass(from: &TcpStream, to: &TcpStream, delay: Duration) {
    let (pieces, due) = sync_channel(MOST_UNDER_WAY);
    let (from, to) = (from.try_clone(), to.try_clone());
    let (from, to) = (from.expect("a stream"), to.expect("a stream"));
    to.set_nodelay(true).expect("an option");
    thread::spawn(move || take(from, &pieces, delay));
    thread::spawn(move || hand_over(to, &due));
}

fn take(mut from: TcpStream, pieces: &SyncSender<Piece>, delay: Duration) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let piece = (Instant::now() + delay, buffer[..length].to_vec());
        if pieces.send(piece).is_err() {
            break;
        }
    }
}

fn hand_over(mut to: TcpStream, due: &Receiver<Piece>) {
    for (due, piece) in due {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    // The end of the one direction; or the other one has failed, and both end.
    _ = to.shutdown(Shutdown::Both);
}

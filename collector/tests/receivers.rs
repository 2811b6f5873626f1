//! Outputs to sockets and bad receivers: one that is not there, one that closes, one that reads nothing.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use nlring_testing::{await_that, own_namespace, raise_loopback};

use support::{Collector, Contents, Made, make_flows, number, report_all_flows, scratch};

const ADDRESS: &str = "127.0.0.1:6514";
const METRICS: &str = "127.0.0.1:9847";

/// A configuration with an output to files, and one to a syslog server at [`ADDRESS`].
fn config(directory: &Path, transport: &str, lines: &str) -> String {
    let place = directory.display();
    format!(
        "node = \"gw\"\nflush_interval = \"20ms\"\n[http]\naddress = \"{METRICS}\"\n\
         [spool]\ndirectory = \"{place}/spool\"\n\
         [[files]]\ndirectory = \"{place}/records\"\nrotate_interval = \"1s\"\n\
         [[syslog]]\ntransport = \"{transport}\"\naddress = \"{ADDRESS}\"\n\
         acknowledge_interval = \"1s\"\n{lines}\n"
    )
}

fn begin(name: &str, transport: &str, lines: &str) -> (PathBuf, Collector) {
    own_namespace();
    raise_loopback();
    report_all_flows();
    let directory = scratch(name);
    let collector = Collector::start(&directory, &config(&directory, transport, lines));
    collector.await_log("recording");
    (directory, collector)
}

/// The flows of which messages were received.
type Received = Arc<Mutex<BTreeSet<u32>>>;

fn note(message: &str, received: &Received) {
    let value = |key: &str| {
        let rest = message.split_once(&format!(" {key}=\""))?.1;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    assert!(message.starts_with("<134>1 "), "{message}");
    if message.contains(" nlringd ") && value("record").as_deref() == Some("flow") {
        let src = value("orig_src").expect("an address");
        let port = value("orig_sport").expect("a port");
        let src = src.parse().expect("an address");
        let number = number(src, port.parse().expect("a port"));
        received.lock().expect("no panic").insert(number);
    }
}

/// Reads messages, each behind its length, until the end.
fn read_messages(stream: TcpStream, received: &Received) {
    let mut reader = BufReader::new(stream);
    let mut length = Vec::new();
    while reader.read_until(b' ', &mut length).expect("a length") > 0 {
        let text = String::from_utf8_lossy(&length);
        let mut message = vec![0; text.trim().parse().expect("a length")];
        reader.read_exact(&mut message).expect("a message");
        note(&String::from_utf8(message).expect("UTF-8"), received);
        length.clear();
    }
}

/// Receives by TCP until the test ends. Threads share the network namespace of the test.
fn serve(listener: TcpListener) -> Received {
    let received = Received::default();
    let theirs = received.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            read_messages(stream.expect("a stream"), &theirs);
        }
    });
    received
}

fn await_all(made: &[Made], received: &Received) {
    let wanted: BTreeSet<u32> = made.iter().map(|made| made.number).collect();
    await_that("each flow is received", || {
        *received.lock().expect("no panic") == wanted
    });
}

/// What is at the end of the line of `/metrics` that begins with this.
fn metric(name: &str) -> f64 {
    let mut stream = TcpStream::connect(METRICS).expect("nlringd answers");
    let request = "GET /metrics HTTP/1.1\r\nHost: nlringd\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is in {text}"))
}

/// The files have everything while the other output fails, which metrics show.
#[track_caller]
fn assert_others_go_on(directory: &Path, made: &[Made]) {
    await_that("the files have all flows", || {
        let contents = Contents::read(&directory.join("records"));
        contents.flows.len() == made.len()
    });
    assert!(metric("nlringd_output_errors_total{output=\"syslog\"}") > 0.0);
    assert!(metric("nlringd_failing{part=\"output\",output=\"syslog\"}") > 0.0);
    let complete = |output: &str| {
        metric(&format!(
            "nlringd_output_complete_timestamp_seconds{{output=\"{output}\"}}"
        ))
    };
    assert!(complete("syslog") < complete("files"), "the lag is shown");
}

#[test]
fn a_receiver_that_comes_late_gets_everything() {
    let (directory, collector) = begin("receiver-late", "tcp", "");
    let made = make_flows(0, |number| number < 500);
    collector.await_log("Connection refused");
    assert_others_go_on(&directory, &made);
    let received = serve(TcpListener::bind(ADDRESS).expect("a listener"));
    await_all(&made, &received);
    collector.await_log("the output goes on");
    collector.end();
}

#[test]
fn a_receiver_that_closes_gets_everything_again() {
    let (directory, collector) = begin("receiver-closes", "tcp", "");
    let listener = TcpListener::bind(ADDRESS).expect("a listener");
    let made = make_flows(0, |number| number < 500);
    // It reads a part, and then resets or closes the connection.
    for byte_count in [0, 1, 10_000] {
        let (mut stream, _) = listener.accept().expect("a stream");
        let mut part = vec![0; byte_count];
        stream.read_exact(&mut part).expect("a part");
    }
    collector.await_log("tried again");
    assert_others_go_on(&directory, &made);
    let received = serve(listener);
    await_all(&made, &received);
    collector.end();
}

#[test]
fn a_receiver_that_reads_nothing_for_10_s_is_left_and_then_gets_everything() {
    let (directory, collector) = begin("receiver-slow", "tcp", "");
    for name in ["tcp_rmem", "tcp_wmem"] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        std::fs::write(path, "4096 16384 16384").expect("a sysctl of this namespace");
    }
    let listener = TcpListener::bind(ADDRESS).expect("a listener");
    let made = make_flows(0, |number| number < 1000);
    let (stream, _) = listener.accept().expect("a stream");
    collector.await_log("it has read nothing for 10s");
    assert_others_go_on(&directory, &made);
    drop(stream);
    let received = serve(listener);
    await_all(&made, &received);
    collector.end();
}

#[test]
fn over_udp_what_was_refused_is_sent_again() {
    let lines =
        "mtu = 576\nformat = \"structured\"\nsd_id = \"a-name-of-32-letters-for-the-ids@1\"";
    let lines = lines.replace("for-the-ids@1", "for-ids@1");
    let (directory, collector) = begin("receiver-udp", "udp", &lines);
    // All of their messages fit into the usual receive buffer.
    let made = make_flows(0, |number| number < 100);
    collector.await_log("Connection refused");
    assert_others_go_on(&directory, &made);
    let socket = UdpSocket::bind(ADDRESS).expect("a socket");
    let received = Received::default();
    let theirs = received.clone();
    thread::spawn(move || {
        let mut message = [0; 2000];
        loop {
            let length = socket.recv(&mut message).expect("a message");
            assert!(length <= 576 - 28, "a packet has at most 576 bytes");
            note(
                std::str::from_utf8(&message[..length]).expect("UTF-8"),
                &theirs,
            );
        }
    });
    await_all(&made, &received);
    collector.end();
}

//! Questions to nlringd over HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Requests a path. Returns the status, the head and the body.
pub fn ask(address: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let question = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).expect("a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status"), head.to_owned(), body.to_owned())
}

/// The value of a series, as written in the answer.
pub fn value(metrics: &str, series: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok())
}

//! Sends packets over the loopback device, and waits until each is received.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket,
};

use super::common::PATIENCE;

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// Makes a connection, from its first packet to its last. The server listens at another address if packets are
/// translated.
pub fn talk_tcp(to: &str, at: &str) {
    let listener = TcpListener::bind(address(at)).expect("a listener");
    let mut client = TcpStream::connect(address(to)).expect("connected");
    let (mut server, _) = listener.accept().expect("accepted");
    client.write_all(b"request").expect("sent");
    server.read_exact(&mut [0; 7]).expect("received");
    server.write_all(b"answer").expect("sent");
    client.read_exact(&mut [0; 6]).expect("received");
    drop(client);
    server.read_to_end(&mut Vec::new()).expect("its end");
}

/// A request and an answer.
pub fn talk_udp(to: &str, at: &str) {
    let (to, at) = (address(to), address(at));
    let server = UdpSocket::bind(at).expect("a server");
    let client = UdpSocket::bind((unspecified(to), 0)).expect("a client");
    client.send_to(b"request", to).expect("sent");
    let (_, from) = server.recv_from(&mut [0; 7]).expect("received");
    server.send_to(b"answer", from).expect("sent");
    client.recv(&mut [0; 6]).expect("received");
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0; 16].into(),
    }
}

/// Sends an ICMP or ICMPv6 echo request, and awaits the reply.
pub fn ping(to: &str, id: u8) {
    let to: IpAddr = to.parse().expect("an address");
    // Type, code, checksum, identifier, sequence number. The kernel computes the checksum of ICMPv6.
    let (protocol, reply_type, reply_at, request) = match to {
        IpAddr::V4(_) => (ipproto::ICMP, 0, 20, [8, 0, 0xf7, 0xff - id, 0, id, 0, 0]),
        IpAddr::V6(_) => (ipproto::ICMPV6, 129, 0, [128, 0, 0, 0, 0, id, 0, 0]),
    };
    let socket = send_raw(to, protocol, &request);
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).expect("a time limit");
    let mut packet = [0; 64];
    while packet[reply_at..][..2] != [reply_type, 0] || packet[reply_at + 5] != id {
        recv(&socket, &mut packet, RecvFlags::empty()).expect("a reply");
    }
}

/// The payload of an IP packet.
pub fn send_raw(to: IpAddr, protocol: Protocol, payload: &[u8]) -> OwnedFd {
    let family = match to {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::RAW, Some(protocol)).expect("a raw socket");
    let to = SocketAddr::new(to, 0);
    sendto(&socket, payload, SendFlags::empty(), &to).expect("sent");
    socket
}

/// An FTP session in which the client sends a port, and the server connects to it. Returns the address and port that
/// the server received. They differ from the client's if NAT changes them in the text too.
pub fn talk_ftp(to: &str, at: &str, data_port: u16) -> SocketAddr {
    let listener = TcpListener::bind(address(at)).expect("a listener");
    let mut client = TcpStream::connect(address(to)).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    let mut server = BufReader::new(server);
    let mut line = String::new();
    client.write_all(b"USER x\r\n").expect("sent"); // the helper first learns where a line ends
    server.read_line(&mut line).expect("received");
    let data = TcpListener::bind(("127.0.0.1", data_port)).expect("a listener");
    let [high, low] = data_port.to_be_bytes();
    write!(client, "PORT 127,0,0,1,{high},{low}\r\n").expect("sent");
    line.clear();
    server.read_line(&mut line).expect("received");
    let numbers = line.trim().trim_start_matches("PORT ").split(',');
    let numbers: Vec<u8> = numbers
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [a, b, c, d, high, low] = numbers[..] else {
        panic!("a port: {line:?}");
    };
    let reported = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    let from_server = TcpStream::connect(reported).expect("connected");
    let (mut to_client, _) = data.accept().expect("accepted");
    drop(from_server);
    to_client.read_to_end(&mut Vec::new()).expect("its end");
    reported
}

/// A server's answer with a port, to which nobody connects.
pub fn announce_ftp_port(to: &str, at: &str) {
    let listener = TcpListener::bind(address(at)).expect("a listener");
    let client = TcpStream::connect(address(to)).expect("connected");
    let (mut server, _) = listener.accept().expect("accepted");
    let mut client = BufReader::new(client);
    for answer in ["220 hello", "227 Entering Passive Mode (127,0,0,1,156,130)"] {
        write!(server, "{answer}\r\n").expect("sent");
        client.read_line(&mut String::new()).expect("received");
    }
}

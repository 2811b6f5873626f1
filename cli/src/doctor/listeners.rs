//! Which other programs follow these events in this namespace, and which of them lost some.

use nlring::Protocol;
use serde_json::{Value, json};

use super::report::{Check, CheckState};
use crate::host::listeners::{NetlinkSocket, NetlinkSockets};

/// How many listeners a line names.
const MOST_NAMED: usize = 4;

pub fn listeners(sockets: &NetlinkSockets) -> Check {
    const NAME: &str = "listeners";
    if let Some(unknown) = unread(NAME, sockets) {
        return unknown;
    }
    let detail = format!(
        "conntrack: {}; routes: {}",
        list(sockets.conntrack_listeners().map(NetlinkSocket::name)),
        list(sockets.route_listeners().map(NetlinkSocket::name)),
    );
    Check::new(NAME, CheckState::Ok, detail)
        .value("conntrack", values(sockets.conntrack_listeners()))
        .value("routes", values(sockets.route_listeners()))
}

pub fn drops(sockets: &NetlinkSockets) -> Check {
    const NAME: &str = "drops";
    if let Some(unknown) = unread(NAME, sockets) {
        return unknown;
    }
    let check = if sockets.with_drops().next().is_none() {
        Check::new(
            NAME,
            CheckState::Ok,
            "no other program's socket here has lost anything",
        )
    } else {
        let detail = format!(
            "since they were opened: {}",
            list(sockets.with_drops().map(loss))
        );
        Check::new(NAME, CheckState::Note, detail).advice(
            "A larger receive buffer loses less: nlring's --recv-buffer or --recv-buffer-max, or the other program's \
             option.",
        )
    };
    check.value("sockets", values(sockets.with_drops()))
}

/// The result of both checks where the sockets could not be read.
fn unread(name: &'static str, sockets: &NetlinkSockets) -> Option<Check> {
    let error = sockets.error()?;
    let detail = format!("read /proc/net/netlink: {error}");
    Some(Check::new(name, CheckState::Unknown, detail))
}

/// What a socket's drop counter means.
fn loss(socket: &NetlinkSocket) -> String {
    let (name, drops) = (socket.name(), socket.drops);
    match socket.is_reliable {
        Some(false) => format!("{name} lost {drops}"),
        Some(true) => format!(
            "{name} had {drops} failed deliveries (it is reliable: ends of flows are sent again)"
        ),
        None => format!("{name} lost {drops}, or failed deliveries if it is reliable"),
    }
}

fn values<'a>(sockets: impl Iterator<Item = &'a NetlinkSocket>) -> Vec<Value> {
    sockets.map(value).collect()
}

fn value(socket: &NetlinkSocket) -> Value {
    let is_route = socket.protocol == Protocol::ROUTE;
    json!({
        "protocol": if is_route { "route" } else { "netfilter" },
        "port_id": socket.port_id,
        "process_id": socket.owner.as_ref().map(|owner| owner.process_id),
        "program": socket.owner.as_ref().map(|owner| &owner.program),
        "drops": socket.drops,
        "reliable": socket.is_reliable,
    })
}

/// The names in one line; of a long list only the first ones.
fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    match names.len() {
        0 => "nobody".to_owned(),
        count if count > MOST_NAMED => {
            let shown = names[..MOST_NAMED].join(", ");
            format!("{shown} and {} more", count - MOST_NAMED)
        }
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    const TABLE: &str = "\
000000002883bf44 12  4294963200 00000005 0        0        0     2        2269     1514
000000003a2b0622 0   623        04000440 512      0        0     2        0        1516
";

    fn sockets() -> NetlinkSockets {
        NetlinkSockets::of_table(Ok(TABLE))
    }

    #[test]
    fn listeners_are_named_by_what_they_follow() {
        let check = listeners(&sockets());
        assert_eq!(
            check.detail,
            "conntrack: port ID 4294963200; routes: port ID 623"
        );
        assert_eq!(check.values["routes"][0]["port_id"], 623);
        assert_eq!(check.values["routes"][0]["program"], Value::Null);
    }

    #[test]
    fn drops_are_losses_unless_the_socket_is_reliable() {
        let mut sockets = sockets();
        let check = drops(&sockets);
        assert_eq!(check.state, CheckState::Note);
        assert_eq!(
            check.detail,
            "since they were opened: port ID 4294963200 lost 2269, or failed deliveries if it is reliable"
        );
        for (is_reliable, part) in [
            (false, "4294963200 lost 2269"),
            (true, "4294963200 had 2269 failed deliveries"),
        ] {
            sockets.set_reliable(is_reliable);
            let check = drops(&sockets);
            assert!(check.detail.contains(part), "{}", check.detail);
            assert_eq!(check.values["sockets"].as_array().unwrap().len(), 1);
            assert_eq!(check.values["sockets"][0]["reliable"], is_reliable);
        }
    }

    #[test]
    fn without_sockets_there_are_no_drops_and_unread_ones_are_unknown() {
        let none = NetlinkSockets::of_table(Ok(""));
        assert_eq!(drops(&none).state, CheckState::Ok);
        let unread = NetlinkSockets::of_table(Err(ErrorKind::NotFound.into()));
        assert_eq!(drops(&unread).state, CheckState::Unknown);
        assert_eq!(listeners(&unread).state, CheckState::Unknown);
    }

    #[test]
    fn a_long_list_names_only_the_first() {
        let names = |count: usize| list((0..count).map(|number| number.to_string()));
        assert_eq!(names(0), "nobody");
        assert_eq!(names(4), "0, 1, 2, 3");
        assert_eq!(names(6), "0, 1, 2, 3 and 2 more");
    }
}

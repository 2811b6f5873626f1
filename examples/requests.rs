//! Asks the kernel which route packets to an address take and, as root, which flows to it exist.
//!
//! `cargo run --example requests -- 192.0.2.1`

use std::net::IpAddr;
use std::process::ExitCode;

use nlring::conntrack::{self, Flow};
use nlring::{ErrorKind, Family, route};

fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1".to_owned());
    let Ok(address) = address.parse() else {
        eprintln!("{address} is not an address");
        return ExitCode::FAILURE;
    };
    match show_way(address).and_then(|()| show_flows(address)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn show_way(address: IpAddr) -> nlring::Result<()> {
    let mut requests = route::Requests::open()?;
    let way = requests.get(address, |route| {
        (route.hop.gateway, route.oif, route.prefsrc)
    })?;
    let Some((gateway, device, own)) = way else {
        println!("{address}: no route");
        return Ok(());
    };
    let mut name = None;
    let _ = requests.links(|(), link| {
        if Some(link.index) == device {
            name = link
                .name
                .map(|name| String::from_utf8_lossy(name).into_owned());
        }
    })?;
    let gateway = gateway.map_or("directly".to_owned(), |gateway| format!("by {gateway}"));
    let own = own.map_or(String::new(), |own| format!(", from {own}"));
    println!(
        "{address}: {gateway}, device {}{own}",
        name.as_deref().unwrap_or("none")
    );
    Ok(())
}

fn show_flows(address: IpAddr) -> nlring::Result<()> {
    let mut requests = conntrack::Requests::open()?;
    let of_family = conntrack::DumpFilter::new().family(if address.is_ipv4() {
        Family::INET
    } else {
        Family::INET6
    });
    let take = |lines: &mut Vec<String>, flow: &Flow<'_>| {
        if flow.orig.dst == address {
            let (state, seconds) = (
                flow.state.and_then(conntrack::ProtocolState::name),
                flow.timeout_seconds,
            );
            let name = conntrack::protocol_name(flow.protocol()).unwrap_or("protocol");
            lines.push(format!(
                "{name} {} from {}: {}, {} s left",
                flow.protocol(),
                flow.orig.src,
                state.unwrap_or("-"),
                seconds.unwrap_or(0)
            ));
        }
    };
    match requests.dump(&of_family, take) {
        Ok(flows) => flows.items.iter().for_each(|line| println!("{line}")),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("flows are shown to root");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

//! The lines of `conntrack -L`, and the same lines for flows of the mirror.

use std::collections::BTreeSet;

use nlring::conntrack::{Flow, ProtocolState, Tuple, ZoneDirection, protocol_name, status};

use crate::common::run;

/// A flow as `conntrack -L -o id` writes it, without the time left and the references.
pub fn line_of(flow: &Flow<'_>) -> String {
    let status = flow.status.unwrap_or(0);
    let mut words: Vec<String> = Vec::new();
    let protocol = protocol_name(flow.protocol()).unwrap_or("unknown");
    words.push(protocol.to_owned());
    words.push(flow.protocol().to_string());
    words.extend(flow.state.and_then(ProtocolState::name).map(str::to_owned));
    words.extend(words_of(&flow.orig));
    words.extend(zone_of(flow, ZoneDirection::Orig, "zone-orig"));
    if status & status::SEEN_REPLY == 0 {
        words.push("[UNREPLIED]".to_owned());
    }
    words.extend(words_of(&flow.reply.expect("a reply tuple")));
    words.extend(zone_of(flow, ZoneDirection::Reply, "zone-reply"));
    if status & status::ASSURED != 0 {
        words.push("[ASSURED]".to_owned());
    }
    words.push(format!("mark={}", flow.mark.unwrap_or(0)));
    words.extend(zone_of(flow, ZoneDirection::Both, "zone"));
    words.push(format!("id={}", flow.id.expect("an id")));
    words.join(" ")
}

fn words_of(tuple: &Tuple) -> [String; 4] {
    let (src_port, dst_port) = tuple.ports().expect("ports");
    [
        format!("src={}", tuple.src),
        format!("dst={}", tuple.dst),
        format!("sport={src_port}"),
        format!("dport={dst_port}"),
    ]
}

fn zone_of(flow: &Flow<'_>, direction: ZoneDirection, name: &str) -> Option<String> {
    let zone = flow.zone.filter(|zone| zone.direction == direction)?;
    Some(format!("{name}={}", zone.id))
}

/// None: conntrack(8) is not installed.
pub fn listed() -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let output = run("conntrack", &["-L", "-f", family, "-o", "id"])?;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        all.extend(text.lines().map(|line| {
            let words = line.split_whitespace().enumerate();
            let kept = words.filter(|(index, word)| *index != 2 && !word.starts_with("use="));
            kept.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        }));
    }
    Some(all)
}

"""What nlringd's own files say of the flows that it has sent as IPFIX."""

import datetime

NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
ICMP_REPLIES = {8: 0, 128: 129}


def ms(ns):
    return ns // 10**6


def instant(ns):
    return (
        datetime.datetime.fromtimestamp(ns // 10**9, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.")
        + f"{ms(ns) % 1000:03}"
    )


def forward(flow):
    """The direction of the first packet: addresses, ports, translation, counters, times."""
    source, destination = flow["orig_src"], flow["orig_dst"]
    sport, dport = flow.get("orig_sport", flow.get("orig_id")), flow.get("orig_dport", 0)
    is_translated = "nat_src" in flow or "nat_dst" in flow
    after = (
        flow.get("nat_src", source),
        flow.get("nat_sport", sport),
        flow.get("nat_dst", destination),
        flow.get("nat_dport", dport),
    )
    return {
        "proto": NUMBERS[flow["proto"]],
        "before": (source, sport, destination, dport),
        "after": after if is_translated else None,
        "icmp": (flow["orig_type"], flow["orig_code"]) if "orig_type" in flow else None,
        "counters": (flow["orig_packets"], flow["orig_bytes"]),
        "reply_counters": (flow["reply_packets"], flow["reply_bytes"]),
        "start": flow.get("start_ns", flow.get("observed_start_ns")),
        "end": flow.get("stop_ns", flow["time_ns"]),
    }


def backward(flow):
    """The other direction as a record of its own. None: it has carried nothing."""
    one = forward(flow)
    if not one["reply_counters"][0]:
        return None
    source, sport, destination, dport = one["before"]
    nat_source, nat_sport, nat_destination, nat_dport = one["after"] or one["before"]
    before = (nat_destination, nat_dport, nat_source, nat_sport)
    after = (destination, dport, source, sport)
    icmp = one["icmp"]
    if icmp:
        icmp = (ICMP_REPLIES[icmp[0]], icmp[1])
        before = (nat_destination, nat_sport, nat_source, 0)
        after = (destination, sport, source, 0)
    return {
        **one,
        "before": before,
        "after": after if one["after"] else None,
        "icmp": icmp,
        "counters": one["reply_counters"],
        "reply_counters": one["counters"],
    }


def directions(flows):
    return [one for flow in flows for one in (forward(flow), backward(flow)) if one]

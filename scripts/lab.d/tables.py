"""Tables of the kernel and of the mirrors, as sets of rows that can be compared.

Functions that read the kernel's table take `run`, which runs a command in the right namespace.
"""

import collections
import json
import re

# Numbers that ip -N prints, and the names that nlring writes.
TABLES = {"main": "254", "local": "255", "default": "253"}
TYPES = {
    "1": "unicast",
    "2": "local",
    "3": "broadcast",
    "4": "anycast",
    "5": "multicast",
    "6": "blackhole",
    "7": "unreachable",
    "8": "prohibit",
    "9": "throw",
}
PROTOCOLS = {
    "2": "kernel",
    "3": "boot",
    "4": "static",
    "9": "ra",
    "11": "zebra",
    "12": "bird",
    "186": "bgp",
    "196": "196",
}


def flow_row(entry):
    """The fields of a flow that `conntrack -L` prints too."""
    names = ("src", "dst", "sport", "dport")
    status = entry["status"]
    return (
        entry["proto"],
        *(str(entry[way].get(name)) for way in ("orig", "reply") for name in names),
        str(entry.get("mark", 0)),
        str(entry["id"]),
        "seen-reply" in status,
        "assured" in status,
        "offload" in status,
    )


def listed_flows(run):
    rows = set()
    for line in (
        run("conntrack", "-L", "-o", "id").splitlines()
        + run("conntrack", "-L", "-f", "ipv6", "-o", "id").splitlines()
    ):
        fields = collections.defaultdict(list)
        for name, value in re.findall(r"(\w+)=(\S+)", line):
            fields[name].append(value)
        tuples = [
            (fields[name] + [None, None])[way]
            for way in (0, 1)
            for name in ("src", "dst", "sport", "dport")
        ]
        rows.add(
            (
                line.split()[0],
                *map(str, tuples),
                (fields["mark"] or ["0"])[0],
                fields["id"][0],
                "[UNREPLIED]" not in line,
                "[ASSURED]" in line or "[OFFLOAD]" in line,
                "[OFFLOAD]" in line,
            )
        )
    return rows


def route_row(entry):
    hops = entry.get("nexthops") or [entry]
    metrics = {name: value for name, value in entry.get("metrics", {}).items() if name != "lock"}
    return (
        entry["dst"],
        str(entry["table"]),
        str(entry.get("priority", 0)),
        entry["type"],
        entry["protocol"],
        tuple((hop.get("gateway"), hop.get("dev")) for hop in hops),
        tuple(sorted(metrics.items())),
        entry.get("pref", "medium"),
    )


def listed_routes(run):
    rows = set()
    for family in ("-4", "-6"):
        text = run("ip", family, "-d", "-j", "-N", "route", "show", "table", "all")
        rows.update(_listed_row(route, family) for route in json.loads(text or "[]"))
    return rows


def _listed_row(route, family):
    dst = route["dst"]
    if dst == "default":
        dst = "0.0.0.0/0" if family == "-4" else "::/0"
    elif "/" not in dst:
        dst += "/32" if family == "-4" else "/128"
    hops = route.get("nexthops") or [route]
    table = str(route.get("table", "254"))
    protocol, kind = str(route["protocol"]), str(route.get("type", "unicast"))
    metrics = {name: value for part in route.get("metrics", []) for name, value in part.items()}
    if "hoplimit" in metrics and metrics["hoplimit"] == 0:
        del metrics["hoplimit"]
    return (
        dst,
        TABLES.get(table, table),
        str(route.get("metric", 0)),
        TYPES.get(kind, kind),
        PROTOCOLS.get(protocol, protocol),
        tuple((hop.get("gateway"), hop.get("dev")) for hop in hops),
        tuple(sorted(metrics.items())),
        route.get("pref", "medium"),
    )

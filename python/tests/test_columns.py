"""Columns have what decoded events have, and that is what conntrack(8) prints."""

import re
import signal
import socket
import subprocess

import nlring
import pyarrow
import pytest
from events import await_listeners, begin_flows, change_routes, enter_namespace, make_network, run


@pytest.fixture(autouse=True)
def namespace():
    enter_namespace()


def flat(facts):
    """A dict without dicts in it, with the names of columns."""
    found = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found.update({f"{name}_{inner}": innermost for inner, innermost in flat(value).items()})
        else:
            found[name] = value
    return found


def all_items(receiver):
    """All that has come, until nothing more comes."""
    items = []
    receiver.timeout = 0.3
    while True:
        try:
            items.append(next(receiver))
        except TimeoutError:
            assert not any(isinstance(item, nlring.Gap) for item in items)
            return items


def rows(receiver):
    """The rows of all columns, without what is null. Instants are numbers."""
    found = []
    for columns in all_items(receiver):
        batch = pyarrow.record_batch(columns)
        batch.validate(full=True)
        assert (batch.num_rows, batch.schema.names) == (len(columns), columns.column_names)
        for index, field in enumerate(batch.schema):
            if pyarrow.types.is_timestamp(field.type):
                assert (field.type.unit, field.type.tz) == ("ns", "UTC")
                batch = batch.set_column(index, field.name, batch.column(index).cast("int64"))
        found += [without_nulls(row) for row in batch.to_pylist()]
    return found


def without_nulls(row):
    return {name: value for name, value in row.items() if value is not None}


def make_many_kinds_of_flows():
    for name in ("nf_conntrack_acct", "nf_conntrack_timestamp"):
        with open(f"/proc/sys/net/netfilter/{name}", "w") as setting:
            setting.write("1")
    begin_flows(20)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()):
            server.accept()[0].close()
    flow = ["-s", "10.0.0.1", "-d", "10.0.0.2", "-t", "60"]
    tcp = ["-p", "tcp", "--state", "ESTABLISHED", "--sport", "4000"]
    make = ["conntrack", "-I", *flow]
    run(*make, *tcp, "--dport", "443", "--src-nat", "192.0.2.1:1024", "-m", "7")
    run(*make, *tcp, "--dport", "444", "--dst-nat", "192.0.2.2:8443", "-w", "5")
    run(*make, *tcp, "--dport", "445", "-u", "SEEN_REPLY,ASSURED")
    run(*make, "-p", "icmp", "--icmp-type", "8", "--icmp-code", "0", "--icmp-id", "99")
    run(*make, "-p", "gre", "--srckey", "1", "--dstkey", "2")
    sctp = ["-p", "sctp", "--state", "ESTABLISHED", "--orig-vtag", "1", "--reply-vtag", "2"]
    run(*make, *sctp, "--sport", "1", "--dport", "2")
    run("conntrack", "-I", "-s", "fd00::1", "-d", "fd00::2", "-t", "60", *tcp, "--dport", "443")
    run("conntrack", "-F")


def printed_by_conntrack(process):
    """Kind, protocol, addresses and ports of each event."""
    process.send_signal(signal.SIGINT)
    lines = process.communicate(timeout=30)[0].splitlines()
    pattern = r"\[(\w+)\]\s+(\w+) .*?src=(\S+) dst=(\S+)(?:.*?sport=(\d+) dport=(\d+))?"
    return [re.match(rf"\s*{pattern}", line).groups() for line in lines]


def test_columns_flows_and_conntrack_agree_about_each_event():
    flows = nlring.Receiver("conntrack")
    columns = nlring.Receiver("conntrack", batches="columns", batch_rows=8, batch_seconds=0.1)
    process = subprocess.Popen(["conntrack", "-E"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        await_listeners(3)
        make_many_kinds_of_flows()
        decoded = [flow for batch in all_items(flows) for flow in batch]
        table = rows(columns)
        printed = printed_by_conntrack(process)
    finally:
        process.kill()
        process.wait()
    assert len(decoded) == len(table) == len(printed) > 50
    for flow, row, line in zip(decoded, table, printed):
        expected = flat(flow.to_dict())
        expected.pop("labels", None)
        if "status" in expected:
            expected["status"] = flow.status_bits
        if flow.time_source == "receive":
            del expected["time_ns"], row["time_ns"]
        assert row == expected
        ports = (None, None) if flow.orig.sport is None else (str(flow.orig.sport), str(flow.orig.dport))
        assert line == (flow.event.upper(), flow.proto, flow.orig.src, flow.orig.dst, *ports)
    seen = {name for row in table for name in row}
    assert {"nat_src", "nat_dport", "zone", "mark", "state", "orig_srckey", "reply_bytes", "stop_ns"} <= seen
    assert {row["event"] for row in table} == {"new", "update", "destroy"}


def test_attributes_are_what_to_dict_says():
    with nlring.Receiver("conntrack") as receiver:
        make_many_kinds_of_flows()
        for flow in [flow for batch in all_items(receiver) for flow in batch]:
            facts = flow.to_dict()
            for name in ("event", "time_ns", "time_source", "family", "proto", "state", "timeout_s", "status"):
                assert getattr(flow, name) == facts.get(name)
            for name in ("nat", "mark", "zone", "id", "start_ns", "stop_ns", "helper", "port_id"):
                assert getattr(flow, name) == facts.get(name)
            for direction in ("orig", "reply", "master"):
                ends, expected = getattr(flow, direction), facts.get(direction)
                names = ("src", "dst", "sport", "dport", "type", "code", "id", "srckey", "dstkey", "packets", "bytes")
                assert without_nulls({name: getattr(ends, name, None) for name in names}) == (expected or {})


def test_columns_and_routes_agree_about_each_event():
    make_network()
    routes, columns = nlring.Receiver("route"), nlring.Receiver("route", batches="columns")
    change_routes()
    run("ip", "-6", "route", "add", "fd00:1::/64", "dev", "v0", "metric", "7")
    run("ip", "route", "add", "blackhole", "10.9.0.0/16", "proto", "bgp", "tos", "4")
    decoded = [route for batch in all_items(routes) for route in batch]
    table = rows(columns)
    assert len(decoded) == len(table) >= 5
    for route, row in zip(decoded, table):
        expected = flat(route.to_dict())
        assert {name: row.get(name) for name in ("event", "family", "type", "dst", "table", "protocol")} == {
            name: expected.get(name) for name in ("event", "family", "type", "dst", "table", "protocol")
        }
        for name in ("priority", "tos", "gateway", "oif", "scope", "metrics_mtu", "port_id", "prefsrc"):
            assert row.get(name) == expected.get(name), name
        hops = [(hop["gateway"], hop["oif"], hop["weight"]) for hop in row["nexthops"]]
        assert hops == [(hop["gateway"], hop["oif"], hop["weight"]) for hop in expected.get("nexthops", [])]


def test_columns_can_be_taken_several_times_and_outlive_the_receiver():
    with nlring.Receiver("conntrack", batches="columns", timeout=10) as receiver:
        begin_flows(3)
        columns = next(receiver)
    one, other = pyarrow.record_batch(columns), pyarrow.record_batch(columns)
    assert one.equals(other) and one.num_rows == len(columns) > 0
    addresses = [one.column("orig_src").buffers()[2].address, other.column("orig_src").buffers()[2].address]
    assert addresses[0] == addresses[1], "both share the receiver's memory"
    del columns
    assert one.column("orig_dst").to_pylist() == ["127.0.0.1"] * one.num_rows
    assert pyarrow.schema(one.schema).field("orig_sport").type == pyarrow.uint16()

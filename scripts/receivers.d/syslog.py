"""rsyslog receives each record once or more, over each transport, and through restarts of both."""

import collections
import datetime
import json
import re
import subprocess
import time

from gateway import Collector, Traffic, flows, settled
from programs import LIBRARIES, await_that, running, tool

TRANSPORTS = {
    "udp": (
        "127.0.0.1:5514",
        'module(load="imudp") input(type="imudp" address="127.0.0.1" port="5514" rcvbufSize="8m")',
    ),
    "tcp": ("127.0.0.1:5514", 'module(load="imtcp") input(type="imtcp" address="127.0.0.1" port="5514")'),
    "unix": (
        "{directory}/log",
        'module(load="imuxsock" SysSock.Use="off") input(type="imuxsock" Socket="{directory}/log" '
        'UseSysTimeStamp="off" IgnoreTimestamp="off" UseSpecialParser="off" '
        'ParseHostname="on" RateLimit.Interval="0")',
    ),
    "unix-stream": (
        "{directory}/stream",
        'module(load="imptcp") input(type="imptcp" path="{directory}/stream" unlink="on")',
    ),
}
CONFIG = """
global(workDirectory="{directory}" maxMessageSize="8k" parser.escapeControlCharactersOnReceive="off")
{input}
template(name="all" type="string" string="%syslogfacility-text%.%syslogseverity-text% %timereported:::date-rfc3339% %hostname% %app-name% %msgid% %structured-data% %msg%\\n")
action(type="omfile" file="{directory}/received" template="all")
"""
EPOCH = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
PAIR = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))')


def rsyslog(directory, transport):
    address, line = TRANSPORTS[transport]
    path = directory / "rsyslog.conf"
    path.write_text(CONFIG.format(directory=directory, input=line.format(directory=directory)))
    command = [tool("rsyslogd"), "-n", "-f", path, "-i", directory / "pid", "-M", LIBRARIES / "rsyslog"]
    return address.format(directory=directory), command


def received(directory):
    """The messages: what stands before the record, and the record."""
    path = directory / "received"
    messages = []
    for line in path.read_text().splitlines() if path.exists() else []:
        head, _, rest = line.partition(" nlringd ")
        kind, _, rest = rest.partition(" ")
        values = {
            key: re.sub(r"\\(.)", r"\1", quoted) if quoted else bare
            for key, quoted, bare in PAIR.findall(rest)
        }
        if "route" in values:
            values["route"] = as_json(json.loads(values["route"]))
        messages.append((head, kind, values))
    return messages


def as_json(value):
    return json.dumps(value, sort_keys=True)


def as_text(record):
    values = {
        key: as_json(value) if isinstance(value, (bool, dict)) else str(value)
        for key, value in record.items()
    }
    return frozenset(values.items())


def compare(collector, directory, is_once):
    """Each record was received. How many messages came more than once."""
    wanted = collections.Counter(as_text(record) for record in collector.records())

    def missing():
        return wanted - collections.Counter(frozenset(values.items()) for _, _, values in received(directory))

    try:
        await_that("each record is received", lambda: not missing())
    except AssertionError:
        print(f"{len(missing())} of {len(wanted)} are missing: {[sorted(one) for one in missing()][:2]}")
        print(f"received: {received(directory)[:2]}")
        raise
    messages = received(directory)
    found = [frozenset(values.items()) for _, _, values in messages]
    assert set(found) == set(wanted), list(set(found) - set(wanted))[:3]
    for head, kind, values in messages:
        severity, instant, host = head.split(" ")
        assert severity == ("local3.warning" if kind == "loss" else "local3.notice"), head
        time_us = datetime.datetime.fromisoformat(instant) - EPOCH
        assert time_us == datetime.timedelta(microseconds=int(values["time_ns"]) // 1000), (head, values)
        assert (host, kind) == ("gw1", values["record"]), (head, values)
    repeats = len(found) - wanted.total()
    assert repeats == 0 or not is_once, f"{repeats} of {len(found)} messages came again"
    return repeats


def output(transport, address, lines=""):
    return (
        f'[[syslog]]\ntransport = "{transport}"\naddress = "{address}"\nfacility = "local3"\nseverity = "notice"\n'
        f'acknowledge_interval = "1s"\n{lines}'
    )


def each_transport(directory):
    for transport in TRANSPORTS:
        for form in ("structured", "text"):
            place = directory / f"{transport}-{form}"
            place.mkdir()
            address, command = rsyslog(place, transport)
            with running(place, "rsyslog", *command):
                if transport.startswith("unix"):
                    await_that("the socket", lambda: list(place.glob("*log")) + list(place.glob("stream")))
                time.sleep(0.5)
                collector = Collector(
                    place,
                    output(transport, address, f'format = "{form}"'),
                    records="both",
                    settings="routes = true",
                )
                made = Traffic.shared.make(20) + Traffic.shared.ping(3)
                for change in ("add", "del"):
                    subprocess.run(
                        ["ip", "route", change, "192.0.2.0/24", "dev", "lo", "metric", "7"], check=True
                    )
                settled(collector, made)
                assert any("route" in record for record in collector.records())
                collector.end()
                compare(collector, place, is_once=True)
            print(f"  {transport}, {form}: {len(received(place))} messages, each record once")


def restarts(directory):
    """nlringd is killed, and rsyslog restarted, under load: each record is received, some more than once."""
    for transport in ("tcp", "unix-stream"):
        place = directory / f"restarts-{transport}"
        place.mkdir()
        address, command = rsyslog(place, transport)
        collector = Collector(place, output(transport, address))
        made = Traffic.shared.make_and_end(5)  # while there is no rsyslog
        await_that("the failure is logged", lambda: "tried again" in collector.log())
        for _ in range(3):
            with running(place, "rsyslog", *command):
                time.sleep(1)
                made += Traffic.shared.make_and_end(30)
                collector.kill()
                collector.start()
                made += Traffic.shared.make_and_end(30)
            made += Traffic.shared.make_and_end(5)
        with running(place, "rsyslog", *command):
            collector.await_records("most flows", lambda records: len(flows(records)) > made / 2)
            collector.end()
            repeats = compare(collector, place, is_once=False)
        print(
            f"  {transport}, 3 kills and 3 restarts: {len(received(place))} messages, {repeats} of them again"
        )


def run(directory):
    restarts(directory)
    each_transport(directory)

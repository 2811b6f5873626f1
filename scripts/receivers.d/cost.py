"""How much CPU each output takes for a record. Each reads the same spool to its end."""

import os
import shutil
import signal
import socket
import statistics
import subprocess
import threading

import gateway
from programs import await_that

RECORDS = 300_000
ROUNDS = 7
UDP, TCP = ("127.0.0.1", 4739), ("127.0.0.1", 4740)
NAT = "nft add rule inet t nat ip saddr 127.0.0.0/8 meta l4proto udp udp dport != 4739 snat ip to 127.0.0.77"
CONFIG = (
    '[http]\naddress = "off"\n[spool]\ndirectory = "{place}/spool"\nsegment = "1GiB"\nmax_bytes = "4GiB"\n'
)
SYSLOG = '[[syslog]]\ntransport = "{}"\naddress = "{}:{}"\n'
IPFIX = '[[ipfix]]\ntransport = "{}"\naddress = "{}:{}"\n'
OUTPUTS = {
    "the spool alone": SYSLOG.format("udp", *UDP) + 'records = ["loss"]\n',
    "files, Parquet": '[[files]]\ndirectory = "{place}/records"\n',
    "files, JSON lines": '[[files]]\ndirectory = "{place}/records"\nformat = "json"\ncompression = "none"\n',
    "syslog, UDP": SYSLOG.format("udp", *UDP),
    "syslog, TCP": SYSLOG.format("tcp", *TCP),
    "ipfix, UDP": IPFIX.format("udp", *UDP),
    "ipfix, TCP": IPFIX.format("tcp", *TCP),
}


def nlringd(place, outputs):
    path = place / "nlringd.toml"
    path.write_text(CONFIG.format(place=place) + outputs.replace("{place}", str(place)))
    log = open(place / "nlringd.log", "wb")
    process = subprocess.Popen([gateway.NLRINGD, "run", "--config", path], stderr=log)
    await_that("nlringd records", lambda: b"recording as" in (place / "nlringd.log").read_bytes())
    return process


def fill(place):
    """Fills a spool with records of translated UDP flows, which an output that never succeeds keeps."""
    subprocess.run(["bash", "-euc", NAT], check=True)
    process = nlringd(place, IPFIX.format("tcp", "127.0.0.1", 9))
    flood = gateway.NLRINGD.parent / "nlring"
    subprocess.run(
        [flood, "flood", "--here", "conntrack-flows", "--rate", "50000", "--count", str(2 * RECORDS)],
        check=True,
    )
    process.send_signal(signal.SIGTERM)
    process.wait()


def sink(address):
    """Reads a stream to its end, again and again."""
    listener = socket.create_server(address)
    while True:
        stream, _ = listener.accept()
        with stream:
            while stream.recv(1 << 20):
                pass


def cpu_seconds(spool, place, outputs):
    """What nlringd takes from its start until the output has all of the spool."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(spool, place / "spool")
    process = nlringd(place, outputs)
    process.send_signal(signal.SIGTERM)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, (place / "nlringd.log").read_text()
    return usage.ru_utime + usage.ru_stime


def us(seconds):
    """Microseconds per record."""
    return f"{seconds / RECORDS * 1e6:.2f}"


def run(directory):
    fill(directory)
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(UDP)  # the kernel drops what it has no room for
    threading.Thread(target=sink, args=[TCP], daemon=True).start()
    seconds = {name: [] for name in OUTPUTS}
    for _ in range(ROUNDS):
        for name, outputs in OUTPUTS.items():
            seconds[name].append(cpu_seconds(directory / "spool", directory / "run", outputs))
            texts = [path.read_text() for path in (directory / "run").glob("records/*.jsonl")]
            translated = sum(text.count('"nat_src":"127.0.0.77"') for text in texts)
            assert not texts or translated > RECORDS * 0.9, f"{translated} flows are translated"
    base = statistics.median(seconds["the spool alone"])
    for name, values in seconds.items():
        total = statistics.median(values)
        spread = f"{us(min(values))} to {us(max(values))}"
        print(
            f"  {name:20} {us(total)} µs ({spread}), without the spool {us(total - base)} µs"
        )

"""A miniature day: nlringd records a gateway while everything is restarted, and is then asked for each flow that was made."""

import collections
import concurrent.futures
import datetime
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from hosts import Host, Wrong, await_that, cable, run as run_here

PACKAGES = {"python3": "python3-minimal"}

# How long the day lasts. scripts/lab sets it.
minutes = 0.7
# The same seed makes the same disturbances.
seed = 1

TRAFFIC = pathlib.Path(__file__).with_name("traffic.py")
# Of these one is what the clients are translated to; a change of the rules takes the other one.
OUTSIDE = ("203.0.113.1", "203.0.113.3")
INSIDE = "10.1.0.2"
RULES = """
flush ruleset
table ip nat {
  chain pre { type nat hook prerouting priority dstnat; iifname "server" tcp dport 8080 dnat to 10.1.0.2:80; }
  chain post { type nat hook postrouting priority srcnat; oifname "server" snat to %s; }
}
"""
# A flow ends within this time after its last packet.
LONGEST_IDLE_SECONDS = 6
# For this many flows that have a record, and for as many that have none, the translated and the inner address are asked.
ASKED_COUNT = 100
OPEN_INTERVAL_SECONDS = 2
TIMEOUTS = {
    "tcp_timeout_established": 6,
    "tcp_timeout_time_wait": 2,
    "tcp_timeout_close": 1,
    "tcp_timeout_fin_wait": 3,
    "tcp_timeout_last_ack": 3,
    "tcp_timeout_close_wait": 3,
    "udp_timeout": 3,
    "udp_timeout_stream": 5,
}
CONFIG = """
node = "gateway"
recv_buffer = "128KiB"
flush_interval = "100ms"
open_interval = "{open_interval}s"
[http]
address = "off"
[spool]
directory = "{disk}/spool"
segment = "256KiB"
[[files]]
directory = "{disk}/records"
rotate_interval = "10s"
"""


def run(nlring, directory, _options):
    nlringd = nlring.with_name("nlringd")
    if not nlringd.exists():
        raise Wrong(f"{nlringd} is not there: build it, or leave --nlring out")
    day = Day(nlringd, directory)
    try:
        day.begin()
        yield f"seed {seed}, disturbances: {day.disturb(minutes * 60)}"
        day.end_traffic()
        day.stop(signal.SIGTERM)
        yield from Answers(nlringd, directory).check()
    finally:
        day.clean_up()


class Day:
    """The hosts, the traffic, and nlringd in the gateway."""

    def __init__(self, nlringd, directory):
        self.nlringd, self.directory = nlringd, directory
        self.disk = directory / "disk"
        self.hosts = {}
        self.nlringd_runs = None
        self.random = random.Random(seed)
        self.outside = OUTSIDE[0]

    def begin(self):
        self.disk.mkdir()
        run_here("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", self.disk)
        (self.directory / "nlringd.toml").write_text(CONFIG.format(disk=self.disk, open_interval=OPEN_INTERVAL_SECONDS))
        for name in ("client", "gateway", "server"):
            self.hosts[name] = Host(name)
        self.set_up_gateway()
        for name in ("client", "server"):
            self.connect(name)
        self.start()
        for name in ("client", "server"):
            self.start_traffic(name)

    def disturb(self, seconds):
        """Does one thing after the other, each at least once if there is time. Returns how often it did what."""
        deeds = [
            self.stop_and_start,
            self.kill_and_start,
            self.change_rules,
            self.restart_client,
            self.restart_server,
            self.restart_gateway,
            self.flush,
            self.stall,
            self.fill_disk,
        ]
        counts = dict.fromkeys((deed.__name__ for deed in deeds), 0)
        deadline = time.monotonic() + seconds
        waiting = []
        while time.monotonic() < deadline:
            if not waiting:
                waiting = self.random.sample(deeds, len(deeds))
            deed = waiting.pop()
            deed()
            counts[deed.__name__] += 1
            time.sleep(self.random.uniform(0.5, 4))
        return ", ".join(f"{name} {count}" for name, count in counts.items())

    # nlringd

    def start(self):
        log = self.directory / "log"
        size = log.stat().st_size if log.exists() else 0
        with log.open("ab") as errors:
            self.nlringd_runs = self.hosts["gateway"].start(
                self.nlringd,
                "run",
                "--config",
                self.directory / "nlringd.toml",
                stderr=errors,
            )
        await_that("nlringd records", 20, lambda: b"recording as" in log.read_bytes()[size:])

    def stop(self, number):
        self.nlringd_runs.send_signal(number)
        code = self.nlringd_runs.wait(30)
        if code != (0 if number == signal.SIGTERM else -number):
            raise Wrong(f"nlringd ended with {code}")

    def stop_and_start(self):
        self.stop(signal.SIGTERM)
        time.sleep(self.random.uniform(0, 4))
        self.start()

    def kill_and_start(self):
        self.stop(signal.SIGKILL)
        time.sleep(self.random.uniform(0, 4))
        self.start()

    def stall(self):
        """nlringd stands still while many flows begin, so that the kernel drops events."""
        self.nlringd_runs.send_signal(signal.SIGSTOP)
        self.traffic("client", "burst", "203.0.113.2", 7).wait(30)
        self.nlringd_runs.send_signal(signal.SIGCONT)

    def fill_disk(self):
        """There is no room for the records for a while."""
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
            time.sleep(2)
        filler.unlink()

    # The gateway

    def set_up_gateway(self):
        gateway = self.hosts["gateway"]
        gateway.set("ipv4.ip_forward", 1)
        gateway.nft(RULES % self.outside)
        gateway.set("netfilter.nf_conntrack_timestamp", 1)
        gateway.set("netfilter.nf_conntrack_acct", 1)
        for name, seconds in TIMEOUTS.items():
            gateway.set(f"netfilter.nf_conntrack_{name}", seconds)

    def change_rules(self):
        """From now on the clients are translated to the other address."""
        self.outside = OUTSIDE[1 - OUTSIDE.index(self.outside)]
        self.hosts["gateway"].nft(RULES % self.outside)

    def flush(self):
        """All flows end at once, and those whose packets still come begin again."""
        self.hosts["gateway"].run("conntrack", "-F")

    def restart_gateway(self):
        """The gateway begins with an empty table; nobody reports the end of the flows that it had."""
        self.stop(self.random.choice([signal.SIGTERM, signal.SIGKILL]))
        for name in ("client", "server"):
            self.disconnect(name)
        self.hosts["gateway"].end()
        self.hosts["gateway"] = Host("gateway")
        self.set_up_gateway()
        for name in ("client", "server"):
            self.connect(name)
        self.start()

    # The hosts

    def connect(self, name):
        """Connects a host with the gateway."""
        host, gateway = self.hosts[name], self.hosts["gateway"]
        if name == "client":
            cable(host, [f"{INSIDE}/24"], gateway, ["10.1.0.1/24"])
            host.run("ip", "route", "add", "default", "via", "10.1.0.1")
        else:
            cable(host, ["203.0.113.2/24"], gateway, [f"{address}/24" for address in OUTSIDE])

    def disconnect(self, name):
        # Both ends of the cable are gone at once. Those of a namespace that ends would be there for a while.
        self.hosts["gateway"].run("ip", "link", "delete", name)

    def traffic(self, name, *arguments):
        made = self.directory / "made"
        return self.hosts[name].start(sys.executable, TRAFFIC, made, *arguments)

    def start_traffic(self, name):
        if name == "client":
            self.traffic(name, "answer", 80)
            self.traffic(name, "talk", "203.0.113.2", 7)
        else:
            self.traffic(name, "answer", 7)
            self.traffic(name, "visit", OUTSIDE[0], 8080, INSIDE, 80)

    def restart(self, name):
        """The host and all its connections are gone, without a word to the others."""
        host = self.hosts[name]
        for child in host.children:
            child.kill()
        self.disconnect(name)
        host.end()
        self.hosts[name] = Host(name)
        self.connect(name)
        self.start_traffic(name)

    def restart_client(self):
        self.restart("client")

    def restart_server(self):
        self.restart("server")

    def end_traffic(self):
        for name in ("client", "server"):
            for child in self.hosts[name].children:
                child.kill()
                child.wait()
        # What is left ends.
        self.flush()

    def clean_up(self):
        for host in self.hosts.values():
            host.end()
        # The records are kept for whoever looks for the cause of a failure.
        if self.disk.is_mount():
            run_here("cp", "-r", self.disk, self.directory / "kept")
            run_here("umount", self.disk)


class Answers:
    """Looks for each flow that was made in the answer about the whole day, and asks for some of them alone."""

    def __init__(self, nlringd, directory):
        self.nlringd = nlringd
        self.records = directory / "disk" / "records"
        lines = (directory / "made").read_text().splitlines()
        self.made = [json.loads(line) for line in lines]
        self.losses = []
        self.records_of = collections.defaultdict(list)

    def check(self):
        if len(self.made) < minutes * 60:
            raise Wrong(f"only {len(self.made)} flows were made")
        whole, _ = self.ask()
        self.losses = [answer for answer in whole if answer["record"] in ("loss", "gap")]
        for record in whole:
            if record["record"] in ("flow", "open"):
                self.records_of[record["orig_src"], record.get("orig_sport")].append(record)
        yield f"losses: {summary(self.losses)}"
        absent = [made for made in self.made if not self.has(made)]
        for made in absent:
            if not self.is_within_loss(made):
                raise Wrong(f"no record has this flow, and no loss says so: {made}")
        chosen = random.Random(seed)
        asked = [
            made
            for flows in (self.made, absent)
            for made in chosen.sample(flows, min(ASKED_COUNT, len(flows)))
        ]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found_count = sum(map(all, pool.map(self.check_flow, asked)))
        yield (
            f"{len(self.made)} flows were made; {len(absent)} of them are in no record, and lie within losses; "
            f"asked for {len(asked)}, and found {found_count}"
        )
        if len(absent) > len(self.made) / 2:
            raise Wrong("most flows should have a record")

    def has(self, made):
        """Whether a record has this flow, at the time at which it was there."""

        def lasts(record):
            start = record.get("start_ns", record.get("observed_start_ns", 0))
            end = record.get("stop_ns", record["time_ns"])
            return start <= made["until_ns"] and made["since_ns"] <= end

        records = self.records_of[tuple(made["src"])]
        return any(
            is_flow(record, made) and record["proto"] == made["proto"] and lasts(record)
            for record in records
        )

    def check_flow(self, made):
        """Whether it is found by its translation, and by its source."""
        second = datetime.datetime.fromtimestamp(made["since_ns"] // 10**9, datetime.timezone.utc)
        at = ("--at", second.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if made["since_ns"] // 10**9 != made["until_ns"] // 10**9:
            at = ("--from", instant(made["since_ns"]), "--to", instant(made["until_ns"]))
        translated = "{}:{}".format(*made["nat"])
        source = "{}:{}".format(*made["src"])
        return [
            self.check_answer(made, "--nat", translated, *at),
            self.check_answer(made, "--src", source, *at),
        ]

    def check_answer(self, made, *question):
        answers, code = self.ask("--proto", made["proto"], *question)
        if any(is_flow(answer, made) for answer in answers):
            return True
        is_within_loss = self.is_within_loss(made)
        is_said = any(answer["record"] in ("loss", "gap") for answer in answers)
        if not is_within_loss or not is_said or code == 1:
            raise Wrong(
                f"query {' '.join(question)}: exit code {code}, {answers}, but this flow was made: {made}; "
                f"it is within a loss: {is_within_loss}"
            )
        return False

    def is_within_loss(self, made):
        end = made["until_ns"] + LONGEST_IDLE_SECONDS * 10**9
        return any(
            loss["since_ns"] <= end and made["since_ns"] <= loss["until_ns"] for loss in self.losses
        )

    def ask(self, *question):
        done = subprocess.run(
            [self.nlringd, "query", self.records, "--json", *question],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1, 3):
            raise Wrong(f"query {' '.join(question)}: {done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def is_flow(answer, made):
    nat = [answer.get("nat_src"), answer.get("nat_sport", made["nat"][1])]
    if made["is_visit"]:
        nat = [answer.get("nat_dst"), answer.get("nat_dport")]
    return [answer.get("orig_src"), answer.get("orig_sport")] == made["src"] and nat == made["nat"]


def instant(time_ns):
    time = datetime.datetime.fromtimestamp(time_ns // 10**9, datetime.timezone.utc)
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ns % 10**9:09}Z"


def summary(losses):
    reasons = [loss["reason"] for loss in losses]
    return ", ".join(f"{reason} {reasons.count(reason)}" for reason in sorted(set(reasons)))

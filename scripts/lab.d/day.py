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
minutes = 1.0
# The same seed makes the same disturbances.
seed = 1

TRAFFIC = pathlib.Path(__file__).with_name("traffic.py")
WATCH = pathlib.Path(__file__).with_name("watch.py")
# Each disturbance comes once in this time, in an order of chance.
CYCLE_SECONDS = 60
LONGEST_DOWN_SECONDS = 1.5
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
# For this many flows that have a record, and for as many that have none, the translated and the inner address are asked.
ASKED_COUNT = 50
OPEN_INTERVAL_SECONDS = 1
# So soon after its start nlringd knows the flows that are there. Those that began before are reported by no event.
LONGEST_START_NS = 1 * 10**9
# The exit codes of a query whose answer may not be complete: nothing was found, or something.
INCOMPLETE = (3, 4)
# Losses may cover this share of the day.
MOST_LOSS = 0.15
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
        begun = time.monotonic()
        waiting = []
        for number in range(round(seconds * len(deeds) / CYCLE_SECONDS)):
            if not waiting:
                waiting = self.random.sample(deeds, len(deeds))
            due = begun + (number + self.random.uniform(0.3, 0.7)) * CYCLE_SECONDS / len(deeds)
            time.sleep(max(0, due - time.monotonic()))
            deed = waiting.pop()
            deed()
            counts[deed.__name__] += 1
        time.sleep(max(0, begun + seconds - time.monotonic()))
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
        time.sleep(self.random.uniform(0, LONGEST_DOWN_SECONDS))
        self.start()

    def kill_and_start(self):
        self.stop(signal.SIGKILL)
        time.sleep(self.random.uniform(0, LONGEST_DOWN_SECONDS))
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
        gateway.start(sys.executable, WATCH, self.directory / "watched")

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
        # What is left ends, and is seen to end.
        self.flush()
        time.sleep(1)

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
        self.lives = lives((directory / "watched").read_text().splitlines())
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
        share = self.lost_share()
        blind = sum(map(self.is_within_loss, self.made)) / len(self.made)
        yield (
            f"losses: {summary(self.losses)}; they cover {share:.1%} of the time, and would explain it if one of {blind:.1%} of "
            "the flows were missing"
        )
        absent = [made for made in self.made if not self.has(made)]
        for made in absent:
            if not self.is_within_loss(made):
                raise Wrong(
                    f"no record has this flow, and no loss explains it: {made}; it was there {self.lives_of(made)}, losses: "
                    f"{[[loss['reason'], loss['since_ns'], loss['until_ns']] for loss in self.losses]}"
                )
        chosen = random.Random(seed)
        present = [made for made in self.made if self.has(made)]
        asked = [
            (made, is_present)
            for flows, is_present in ((present, True), (absent, False))
            for made in chosen.sample(flows, min(ASKED_COUNT, len(flows)))
        ]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.check_flow, *zip(*asked)))
        yield (
            f"{len(self.made)} times the other end of a flow said how it was translated: {len(present)} times it is recorded "
            f"so, {len(absent)} times it began and ended within losses; {len(asked)} of them were asked for alone"
        )
        if share > MOST_LOSS:
            raise Wrong(f"losses should cover at most {MOST_LOSS:.0%} of the time")

    def lost_share(self):
        """Which share of the time in which flows were made is within losses."""
        begin, end = self.made[0]["since_ns"], max(made["until_ns"] for made in self.made)
        lost, lost_until = 0, begin
        for since, until in sorted((loss["since_ns"], loss["until_ns"]) for loss in self.losses):
            since, until = max(since, lost_until), min(until, end)
            lost += max(0, until - since)
            lost_until = max(lost_until, until)
        return lost / (end - begin)

    def has(self, made):
        """Whether a record has this flow, at the time at which it was there."""

        def lasts(record):
            start = record.get("start_ns", record.get("observed_start_ns", 0))
            end = record.get("stop_ns", record["time_ns"]) + 999_999  # a file has milliseconds
            return start <= made["until_ns"] and made["since_ns"] <= end

        records = self.records_of[tuple(made["src"])]
        return any(
            is_flow(record, made) and record["proto"] == made["proto"] and lasts(record)
            for record in records
        )

    def check_flow(self, made, is_present):
        """Asks for it by its translation, and by its source."""
        time = ("--from", instant(made["since_ns"]), "--to", instant(made["until_ns"]))
        self.check_answer(made, is_present, "--nat", "{}:{}".format(*made["nat"]), *time)
        self.check_answer(made, is_present, "--src", "{}:{}".format(*made["src"]), *time)

    def check_answer(self, made, is_present, *question):
        """A flow that has a record is found. For another one the answer says that it is incomplete."""
        answers, code = self.ask("--proto", made["proto"], *question)
        is_found = any(is_flow(answer, made) for answer in answers)
        is_said = any(answer["record"] in ("loss", "gap") for answer in answers) and code in INCOMPLETE
        if is_found != is_present or not (is_found or is_said):
            raise Wrong(
                f"query {' '.join(question)}: exit code {code}, {answers}, but this flow was made: {made}; "
                f"it has a record: {is_present}"
            )

    def is_within_loss(self, made):
        """Whether losses say that the flow may be missing, and its end was within one of them.

        If its end was not, then the kernel has reported it, or nlringd has found it to be gone.
        """
        is_said = any(
            loss["since_ns"] <= made["until_ns"] and made["since_ns"] <= loss["until_ns"]
            for loss in self.losses
        )
        ends = [life["end"] for life in self.lives_of(made)]
        is_explained = any(
            loss["reason"] != "killed"
            and loss["since_ns"] <= end[1]
            and end[0] <= loss["until_ns"] + LONGEST_START_NS
            for loss in self.losses
            for end in ends or [[made["since_ns"], made["until_ns"] + LONGEST_START_NS]]
        )
        return is_said and is_explained

    def lives_of(self, made):
        """The times from and to which the gateway had a flow of this source when this one was there."""
        return [
            life
            for life in self.lives[made["proto"], *made["src"]]
            if life["begin"] <= made["until_ns"] and made["since_ns"] <= life["end"][1]
        ]

    def ask(self, *question):
        done = subprocess.run(
            [self.nlringd, "query", self.records, "--json", *question],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1, *INCOMPLETE):
            raise Wrong(f"query {' '.join(question)}: {done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def lives(lines):
    """By protocol, source and port: from when on the gateway had the flow at the earliest, and between which times it ended."""
    found = collections.defaultdict(list)
    open_lives = {}
    before = 0
    for line in map(json.loads, lines):
        gone = list(open_lives) if line["is_first"] else map(tuple, line["gone"])
        for flow in gone:
            open_lives.pop(flow)["end"] = [before, line["until_ns"]]
        for flow in map(tuple, line["begun"]):
            life = {"begin": before or line["since_ns"], "end": [line["since_ns"], float("inf")]}
            found[flow[:3]].append(life)
            open_lives[flow] = life
        before = line["since_ns"]
    return found


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

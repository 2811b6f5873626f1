"""`nlring`, running with its output, statistics and table in files."""

import json
import os
import pathlib
import signal
import subprocess
import time

from hosts import Wrong, await_that


# Flows expire within this time; after it nothing is lost any more.
SETTLED_SECONDS = 180


class Collector:
    def __init__(self, start, binary, directory, name, arguments):
        """`start` starts a program where the collector must run: in a host, or in this process's namespace."""
        self.name = name
        self.output, self.stats, self.table = (
            directory / f"{name}.{kind}" for kind in ("out", "stats", "table")
        )
        self.has_table = "--mirror" in arguments or "--snapshot" in arguments
        command = [binary, *arguments, "--output", self.output, "--stats", self.stats]
        if self.has_table:
            command += ["--table", self.table]
        self.errors = directory / f"{name}.err"
        with open(self.errors, "wb") as errors:
            self.child = start(*command, stderr=errors)

    def check(self):
        if self.child.poll() is not None:
            raise Wrong(
                f"{self.name} ended with {self.child.returncode}: {self.errors.read_text()}"
            )

    def signal(self, number):
        self.check()
        self.child.send_signal(number)

    def report(self):
        """Returns its statistics, and its table, which it writes before them."""
        self.stats.unlink(missing_ok=True)
        self.signal(signal.SIGUSR1)
        stats = await_that(f"{self.name} reports", 20, self.read_stats)
        return stats, self.read_table() if self.has_table else None

    def read_stats(self):
        """Its statistics, if it has written them. They are complete, because it replaces the file."""
        self.check()
        try:
            return json.loads(self.stats.read_text())
        except FileNotFoundError:
            return None

    def read_table(self):
        with open(self.table) as lines:
            return [json.loads(line) for line in lines]

    def events(self):
        """The events that it has written until now, without an incomplete last line."""
        text = self.output.read_text() if self.output.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def await_events(self, what, seconds, condition):
        """Waits until one of its events fulfils the condition, and returns it."""

        def found():
            self.check()
            return next((event for event in self.events() if condition(event)), None)

        return await_that(what, seconds, found)

    def await_start(self):
        """Waits for its first resync, because its table is complete then."""
        self.await_events(f"{self.name} follows", 20, lambda event: event["event"] == "resynced")

    def check_table(self, kernel_list, row_of, seconds):
        """Waits until the mirror's table equals the kernel's list, and returns the seconds that this took.

        The limit `seconds` counts from its last loss, because many flows that expire at once can overrun it although
        nothing else happens. What differs at first, or after such a loss, must be right in a later comparison. What
        differs only later has changed since, like a flow that expired. What changes while the two are read may be in
        either state.
        """
        begun = time.monotonic()
        missing, extra, dropped = set(), set(), None
        while True:
            before = kernel_list()
            stats, table = self.report()
            mirrored = {row_of(entry) for entry in table}
            after = kernel_list()
            if len(mirrored) != len(table):
                raise Wrong(f"{self.name}: an entry is in the table twice")
            now_missing, now_extra = (before & after) - mirrored, mirrored - (before | after)
            if stats["dropped"] == dropped:
                missing, extra = missing & now_missing, extra & now_extra
            else:
                missing, extra, dropped = now_missing, now_extra, stats["dropped"]
                deadline = min(time.monotonic() + seconds, begun + SETTLED_SECONDS)
            if not missing and not extra:
                return time.monotonic() - begun
            if time.monotonic() > deadline:
                raise Wrong(
                    f"{self.name}: the mirror is not the kernel's list {seconds} s after its last loss: "
                    f"missing {len(missing)}, such as {list(missing)[:3]}; "
                    f"too many {len(extra)}, such as {list(extra)[:3]}"
                )
            time.sleep(0.05)

    def resident_kib(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def descriptor_count(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def end(self):
        """Ends it by SIGINT, and returns its statistics."""
        self.child.send_signal(signal.SIGCONT)
        self.child.send_signal(signal.SIGINT)
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.name} does not end") from None
        finally:
            self.child.kill()
        if self.child.returncode != 0:
            raise Wrong(
                f"{self.name} ended with {self.child.returncode}: {self.errors.read_text()}"
            )
        return json.loads(self.stats.read_text())

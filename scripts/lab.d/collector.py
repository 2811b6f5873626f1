"""`nlring`, running with its output, statistics and table in files."""

import json
import pathlib
import signal
import subprocess
import time

from hosts import Wrong, await_that


class Collector:
    def __init__(self, start, binary, directory, name, arguments):
        """`start` starts a program where the collector is to run: a host's, or that of this process."""
        self.name = name
        self.output, self.stats, self.table = (directory / f"{name}.{kind}" for kind in ("out", "stats", "table"))
        self.has_table = "--mirror" in arguments or "--snapshot" in arguments
        command = [binary, *arguments, "--output", self.output, "--stats", self.stats]
        if self.has_table:
            command += ["--table", self.table]
        self.errors = directory / f"{name}.err"
        with open(self.errors, "wb") as errors:
            self.child = start(*command, stderr=errors)

    def check(self):
        if self.child.poll() is not None:
            raise Wrong(f"{self.name} ended with {self.child.returncode}: {self.errors.read_text()}")

    def signal(self, number):
        self.check()
        self.child.send_signal(number)

    def report(self):
        """Returns its statistics as of now, and its table, which was written before them."""
        before = self._stats_identity()
        self.signal(signal.SIGUSR1)
        await_that(f"{self.name} reports", 20, lambda: self.check() or self._stats_identity() != before)
        stats = json.loads(self.stats.read_text())
        return stats, self.read_table() if self.has_table else None

    def _stats_identity(self):
        """Each report replaces the file by a new one."""
        try:
            status = self.stats.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def read_table(self):
        with open(self.table) as lines:
            return [json.loads(line) for line in lines]

    def events(self):
        """What it has written until now, without a last line that is not complete."""
        text = self.output.read_text() if self.output.exists() else ""
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]

    def await_events(self, what, seconds, condition):
        """Waits until one of its events fulfils the condition, and returns it."""
        def found():
            self.check()
            return next((event for event in self.events() if condition(event)), None)
        return await_that(what, seconds, found)

    def await_start(self):
        """A mirror's table is complete after its first resync."""
        self.await_events(f"{self.name} follows", 20, lambda event: event["event"] == "resynced")

    def check_table(self, kernel_list, row_of, seconds):
        """Waits until the mirror's table is the kernel's list. An entry that comes or goes meanwhile may be in either state.

        Returns the time it took."""
        begun = time.monotonic()
        difference = [], []

        def is_same():
            nonlocal difference
            before = kernel_list()
            _, table = self.report()
            after = kernel_list()
            mirrored = {row_of(entry) for entry in table}
            if len(mirrored) != len(table):
                raise Wrong(f"{self.name}: an entry is in the table twice")
            difference = list((before & after) - mirrored), list(mirrored - (before | after))
            return difference == ([], [])
        try:
            await_that("the mirror is the kernel's list", seconds, is_same)
        except Wrong as wrong:
            missing, extra = difference
            raise Wrong(f"{self.name}: {wrong}: missing {len(missing)}, such as {missing[:3]}; "
                        f"too many {len(extra)}, such as {extra[:3]}") from None
        return time.monotonic() - begun

    def resident_kib(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def end(self):
        """Ends it in order, and returns its statistics."""
        self.child.send_signal(signal.SIGCONT)
        self.child.send_signal(signal.SIGINT)
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.name} does not end") from None
        finally:
            self.child.kill()
        if self.child.returncode != 0:
            raise Wrong(f"{self.name} ended with {self.child.returncode}: {self.errors.read_text()}")
        return json.loads(self.stats.read_text())

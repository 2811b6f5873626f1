"""Receivers as processes: started on a core of their own, and always ended."""

import ctypes
import os
import signal
import subprocess
import time

RECEIVER_CORE = 1
LIMIT_SECONDS = 60
IDLE_SHARE = (
    0.1  # of a core: a receiver that waits takes less, also one that looks every millisecond
)

libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """Says why a run has failed."""


def last_line(text):
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def await_that(what, condition):
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"not within {LIMIT_SECONDS} s: {what}")
        time.sleep(0.005)


class Process:
    """A running receiver. It ends with its `with` block at the latest."""

    def __init__(self, command, output, errors):
        self.errors = errors
        with open(output, "wb") as out, open(errors, "wb") as err:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=lambda: os.sched_setaffinity(0, {RECEIVER_CORE}),
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.returncode is None:
            self.child.kill()
            self.child.wait()

    def cpu_seconds(self):
        """CPU of all its threads until now."""
        self.check()
        clock = ctypes.c_int()
        error = libc.clock_getcpuclockid(self.child.pid, ctypes.byref(clock))
        if error:
            raise OSError(error, os.strerror(error))
        return time.clock_gettime(clock.value)

    def first_thread_seconds(self):
        """CPU of the thread that has begun the process until now."""
        self.check()
        with open(f"/proc/{self.child.pid}/task/{self.child.pid}/schedstat") as times:
            return int(times.read().split()[0]) / 1e9

    def has_ended(self):
        """Does not reap it, because end() reaps it to get its CPU."""
        return os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def check(self):
        """Fails if it has ended on its own."""
        if self.has_ended():
            raise Failure(f"ended early: {self.last_error()}")

    def last_error(self):
        with open(self.errors, errors="replace") as errors:
            return last_line(errors.read())

    def await_that(self, what, condition):
        def is_so():
            self.check()
            return condition()

        await_that(what, is_so)

    def await_idle(self, what, seconds, condition=lambda: True):
        """Waits until the condition held for this many seconds while the process was nearly idle."""

        def is_idle():
            began, used = time.monotonic(), self.cpu_seconds()
            while time.monotonic() - began < seconds:
                if not condition():
                    return False
                time.sleep(0.005)
            return self.cpu_seconds() - used < IDLE_SHARE * (time.monotonic() - began)

        self.await_that(what, is_idle)

    def end(self):
        """Ends it as its user would, and returns all the CPU that it used."""
        self.check()
        self.child.send_signal(signal.SIGINT)
        await_that("the receiver has ended after SIGINT", self.has_ended)
        _, status, usage = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        if self.child.returncode not in (0, -signal.SIGINT):
            raise Failure(f"ended with {self.child.returncode}: {self.last_error()}")
        return usage

"""Debian's programs, unpacked and not installed; and programs that run until a scenario ends."""

import contextlib
import os
import pathlib
import re
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
TOOLS = TARGET / "tools/receivers"
TRIPLET = f"{os.uname().machine}-linux-gnu"
LIBRARIES = TOOLS / "usr/lib" / TRIPLET
PACKAGES = ["rsyslog", "nfdump", "pmacct", "tshark"]
PATIENCE = 30  # seconds


class Missing(Exception):
    """The programs cannot be had here."""


def unpack():
    """Unpacks the packages, and the libraries that this system does not have."""
    done = TOOLS / "done"
    if done.exists():
        return
    with tempfile.TemporaryDirectory() as directory:
        try:
            subprocess.run(["apt-get", "-qq", "update"], timeout=120, check=True)
            simulated = ["apt-get", "install", "--simulate", "--no-install-recommends", *PACKAGES]
            said = subprocess.run(simulated, capture_output=True, text=True, timeout=120, check=True).stdout
            names = re.findall(r"^Inst (\S+)", said, re.MULTILINE) or PACKAGES
            fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *names]
            subprocess.run(fetch, cwd=directory, timeout=600, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise Missing(f"Debian's packages {', '.join(PACKAGES)}: {error}") from error
        TOOLS.mkdir(parents=True, exist_ok=True)
        for package in pathlib.Path(directory).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, TOOLS], check=True)
    done.touch()


def environment():
    return dict(os.environ, LD_LIBRARY_PATH=f"{LIBRARIES}:{TOOLS}/lib/{TRIPLET}", TZ="UTC")


def tool(name):
    for folder in ("usr/bin", "usr/sbin"):
        if (path := TOOLS / folder / name).exists():
            return path
    raise Missing(name)


def run(*command, **options):
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), **options)
    assert done.returncode == 0, f"{words[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


class Program:
    """A program that runs, and its log."""

    def __init__(self, directory, name, *command):
        self.log_path = directory / f"{name}.log"
        with open(self.log_path, "ab") as log:
            words = [str(word) for word in command]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment(), cwd=directory)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(PATIENCE)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)


@contextlib.contextmanager
def running(directory, name, *command):
    program = Program(directory, name, *command)
    try:
        yield program
    except BaseException:
        print(f"--- {name}\n{program.log()[-4000:]}")
        raise
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.end()
        if program.process.poll() is None:
            program.kill()


def await_that(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.1)
    return value

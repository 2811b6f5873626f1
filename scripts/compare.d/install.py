"""Installs and builds what is compared, and says which rivals it cannot install, and why."""

import glob
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"))
# A directory of its own: other build options than the main workspace's would rebuild the same crates each time.
RECEIVERS_TARGET = os.path.join(TARGET, "compare")
VENV = os.path.join(RECEIVERS_TARGET, "venv")

NLRING = os.path.join(TARGET, "release/nlring")
NLRINGD = os.path.join(TARGET, "release/nlringd")
RECEIVERS = os.path.join(RECEIVERS_TARGET, "release/receivers")
UDP_FLOWS = os.path.join(RECEIVERS_TARGET, "release/udp_flows")
LIBMNL = os.path.join(RECEIVERS_TARGET, "libmnl")
VENV_PYTHON = os.path.join(VENV, "bin/python")
# Debian's packages that are unpacked, and not installed.
UNPACKED = os.path.join(RECEIVERS_TARGET, "debian")


class CannotHave(Exception):
    """Says why a rival cannot be installed."""


def run(command, **options):
    """Runs a step of an installation; its output is shown only if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or ["it said nothing"]
        raise CannotHave(f"{' '.join(command[:4])}: {lines[-1]}")


def say(what):
    print(f"scripts/compare: {what}", file=sys.stderr, flush=True)


def packages(*names):
    """Installs Debian's packages that are missing. RUNLEVEL=1 keeps a package from starting its service."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", *names]
    states = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    if states.split() == ["installed"] * len(names):
        return
    say(f"installing {' '.join(names)}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names], env=environment)


def unpack(*names):
    """Unpacks Debian's packages into UNPACKED."""
    if all(glob.glob(os.path.join(UNPACKED, f"{name}_*.deb")) for name in names):
        return
    say(f"unpacking {' '.join(names)}")
    os.makedirs(UNPACKED, exist_ok=True)
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "download", "-qq", *names], cwd=UNPACKED)
    for package in glob.glob(os.path.join(UNPACKED, "*.deb")):
        run(["dpkg", "-x", package, UNPACKED])


def cargo(directory, target, *arguments):
    say(f"building in {os.path.relpath(directory, ROOT)}")
    run(
        ["cargo", "build", "--release", *arguments],
        cwd=directory,
        env=dict(os.environ, CARGO_TARGET_DIR=target),
    )


def libmnl():
    packages("gcc", "libc6-dev", "libmnl-dev")
    os.makedirs(RECEIVERS_TARGET, exist_ok=True)
    run(["gcc", "-O2", "-Wall", "-o", LIBMNL, os.path.join(HERE, "libmnl.c"), "-lmnl"])


def python_module(name):
    if not os.path.exists(VENV_PYTHON):
        run([sys.executable, "-m", "venv", VENV])
    if not glob.glob(os.path.join(VENV, "lib/*/site-packages", name)):
        say(f"installing {name}")
        run([VENV_PYTHON, "-m", "pip", "install", "-q", name])


def nlringd():
    """Builds nlringd, and what counts its records."""
    python_module("pyarrow")
    cargo(ROOT, TARGET, "--package", "nlring-collector")


def our_python():
    """Builds our Python package as pip does, and what takes its columns."""
    python_module("pyarrow")
    say("building the Python package")
    run(
        [VENV_PYTHON, "-m", "pip", "install", "-q", "--force-reinstall", os.path.join(ROOT, "python")],
        env=dict(os.environ, CARGO_TARGET_DIR=os.path.join(RECEIVERS_TARGET, "python")),
    )


STEPS = {
    "conntrack": lambda: packages("conntrack"),
    "ip": lambda: packages("iproute2"),
    "libmnl": libmnl,
    "nlring-python": our_python,
    "nlringd": nlringd,
    "pymnl": lambda: python_module("pymnl"),
    "pyroute2": lambda: python_module("pyroute2"),
    "receivers": lambda: cargo(HERE, RECEIVERS_TARGET),
    # Installed, it would be a service with a user of its own.
    "ulogd": lambda: unpack(
        "ulogd2", "ulogd2-json", "libnetfilter-log1", "libnetfilter-acct1", "libjansson4"
    ),
}


def install(needs):
    """Takes the steps that are needed, and returns the reasons of those that failed."""
    reasons = {}
    for need in sorted(needs & STEPS.keys()):
        try:
            STEPS[need]()
        except (CannotHave, OSError) as error:
            reasons[need] = str(error)
    return reasons


def install_ours():
    """Installs what every comparison needs: the command, the maker of loads, and what the namespace needs."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    try:
        packages("conntrack", "iproute2", "nftables")
        cargo(ROOT, TARGET, "--package", "nlring-cli")
        cargo(HERE, RECEIVERS_TARGET, "--bin", "udp_flows")
    except (CannotHave, OSError) as error:
        sys.exit(f"scripts/compare: {error}")

"""The versions that are compared."""

import os
import re
import subprocess

from install import HERE, NLRING, NLRINGD, VENV_PYTHON
from receivers import ULOGD_COMMAND

COMMANDS = {
    "conntrack": ["conntrack", "--version"],
    "ip": ["ip", "-V"],
    "nlring": [NLRING, "--version"],
    "nlringd": [NLRINGD, "--version"],
    "ulogd": [*ULOGD_COMMAND, "--version"],
}
CRATES = ["io-uring", "neli", "netlink-sys", "nlink"]


def versions(needs):
    found = {}
    for need in sorted(needs):
        if need in COMMANDS:
            found[need] = first_number(output(COMMANDS[need]))
        elif need == "libmnl":
            found[need] = output(["dpkg-query", "-W", "-f", "${Version}", "libmnl-dev"])
        elif need == "receivers":
            found.update(crates())
        elif need == "nlring-python":
            module = "import sys, pyarrow; print(sys.version.split()[0], pyarrow.__version__)"
            interpreter, arrow = output([VENV_PYTHON, "-c", module]).split()
            found.update({"Python": interpreter, "pyarrow": arrow})
        else:
            module = f"import importlib.metadata as m; print(m.version('{need}'))"
            found[need] = output([VENV_PYTHON, "-c", module]).strip()
    return found


def output(command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def first_number(text):
    found = re.search(r"\d+(\.\d+)+", text)
    return found.group() if found else "of an unknown version"


def crates():
    with open(os.path.join(HERE, "Cargo.lock")) as lock:
        packages = dict(re.findall(r'name = "(.+)"\nversion = "(.+)"', lock.read()))
    return {name: packages[name] for name in CRATES}

"""FRR's zebra and staticd load routes with several hops into the kernel, change them and remove them."""

import os
import pathlib
import shutil

from collector import Collector
from hosts import await_that, cable, hosts
from tables import listed_routes, route_row

PACKAGES = {"/usr/lib/frr/zebra": "frr", "vtysh": "frr"}
COUNT = 3000
DAEMONS = pathlib.Path("/usr/lib/frr")


def run(nlring, directory, options):
    with hosts("router", "peer") as (router, peer):
        cable(router, ["192.0.2.1/24", "fd00::1/64"], peer, ["192.0.2.2/24", "fd00::2/64"])
        mirror = Collector(
            router.start,
            nlring,
            directory,
            "mirror",
            ["route", "--mirror", "--json", "--recv-buffer", "8MiB", *options],
        )
        mirror.await_start()
        vtysh = start_daemons(router, directory)
        for step, (added, removed) in enumerate(steps()):
            file = directory / f"step-{step}"
            file.write_text("\n".join([*(f"no {line}" for line in removed), *added, ""]))
            vtysh("-f", file)
            seconds = check(router, mirror, {line.split()[2] for line in added})
            yield (
                f"step {step}, {len(added)} lines, {len(removed)} removed: "
                f"the mirror is ip's list, after {seconds:.1f} s"
            )
        router.run("ip", "link", "set", "peer", "down")
        seconds = mirror.check_table(lambda: listed_routes(router.run), route_row, 30)
        yield f"the device down: the mirror is ip's list, after {seconds:.1f} s"
        mirror.end()


def start_daemons(router, directory):
    """Starts zebra and staticd in the host, and returns a function that runs vtysh."""
    state = directory / "frr"
    state.mkdir()
    os.chmod(directory, 0o755)
    shutil.chown(state, "frr", "frr")
    common = ["-z", state / "zserv.api", "--vty_socket", state, "-f", "/dev/null", "-P", "0"]
    for daemon in ("zebra", "staticd"):
        with (directory / f"{daemon}.log").open("wb") as log:
            router.start(
                DAEMONS / daemon, *common, "-i", state / f"{daemon}.pid", stdout=log, stderr=log
            )
        await_that(f"{daemon} answers", 20, (state / f"{daemon}.vty").exists)
    return lambda *arguments: router.run("vtysh", "--vty_socket", state, *arguments)


def steps():
    """Lines of vtysh to add and to remove: routes get one hop, a second one, other ones, none."""

    def lines(hop, numbers):
        for n in numbers:
            yield f"ip route 10.{n >> 8}.{n & 255}.0/24 192.0.2.{hop}"
            yield f"ipv6 route fd10:{n:x}::/32 fd00::{hop:x}"

    every, third = range(1, COUNT // 2), range(1, COUNT // 2, 3)
    first, second, other = list(lines(2, every)), list(lines(3, every)), list(lines(4, third))
    return [
        (first, []),
        (second, []),
        (other, list(lines(2, third))),
        ([], second),
        ([], list(lines(2, every)) + other),
    ]


def check(router, mirror, destinations):
    """Waits until the kernel has all destinations, then until the mirror equals it.

    Returns the seconds of the second wait.
    """

    def has_all():
        return destinations <= {row[0] for row in listed_routes(router.run)}

    await_that("the kernel has FRR's routes", 60, has_all)
    return mirror.check_table(lambda: listed_routes(router.run), route_row, 30)

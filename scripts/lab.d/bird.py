"""BIRD loads 20,000 routes into the kernel, changes them and removes them."""

from collector import Collector
from hosts import await_that, cable, hosts
from tables import listed_routes, route_row

PACKAGES = {"bird": "bird2"}
COUNT = 20_000

HEAD = """
router id 192.0.2.1;
protocol device { scan time 60; }
protocol kernel k4 { ipv4 { export all; import none; }; scan time 60; merge paths on; }
protocol kernel k6 { ipv6 { export all; import none; }; scan time 60; }
"""


def configuration(seed, count):
    """Routes whose hops depend on the seed: another seed changes a third of them."""
    four = [
        f"  route 10.{n >> 8}.{n & 255}.0/24 via 192.0.2.{2 + (n + (seed if n % 3 == 0 else 0)) % 8};"
        for n in range(count // 2)
    ]
    six = [
        f"  route fd10:{n:x}::/32 via fd00::{2 + (n + (seed if n % 3 == 0 else 0)) % 8:x};"
        for n in range(count // 2)
    ]
    return "\n".join(
        [
            HEAD,
            "protocol static s4 { ipv4;",
            *four,
            "}",
            "protocol static s6 { ipv6;",
            *six,
            "}",
            "",
        ]
    )


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
        control, file = directory / "bird.ctl", directory / "bird.conf"
        for seed, count in ((0, COUNT), (1, COUNT), (2, COUNT // 2), (3, COUNT)):
            file.write_text(configuration(seed, count))
            if seed == 0:
                router.start("bird", "-f", "-c", file, "-s", control, "-P", directory / "bird.pid")
                await_that("BIRD answers", 20, control.exists)
            else:
                router.run("birdc", "-s", control, "configure")

            def is_loaded():
                rows = listed_routes(router.run)
                return sum(row[4] == "bird" for row in rows) == count and has_hops_of(rows, seed)

            await_that(f"the kernel has BIRD's {count} routes", 60, is_loaded)
            seconds = mirror.check_table(lambda: listed_routes(router.run), route_row, 30)
            yield f"{count} routes, change {seed}: the mirror is ip's list, after {seconds:.1f} s"
        stats = mirror.end()
        yield f"{stats['received']} datagrams received, {stats['dropped']} lost"


def has_hops_of(rows, seed):
    """Whether the routes have the hops of this seed."""
    hop = f"192.0.2.{2 + seed % 8}"
    return any(row[0] == "10.0.0.0/24" and row[5][0][0] == hop for row in rows)

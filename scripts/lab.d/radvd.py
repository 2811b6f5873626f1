"""A host that gets its IPv6 routes from a router's advertisements, which change them without an event."""

import os
import signal

from collector import Collector
from hosts import Wrong, await_that, cable, hosts
from tables import listed_routes, route_row

PACKAGES = {"radvd": "radvd"}

CONFIGURATION = """
interface host {{
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 1800;
  AdvLinkMTU {mtu}; AdvCurHopLimit {hop_limit}; AdvDefaultPreference {preference};
  prefix fd00::/64 {{ AdvOnLink on; AdvAutonomous off; }};
}};
"""
ADVERTISEMENTS = [
    {"mtu": 1400, "hop_limit": 50, "preference": "medium"},
    {"mtu": 1300, "hop_limit": 64, "preference": "high"},
    {"mtu": 1450, "hop_limit": 20, "preference": "low"},
]


def run(nlring, directory, options):
    with hosts("router", "host") as (router, host):
        router.set("ipv6.conf.all.forwarding", 1)
        host.set("ipv6.conf.default.accept_ra", 2)
        host.set("ipv6.conf.default.accept_ra_rtr_pref", 1)
        cable(router, ["fd00::1/64"], host, ["fd00::2/64"])
        host.run(
            "ip",
            "-6",
            "route",
            "add",
            "fd77::/64",
            "via",
            "fd00::1",
            "dev",
            "router",
            "mtu",
            "1480",
        )
        mirror = Collector(
            host.start,
            nlring,
            directory,
            "mirror",
            ["route", "--mirror", "--json", "--audit-interval", "1s", *options],
        )
        mirror.await_start()
        daemon = None
        for advertisement in ADVERTISEMENTS:
            configuration = directory / "radvd.conf"
            configuration.write_text(CONFIGURATION.format(**advertisement))
            # radvd reads its configuration as a user of its own.
            os.chmod(directory, 0o755)
            if daemon is None:
                daemon = router.start(
                    "radvd",
                    "-n",
                    "-C",
                    configuration,
                    "-p",
                    directory / "radvd.pid",
                    "-m",
                    "logfile",
                    "-l",
                    directory / "radvd.log",
                )
            else:
                daemon.send_signal(signal.SIGHUP)
            await_that(
                f"the host's routes follow {advertisement}",
                30,
                lambda: follows(host, advertisement),
            )
            seconds = mirror.check_table(lambda: listed_routes(host.run), route_row, 10)
            yield f"{advertisement}: the mirror is ip's list, after {seconds:.1f} s"
        if not any(event.get("reason") == "audit" for event in mirror.events()):
            raise Wrong("no audit found what the advertisements changed")
        mirror.end()


def follows(host, advertisement):
    """Whether the default route and the static route are as the advertisement says."""
    rows = {
        row[0]: (dict(row[6]), row[7])
        for row in listed_routes(host.run)
        if row[0] in ("::/0", "fd77::/64")
    }
    if len(rows) < 2:
        return False
    metrics, preference = rows["::/0"]
    return (
        metrics.get("hoplimit") == advertisement["hop_limit"]
        and preference == advertisement["preference"]
        and rows["fd77::/64"][0].get("mtu")
        == min(advertisement["mtu"], rows["fd77::/64"][0].get("mtu", 0))
    )

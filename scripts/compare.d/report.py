"""Prints tables of the runs, and a summary."""

import os
import platform
import statistics
import time

import ratios
from loads import LOADS
from receivers import CONNTRACK, RECEIVERS_OF, ROUTE

CONNTRACK_E = "conntrack -E"
MULTISHOT = "bare multishot, 1 ms"
ULOGD, ULOGD_FLOWS = "ulogd2", "ulogd2, flows"
NLRINGD_EVENTS, NLRINGD_FLOWS = "nlringd, events", "nlringd, flows"
# What each row of a table is compared with, by CPU per event.
REFERENCES = {CONNTRACK: [CONNTRACK_E, MULTISHOT], ROUTE: ["ip monitor route", MULTISHOT]}
# Our CPU divided by a rival's.
QUOTIENTS = {
    CONNTRACK: [
        ("nlring conntrack --json", CONNTRACK_E),
        ("nlring conntrack --json", "ulogd2"),
        ("nlring conntrack --json", "libmnl callback"),
        ("nlring decode", "nlink"),
        ("nlring receive only", "recvmmsg paced 1 ms"),
        ("nlring in Python, flows", "pymnl"),
        ("nlring in Python, flows-read", "pymnl"),
        ("nlring in Python, columns", MULTISHOT),
        (NLRINGD_EVENTS, CONNTRACK_E),
        (NLRINGD_EVENTS, ULOGD),
        (NLRINGD_FLOWS, ULOGD),
        (NLRINGD_FLOWS, ULOGD_FLOWS),
    ],
    ROUTE: [("nlring route --json", "ip monitor route")],
}
# The CPU of our thread that receives divided by a rival's.
RECEIVING_QUOTIENTS = {
    CONNTRACK: [(NLRINGD_EVENTS, MULTISHOT), (NLRINGD_FLOWS, MULTISHOT)],
    ROUTE: [],
}
# Our CPU minus a rival's.
DIFFERENCES = {
    CONNTRACK: [("nlring conntrack --json", MULTISHOT)],
    ROUTE: [("nlring route --json", MULTISHOT)],
}
COLUMNS = "{:29}{:>9}{:>9}{:>8}{:>8}{:>8}{:>8}{:>11}{:>7}"
RATIO_COLUMN = "{:>28}"
EXPLANATION = """\
CPU (and its parts user and system) is the receiver's, in µs per received event; first is that of its first thread, which
receives. generator is the CPU of the program that makes the events, in µs per event. bytes are written per event. Figures
are medians. The last columns are the medians of a run's CPU divided by that of another receiver in the same repetition."""


def cpu(run):
    return run.cpu_us


def first_thread(run):
    return run.first_thread_us


def generator(run):
    return run.generator_us


def processor():
    with open("/proc/cpuinfo") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def heading(options, versions):
    print(
        f"{processor()}, {os.cpu_count()} cores, Linux {platform.release()}, {time.strftime('%F')}; "
        f"receive buffer {options.buffer} bytes, {options.repeat} repetitions in turn"
    )
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(EXPLANATION)


def missing(receivers, reasons):
    for receiver in receivers:
        if receiver.need in reasons:
            print(f"missing: {receiver.name}: {reasons[receiver.need]}")


def tables(runs):
    for load in LOADS.values():
        of_load = by_receiver(runs, load)
        if of_load:
            print()
            table(load, of_load)


def by_receiver(runs, load):
    """The runs of each receiver, in the order of the rows."""
    found = {}
    for receiver in RECEIVERS_OF[load.receivers]:
        own = [run for run in runs if (run.load, run.receiver) == (load.name, receiver.name)]
        if own:
            found[receiver.name] = own
    return found


def table(load, of_load):
    good = [run for runs in of_load.values() for run in runs if not run.failure]
    made = statistics.median([run.made for run in good] or [0])
    rate = statistics.median([run.made / run.seconds for run in good] or [0])
    references = [name for name in REFERENCES[load.receivers] if name in of_load]
    print(f"{load.name}: {load.what}; {made:.0f} events, {rate:.0f} per second")
    if load.is_asked_for:
        print(
            f"({CONNTRACK_E} looks up in /proc who requested each of these events, "
            "which costs it most of its CPU)"
        )
    print(
        COLUMNS.format(
            "receiver", "received", "lost", "CPU", "first", "user", "system", "generator", "bytes"
        ),
        *(RATIO_COLUMN.format("over " + name) for name in references),
        sep="",
    )
    for name, runs in of_load.items():
        row(name, runs, [of_load[reference] for reference in references])


def row(name, runs, references):
    good = [run for run in runs if not run.failure]
    if good:
        middle = {
            field: statistics.median(getattr(run, field) for run in good)
            for field in [
                "received",
                "lost",
                "cpu_us",
                "first_thread_us",
                "user_us",
                "system_us",
                "generator_us",
                "written_bytes",
            ]
        }
        over = [ratios.compare(good, others, cpu, ratios.quotient) for others in references]
        print(
            COLUMNS.format(
                name,
                f"{middle['received']:.0f}",
                f"{middle['lost']:.0f}",
                f"{middle['cpu_us']:.2f}",
                f"{middle['first_thread_us']:.2f}",
                f"{middle['user_us']:.2f}",
                f"{middle['system_us']:.2f}",
                f"{middle['generator_us']:.2f}",
                f"{middle['written_bytes']:.0f}" if middle["written_bytes"] else "-",
            ),
            *(RATIO_COLUMN.format(str(ratio or "-")) for ratio in over),
            sep="",
        )
    failures = [run.failure for run in runs if run.failure]
    if failures:
        print(f"{name:29} failed in {len(failures)} of {len(runs)} runs: {failures[0]}")


def summary(runs, options):
    """Prints a line for each comparison of QUOTIENTS and DIFFERENCES."""
    print()
    spread = (
        f", and its {ratios.CONFIDENCE:.0%} interval"
        if options.repeat >= ratios.LEAST_FOR_INTERVAL
        else ""
    )
    print(f"CPU per event, the median over pairs of one repetition{spread}:")
    for load in LOADS.values():
        of_load = by_receiver(runs, load)
        for ours, other in QUOTIENTS[load.receivers]:
            if load.is_asked_for and other == CONNTRACK_E:
                continue  # on a router no program requests the events, and it would not be slow
            line(f"{load.name:8} {ours} over {other}", of_load, ours, other, cpu, ratios.quotient)
        for ours, other in RECEIVING_QUOTIENTS[load.receivers]:
            line(
                f"{load.name:8} first thread of {ours} over {other}",
                of_load,
                ours,
                other,
                first_thread,
                ratios.quotient,
            )
        for ours, other in DIFFERENCES[load.receivers]:
            line(
                f"{load.name:8} {ours} less {other}, in µs",
                of_load,
                ours,
                other,
                cpu,
                ratios.difference,
            )
        generators_line(load, of_load)


def line(text, of_load, ours, other, value, combine):
    if ours not in of_load or other not in of_load:
        return
    middle = ratios.compare(of_load[ours], of_load[other], value, combine)
    if middle:
        of_each = [
            statistics.median(value(run) for run in of_load[name] if not run.failure)
            for name in (ours, other)
        ]
        print(f"{text}: {middle} ({of_each[0]:.2f} and {of_each[1]:.2f} µs)")


def generators_line(load, of_load):
    """What listeners cost the program that makes the events.

    Rivals with losses are left out, because they receive less.
    """
    ours = {CONNTRACK: "nlring conntrack --json", ROUTE: "nlring route --json"}[load.receivers]
    costs = {
        name: statistics.median(generator(run) for run in runs)
        for name, runs in of_load.items()
        if not name.startswith("nlring") and not any(run.failure or run.lost for run in runs)
    }
    if costs:
        other = min(costs, key=costs.get)
        line(
            f"{load.name:8} generator's: with {ours} over with {other}, "
            "its cheapest rival without loss",
            of_load,
            ours,
            other,
            generator,
            ratios.quotient,
        )

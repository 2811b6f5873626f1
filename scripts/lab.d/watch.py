"""Lists the flows of this network namespace again and again, and writes which have begun and which have ended.

  watch.py FILE

A line of JSON for each list: it was made from since_ns to until_ns; `begun` has the flows that the list before had not,
`gone` those that this one has not. It does not listen to events, which would change which events the kernel makes.
"""

import json
import os
import re
import subprocess
import sys
import time

PAUSE_SECONDS = 0.2


def main():
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    known = set()
    is_first = True
    while True:
        since = time.time_ns()
        flows = listed()
        line = {
            "is_first": is_first,
            "since_ns": since,
            "until_ns": time.time_ns(),
            "begun": sorted(flows - known),
            "gone": sorted(known - flows),
        }
        os.write(file, (json.dumps(line) + "\n").encode())
        known, is_first = flows, False
        time.sleep(PAUSE_SECONDS)


def listed():
    """Protocol, source and its port of each flow, and its id."""
    command = ["conntrack", "-L", "-o", "id"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    flows = set()
    for line in done.stdout.splitlines():
        fields = dict(reversed(re.findall(r"(\w+)=(\S+)", line)))  # of two tuples the first stays
        if "sport" in fields:
            flows.add((line.split()[0], fields["src"], int(fields["sport"]), fields["id"]))
    return flows


if __name__ == "__main__":
    main()

"""Counts the flows and events in Parquet files of nlringd, and the events that they record as lost."""

import json
import sys

import pyarrow.parquet

COLUMNS = ["record", "count"]

records = lost = 0
for path in sys.argv[1:]:
    table = pyarrow.parquet.read_table(path, columns=COLUMNS)
    for kind, count in zip(*(table[name].to_pylist() for name in COLUMNS)):
        if kind == "loss":
            lost += count or 0
        else:
            records += 1
json.dump({"records": records, "lost": lost}, sys.stdout)

"""The ledger at many entries: how long it takes to open, how long a lookup takes, how much a process holds.

    python -m benchmarks.ledger --entries 1000000 10000000

Beside it, in the same run, the first thing one would write: a dictionary of all keys in memory, filled from
the same files. Entries are made up; their replies are as long as a judge's (400 characters).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger

TEXT = "4.5\n" + "The response follows the instruction. " * 10
BLOCK = 256
"""Keys that a grading actor looks up at once."""
READER = """
import json, random, resource, sys, time
from pathlib import Path
folder, entries, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
from alpagasus_ray.llm.ledger import Ledger
def resident_mib():
    # Without the pages of files: those of a memory map are shared, and given back when they are wanted.
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * resource.getpagesize() / 2**20
before = resident_mib()
started = time.perf_counter()
if way == "ledger":
    ledger = Ledger(folder)
    find = ledger.lookup_many
else:
    places = {}
    for path in Path(folder).glob("*.jsonl"):
        with path.open("rb") as file:
            offset = 0
            for line in file:
                if line.strip():
                    places[json.loads(line)["key"]] = (path, offset, len(line))
                offset += len(line)
    def find(keys):
        found = {}
        for key in keys:
            if key in places:
                path, offset, length = places[key]
                with path.open("rb") as file:
                    file.seek(offset)
                    found[key] = json.loads(file.read(length))["reply"]
        return found
opened = time.perf_counter() - started
draw = random.Random(1)
there = [random.Random(one).randbytes(32).hex() for one in draw.sample(range(entries), min(2560, entries))]
others = [draw.randbytes(32).hex() for _ in range(2560)]
def per_key_us(keys):
    started = time.perf_counter()
    found = sum(len(find(keys[place:place + 256])) for place in range(0, len(keys), 256))
    return found, 1e6 * (time.perf_counter() - started) / len(keys)
known, unknown = per_key_us(there), per_key_us(others)
assert (known[0], unknown[0]) == (len(there), 0), (known, unknown)
print(json.dumps({"open_s": opened, "found_us": known[1], "not_found_us": unknown[1],
                  "held_mib": resident_mib() - before}))
"""


def fill(folder: str, first: int, end: int) -> float:
    """Record entries; return how many a second."""
    started_s = time.perf_counter()
    ledger = Ledger(folder)
    for number in range(first, end):
        ledger.record(random.Random(number).randbytes(32).hex(), Reply(TEXT, "stop", 200, 90), "judge")
    ledger.close()
    return (end - first) / (time.perf_counter() - started_s)


def main() -> None:
    """Fill a ledger step by step, measure both ways at each, print a table."""
    parser = argparse.ArgumentParser(description="The ledger at many entries, beside a dictionary in memory.")
    parser.add_argument("--entries", type=int, nargs="+", default=[100_000, 1_000_000])
    args = parser.parse_args()
    print(f"{'entries':>10}{'way':>12}{'open':>10}{'found':>12}{'not found':>12}{'held':>11}{'recorded':>12}")
    with tempfile.TemporaryDirectory() as folder:
        before = 0
        for entries in sorted(args.entries):
            rate_per_s = fill(folder, before, entries)
            before = entries
            for way in ("ledger", "dictionary"):
                command = [sys.executable, "-c", READER, folder, str(entries), way]
                environment = {**os.environ, "PYTHONPATH": "."}
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                seen = json.loads(done.stdout)
                print(
                    f"{entries:>10,}{way:>12}{seen['open_s']:>8.2f} s{seen['found_us']:>9.0f} us"
                    f"{seen['not_found_us']:>9.1f} us{seen['held_mib']:>7.0f} MiB"
                    + (f"{rate_per_s:>10,.0f}/s" if way == "ledger" else ""),
                    flush=True,
                )


if __name__ == "__main__":
    main()

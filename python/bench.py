"""Measures the runner: conversions and the overhead of a call, over a socket pair as in a worker.

    python python/bench.py                  a table
    python python/bench.py --json FILE      the figures

Owns: the rows, the functions, the clock. Does not own: a limit; `make bench` compares.
Rule: time is that of a whole call as the worker sees it: rows sent, function, result received.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))

from streamctl import _runner

ROWS = 200_000
ROWS_PER_MESSAGE = 8_192
ROUNDS = 15
SMALL_ROWS = 1_000
SMALL_CALLS = 1_000

#: Each touches two of the nine columns, and returns all.
FUNCTIONS = {
    "pandas": """
def process_batch(frame, batch_id):
    frame["region"] = frame["region"].str.upper()
    frame["units"] = frame["units"] * 2
    return frame
""",
    "polars": """
import polars as pl
def process_batch(frame, batch_id):
    return frame.with_columns(pl.col("region").str.to_uppercase(), pl.col("units") * 2)
""",
    "pyarrow": """
import pyarrow.compute as pc
def process_batch(frame, batch_id):
    frame = frame.set_column(4, "region", pc.utf8_upper(frame["region"]))
    return frame.set_column(5, "units", pc.multiply(frame["units"], 2))
""",
    "pyspark": """
from pyspark.sql import functions as F
def process_batch(frame, batch_id):
    return (frame.withColumn("region", F.upper(F.col("region")))
        .withColumn("units", F.col("units") * 2))
""",
}


def rows(count: int) -> tuple[pa.Table, int]:
    """Sales records, and their size as lines of JSON."""
    random.seed(1)
    regions = ["Sub-Saharan Africa", "Europe", "Asia", "Australia and Oceania"]
    records = [
        {
            "uuid": str(random.randrange(10**9)),
            "country": random.choice(["Germany", "Namibia", "Viet Nam", "Sao Tome and Principe"]),
            "itemtype": random.choice(["Clothes", "Baby Food", "Cereal", "Office Supplies"]),
            "channel": random.choice(["Online", "Offline"]),
            "region": random.choice(regions),
            "units": random.randrange(10_000),
            "price": round(random.random() * 700, 2),
            "ordered": "2026-11-24T01:02:03Z",
            "priority": random.choice("HMLC"),
        }
        for _ in range(min(count, 20_000))
    ]
    size = sum(len(json.dumps(record, separators=(",", ":"))) + 1 for record in records)
    part = pa.Table.from_pylist(records)
    repeats = -(-count // part.num_rows)
    table = pa.concat_tables([part] * repeats).slice(0, count).combine_chunks()
    return table, size * count // len(records)


class Child:
    """A runner, spoken to by the worker's side of the protocol."""

    def __init__(self, folder: str, kind: str) -> None:
        Path(folder, "transform.py").write_text(FUNCTIONS[kind])
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-B", _runner.__file__], stdin=theirs.fileno(), env=environment
        )
        theirs.close()
        self.channel = _runner.Channel(ours)
        opening = {"type": "open", "protocol": 1, "folder": folder, "file": "transform.py"}
        self.channel.send({**opening, "name": "process_batch", "frame": kind, "job": "bench"})
        ready = self.channel.receive()
        assert ready is not None and ready[0]["type"] == "ready", ready

    def cpu_s(self) -> float:
        """CPU seconds so far, of the runner and of this side of the connection."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")

    def call(self, bodies: list[pa.Buffer]) -> float:
        """Seconds of one call."""
        begun = time.perf_counter()
        self.channel.send({"type": "call", "batch_id": 1})
        for body in bodies:
            self.channel.send({"type": "rows"}, body)
        self.channel.send({"type": "end"})
        while True:
            message = self.channel.receive()
            assert message is not None
            head, _ = message
            assert head["type"] in ("rows", "done"), head
            if head["type"] == "done":
                return time.perf_counter() - begun


def bodies(table: pa.Table) -> list[pa.Buffer]:
    """The table as a worker sends it."""
    starts = range(0, table.num_rows, ROWS_PER_MESSAGE)
    return [_runner.encode(table.slice(start, ROWS_PER_MESSAGE)) for start in starts]


def measure(kind: str, count: int) -> dict[str, Any]:
    """Throughput of large calls, overhead of small ones."""
    table, size = rows(count)
    small = bodies(rows(SMALL_ROWS)[0])
    with tempfile.TemporaryDirectory() as folder:
        child = Child(folder, kind)
        try:
            large = bodies(table)
            child.call(large)
            cpu = child.cpu_s()
            best = min(child.call(large) for _ in range(ROUNDS))
            cpu = (child.cpu_s() - cpu) / ROUNDS
            calls = SMALL_CALLS if kind != "pyspark" else SMALL_CALLS // 10
            child.call(small)
            times = sorted(child.call(small) for _ in range(calls))
        finally:
            child.process.kill()
            child.process.wait()
    return {
        "frame": kind,
        "json_mb_per_s": round(size / best / 1e6),
        "json_mb_per_cpu_s": round(size / cpu / 1e6),
        "bytes_per_row": round(size / count),
        "p50_ms": round(statistics.median(times) * 1e3, 2),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1e3, 2),
    }


def main() -> None:
    """Prints a table; writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--frames", default="pyarrow,polars,pandas,pyspark", metavar="LIST")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a large call (%(default)s)")
    arguments = parser.parse_args()
    found = [measure(kind, arguments.rows) for kind in arguments.frames.split(",")]
    print(f"two columns touched, calls of {arguments.rows} rows; calls of {SMALL_ROWS} rows")
    print(f"{'frame':<10}{'MB/s of JSON':>14}{'MB/CPU s':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for one in found:
        speed, per_cpu = one["json_mb_per_s"], one["json_mb_per_cpu_s"]
        p50, p99 = one["p50_ms"], one["p99_ms"]
        print(f"{one['frame']:<10}{speed:>14}{per_cpu:>10}{p50:>10}{p99:>10}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Compares what a reader sees with what the generator made: record n of shard 0 has uuid "1" and n in 12 digits.

    check_made.py --sink FOLDER --dead FOLDER --records N --bad-every N --unmatched-every N

A folder is s3://bucket/prefix/ or a local one. DuckDB counts, so that millions of records are no matter. Prints {"ok",
"expected", "rows", "lost", "twice", "dead_letters", ...}.
"""
import argparse, json

import duckdb

import aws

BASE = 1_000_000_000_000  # "1" and twelve digits


def dead_numbers(location):
    """The number of every dead letter's record."""
    files = aws.fetch(location)
    letters = [letter for path in files.values() for letter in aws.json_lines(path)]
    return [int(json.loads(letter["raw"].split(",")[0].split(" ")[0] + "}")["uuid"]) - BASE for letter in letters]


def main():
    parser = argparse.ArgumentParser()
    for name in ("sink", "dead"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("records", "bad-every", "unmatched-every"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    n, bad, unmatched = options.records, options.bad_every, options.unmatched_every
    # The seed's records: every bad_every-th is broken, of the others every unmatched_every-th has no partner.
    is_bad, has_partner = f"(i + 1) % {bad} = 0", f"(i + 1) % {bad} <> 0 AND (i + 1) % {unmatched} <> 0"
    files = [path for name, path in aws.fetch(options.sink).items() if name.endswith(".parquet")]
    duckdb.execute(f"CREATE TABLE seen AS SELECT CAST(uuid AS BIGINT) - {BASE} AS i FROM read_parquet(?, hive_partitioning = false)", [files])
    one = lambda query: duckdb.execute(query).fetchone()[0]
    expected = one(f"SELECT count(*) FROM range({n}) t(i) WHERE {has_partner}")
    rows, distinct = one("SELECT count(*) FROM seen"), one("SELECT count(DISTINCT i) FROM seen")
    foreign = one(f"SELECT count(*) FROM seen WHERE i < 0 OR i >= {n} OR NOT ({has_partner})")
    good = one(f"SELECT count(DISTINCT i) FROM seen WHERE i >= 0 AND i < {n} AND {has_partner}")
    dead = dead_numbers(options.dead)
    dead_expected = one(f"SELECT count(*) FROM range({n}) t(i) WHERE {is_bad}")
    dead_good = len({i for i in dead if 0 <= i < n and (i + 1) % bad == 0})
    lost, twice = expected - good + dead_expected - dead_good, rows - distinct + len(dead) - len(set(dead))
    aws.answer({"ok": lost == twice == foreign == 0 and len(set(dead)) == dead_good, "expected": expected, "rows": rows,
                "lost": lost, "twice": twice, "foreign": foreign, "dead_letters": len(dead), "dead_expected": dead_expected,
                "files": len(files)})


main()

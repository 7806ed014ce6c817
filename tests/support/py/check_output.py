"""Compares what a reader sees with what was written to the stream.

    check_output.py --sink FOLDER [--sink FOLDER...] --dead FOLDER --oracle FILE [--oracle FILE...] [--code-column country_code]

A folder is s3://bucket/prefix/ or a local one. The sink is read with DuckDB, which lists the prefix as any user's reader
does. Prints {"ok": bool, ...}: every record with a match exactly once and with its code, every bad record in the dead
letters exactly once, nothing else in either prefix.
"""
import argparse, base64, collections, os, pathlib

import duckdb

import aws

SHOWN = 10  # of each kind of difference
PLACE = {"shard", "sequence_number", "sub_sequence", "arrival_ms", "reason", "raw_base64"}  # what a dead letter must say


def read_sink(files, code_column):
    """[(uuid, code)] of every row, and names that are neither a Parquet file nor one of JSON lines."""
    readers = {".parquet": "read_parquet(?, hive_partitioning = false)", ".json": "read_json(?, format = 'newline_delimited')"}
    hidden = lambda name: pathlib.PurePath(name).name.startswith((".", "_"))
    foreign = [name for name in files if not name.endswith(tuple(readers)) or hidden(name)]
    rows = []
    for ending, reader in readers.items():
        paths = [path for name, path in files.items() if name.endswith(ending)]
        if paths:
            rows += duckdb.execute(f'SELECT CAST(uuid AS VARCHAR), "{code_column}" FROM {reader}', [paths]).fetchall()
    return rows, foreign


def read_dead(files):
    """The records (base64) of every dead letter, names that are no dead-letter object, letters that lack a key."""
    foreign = [name for name in files if not name.endswith(".json.gz")]
    letters = [letter for name, path in files.items() if name.endswith(".json.gz") for letter in aws.json_lines(path)]
    incomplete = [letter for letter in letters if not PLACE <= letter.keys() or not letter["reason"]]
    return [letter["raw_base64"] for letter in letters], foreign, incomplete


def raw(line):
    """The bytes of a record of the oracle in base64: written so, or as text."""
    return line["data"] if "data" in line else base64.b64encode(line["text"].encode()).decode()


def differences(expected, found):
    """Multisets of keys: what lacks, and what is there more often than it should be."""
    missing, extra = expected - found, found - expected
    return {"missing": len(list(missing.elements())), "extra": len(list(extra.elements())),
            "missing_first": sorted(map(str, missing))[:SHOWN], "extra_first": sorted(map(str, extra))[:SHOWN]}


def shorten(data):
    return str(base64.b64decode(data)[:60]) if data else str(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sink", action="append", required=True)
    parser.add_argument("--dead")
    parser.add_argument("--oracle", action="append", required=True)
    parser.add_argument("--code-column", default="country_code")
    options = parser.parse_args()

    oracle = [line for path in options.oracle if os.path.exists(path) for line in aws.json_lines(path)]
    kinds = collections.Counter(line["kind"] for line in oracle)
    rows, foreign = [], []
    for folder in options.sink:
        more, strange = read_sink(aws.fetch(folder), options.code_column)
        rows, foreign = rows + more, foreign + strange
    expected = collections.Counter((line["uuid"], line["code"]) for line in oracle if line["kind"] == "match")
    verdict = {"sent": dict(kinds), "rows": len(rows), "sink": differences(expected, collections.Counter(rows)), "foreign": foreign}
    if options.dead:
        letters, foreign_dead, incomplete = read_dead(aws.fetch(options.dead))
        expected_dead = collections.Counter(raw(line) for line in oracle if line["kind"] == "bad")
        verdict["dead_letters"] = len(letters)
        verdict["dead"] = differences(expected_dead, collections.Counter(letters))
        for first in ("missing_first", "extra_first"):
            verdict["dead"][first] = [shorten(data) for data in verdict["dead"][first]]
        verdict["foreign"] += foreign_dead
        verdict["incomplete_dead_letters"] = incomplete[:SHOWN]
    parts = [verdict["sink"], verdict.get("dead", {})]
    verdict["ok"] = not verdict["foreign"] and not verdict.get("incomplete_dead_letters") and not any(
        part.get("missing") or part.get("extra") for part in parts)
    aws.answer(verdict)


main()

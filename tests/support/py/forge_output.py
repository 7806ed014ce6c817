"""Writes output that a perfect job would have written for an oracle, or one with a fault: for the test of check_output.py.

    forge_output.py SINK DEAD ORACLE none|double|lose|wrong_code|foreign|lose_dead
"""
import gzip, json, pathlib, sys, tempfile

import duckdb

import aws


def main(sink, dead, oracle, fault):
    lines = aws.json_lines(oracle)
    rows = [(line["uuid"], line["code"]) for line in lines if line["kind"] == "match"]
    letters = [line["data"] for line in lines if line["kind"] == "bad"]
    if fault == "double":
        rows.append(rows[0])
    if fault == "lose":
        rows.pop()
    if fault == "wrong_code":
        rows[0] = (rows[0][0], "XX")
    if fault == "lose_dead":
        letters.pop()
    if fault == "foreign":
        aws.put(sink, "ingest_year=2026/notes.txt", b"not a result")
    duckdb.execute("CREATE TABLE result (uuid VARCHAR, country_code VARCHAR)")
    duckdb.executemany("INSERT INTO result VALUES (?, ?)", rows)
    local = pathlib.Path(tempfile.mkdtemp(prefix="streamctl-forge-")) / "result.parquet"
    duckdb.execute(f"COPY result TO '{local}' (FORMAT parquet)")
    aws.put(sink, "ingest_year=2026/part-0.parquet", local.read_bytes())
    place = {"shard": "shardId-000000000000", "sequence_number": "1", "sub_sequence": 0, "arrival_ms": 1, "reason": "not JSON"}
    dead_lines = "".join(json.dumps({**place, "raw_base64": data}) + "\n" for data in letters)
    aws.put(dead, "part-0.json.gz", gzip.compress(dead_lines.encode()))
    aws.answer({"rows": len(rows)})


main(*sys.argv[1:])

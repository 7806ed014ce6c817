"""Whether two runs of the same records gave the same.   same_output.py SINK_A DEAD_A SINK_B DEAD_B

Rows as a multiset, all columns of the files (folders named after the time of a run are no columns); dead letters by their
raw bytes. Prints {"ok": bool, "rows": [a, b], "dead_letters": [a, b], ...}.
"""
import collections, pathlib, sys

import duckdb

import aws


def rows(folder):
    files = aws.fetch(folder)
    hidden = lambda name: any(part.startswith((".", "_")) for part in pathlib.PurePath(name).parts)
    foreign = [name for name in files if not name.endswith(".parquet") or hidden(name)]
    paths = [path for name, path in files.items() if name not in foreign]
    found = duckdb.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [paths]).fetchall() if paths else []
    return collections.Counter(found), foreign


def letters(folder):
    found = [letter for name, path in aws.fetch(folder).items() if name.endswith(".json.gz") for letter in aws.json_lines(path)]
    return collections.Counter(letter["raw_base64"] for letter in found)


(rows_a, foreign_a), (rows_b, foreign_b) = rows(sys.argv[1]), rows(sys.argv[3])
dead_a, dead_b = letters(sys.argv[2]), letters(sys.argv[4])
aws.answer({
    "ok": rows_a == rows_b and dead_a == dead_b and not foreign_a and not foreign_b,
    "rows": [rows_a.total(), rows_b.total()],
    "dead_letters": [dead_a.total(), dead_b.total()],
    "foreign": foreign_a + foreign_b,
    "only_first": [str(row) for row in list((rows_a - rows_b).elements())[:10]],
    "only_second": [str(row) for row in list((rows_b - rows_a).elements())[:10]],
})

"""What Hive's readers see of a Parquet sink, and what DuckDB and pyarrow read from each format.

    written_types.py PARQUET JSON CSV

The rules are those of Spark 3 and Trino: no TIME, no unsigned or half numbers, no nanoseconds, no INT96, no bytes of a fixed
length without a meaning, names without the characters that Spark refuses. Prints {"illegal": [...], "columns": {...},
"duckdb": {format: rows}, "pyarrow": rows}.
"""
import glob, json, re, sys

import duckdb
import pyarrow.parquet

import aws

ILLEGAL = [
    (r"\(Time\(", "a time of the day"),
    (r"isSigned=false", "unsigned"),
    (r"timeUnit=nanoseconds", "nanoseconds"),
    (r"Float16", "a half"),
    (r"^\w+ int96 ", "INT96"),
    (r"fixed_len_byte_array\(\d+\) [^(]*;$", "bytes of a fixed length"),
]
NAMES = re.compile(r"[ ,;{}()\n\t=]|^$")


def illegal(path):
    footer = str(pyarrow.parquet.ParquetFile(path).schema)
    found = []
    for line in map(str.strip, footer.splitlines()):
        found += [f"{reason}: {line}" for pattern, reason in ILLEGAL if re.search(pattern, line)]
    columns = pyarrow.parquet.read_schema(path).names
    return found + [f"a name: {name!r}" for name in columns if NAMES.search(name)]


def duck(table, folder):
    """Every value as DuckDB's text, so that no type of Python's comes in between."""
    answer = duckdb.execute(f"SELECT COLUMNS(*)::VARCHAR FROM {table} ORDER BY id", [folder])
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row)) for row in answer.fetchall()]


parquet, json_lines, csv = sys.argv[1:4]
files = sorted(glob.glob(parquet + "/*.parquet"))
table = pyarrow.parquet.read_table(files[0])
aws.answer({
    "illegal": [reason for file in files for reason in illegal(file)],
    "columns": {field.name: str(field.type) for field in table.schema},
    "pyarrow": [{name: None if value is None else str(value) for name, value in row.items()} for row in table.to_pylist()],
    "duckdb": {
        "parquet": duck("read_parquet(? || '/*.parquet')", parquet),
        "json": duck("read_json(? || '/*.json')", json_lines),
        "csv": duck("read_csv(? || '/*.csv', all_varchar = true, nullstr = '', allow_quoted_nulls = false)", csv),
    },
})

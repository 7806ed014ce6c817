"""The rows that a job's SQL makes of records, for a test of its function.

Owns: a copy of the job that reads a file and writes Parquet, and its run by the program. Does not
own: decoding and the query (the program).
Rule: the job's places are not touched: source, sink, dead letters and checkpoint of the copy lie
in a folder that is removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa

from . import program
from .errors import StreamctlError

#: Keys of `[source]` that say what a record is, and not where it comes from.
RECORD_KEYS = (
    "catalog",
    "schema",
    "schema_file",
    "timestamp_numbers",
    "timestamp_formats",
    "decimals",
    "on_bad_value",
)
#: Seconds for a job of test records.
PATIENCE_S = 120


def rows(job: Path, lines: Sequence[str]) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of the query, and the job file as a document.

    Raises:
        StreamctlError: If the job refuses the records, or the query gives no rows.
    """
    document = load(read(job), str(job))
    with tempfile.TemporaryDirectory(prefix="streamctl-test-") as name:
        folder = Path(name)
        records = folder / "records"
        records.mkdir()
        (records / "records.json").write_text("".join(f"{line}\n" for line in lines))
        copy = folder / "job.toml"
        copy.write_text(to_toml(_copy_of(document, job.resolve().parent, folder)))
        counts = _run(copy, folder, job)
        from pyarrow import parquet

        files = sorted((folder / "out").rglob("*.parquet"))
        if not files:
            dead = counts.get("rows_dead", 0)
            raise StreamctlError(
                "no_rows",
                f"the query of {job} makes no rows of {len(lines)} records"
                + (f"; {dead} of them cannot be decoded" if dead else ""),
                "`streamctl explain` shows columns and query",
            )
        return pa.concat_tables([parquet.ParquetFile(file).read() for file in files]), document


def load(text: str, name: str) -> dict[str, Any]:
    """A job file as a document.

    Raises:
        StreamctlError: If it is not TOML, or this Python has no parser for it.
    """
    try:
        import tomllib
    except ImportError:
        try:
            import tomli as tomllib
        except ImportError:
            raise StreamctlError(
                "import_error",
                "reading a job file needs Python 3.11, or the package tomli",
                "pip install tomli",
            ) from None
    try:
        return dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise StreamctlError("invalid_argument", f"{name}: {error}") from None


def read(job: str | os.PathLike[str]) -> str:
    """The text of a job file."""
    try:
        return Path(job).read_text()
    except OSError as error:
        raise StreamctlError("not_found", f"{os.fspath(job)}: {error.strerror}") from None


def _copy_of(document: dict[str, Any], beside: Path, folder: Path) -> dict[str, Any]:
    copy = {key: value for key, value in document.items() if key != "function"}
    source = document.get("source") or {}
    copy["source"] = {
        "type": "files",
        "path": f"{folder / 'records'}/",
        "format": "json",
        **{key: source[key] for key in RECORD_KEYS if key in source},
    }
    if "schema_file" in source:
        copy["source"]["schema_file"] = _absolute(source["schema_file"], beside)
    copy.setdefault("transform", {"sql": "SELECT * FROM source"})
    copy["lookup"] = [
        {**lookup, "path": _absolute(lookup["path"], beside)}
        for lookup in document.get("lookup", [])
        if "path" in lookup
    ]
    # The types of the query, whatever the job's sink makes of them.
    copy["sink"] = {"path": f"{folder / 'out'}/", "format": "parquet", "types": "arrow"}
    copy["dead_letter"] = {"path": f"{folder / 'dead'}/"}
    copy["checkpoint"] = {"location": f"{folder / 'checkpoint'}/"}
    return copy


def _absolute(path: str, beside: Path) -> str:
    if "://" in path or path.startswith("/"):
        return path
    return str(beside / path) + ("/" if path.endswith("/") else "")


def _run(copy: Path, folder: Path, job: Path) -> dict[str, int]:
    words = [
        program.find(),
        *("--quiet", "-o", "json", "run", str(copy), "--state", str(folder / "state")),
    ]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StreamctlError("program_failed", f"streamctl run: {error}") from None
    if done.returncode:
        text = done.stderr.replace(str(copy), str(job)).strip()
        raise StreamctlError("invalid_job", f"the job {job} does not run:\n{text}")
    last = done.stdout.strip().splitlines()[-1:]
    return dict(json.loads(last[0])["totals"]) if last else {}


def to_toml(document: dict[str, Any]) -> str:
    """A document as TOML: tables of the first level by name, all below inline."""
    text = [f"{_key(key)} = {_value(value)}" for key, value in document.items() if _is_value(value)]
    for key, value in document.items():
        for table in value if isinstance(value, list) else [value]:
            if not isinstance(table, dict):
                continue
            text.append(f"[[{_key(key)}]]" if isinstance(value, list) else f"[{_key(key)}]")
            text.extend(f"{_key(name)} = {_value(item)}" for name, item in table.items())
    return "\n".join(text) + "\n"


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return not all(isinstance(item, dict) for item in value)
    return not isinstance(value, dict)


def _key(key: str) -> str:
    return json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())} }}"
    return repr(value)

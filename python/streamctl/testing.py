"""Runs a batch function in a test, as a worker runs it.

Owns: records of tests as rows, the collected answer. Does not own: conversions and checks, which
are those of the runner (`_runner`), byte for byte.
Rule: what passes here passes in a job: the call without rows comes first, as at submit.
"""

from __future__ import annotations

import gzip
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from . import _runner
from .errors import FunctionError, StreamctlError

__all__ = ["DeadLetter", "LogLine", "Result", "run"]

FrameKind = Literal["pandas", "polars", "pyarrow", "pyspark"]
#: A file of records, a list of them, or a frame.
Records = str | os.PathLike[str] | Sequence[Mapping[str, Any]] | Any

_WINDOW = timedelta(seconds=60)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: The window of tests that name none.
_START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class DeadLetter:
    """A row that the function gave to `context.dead_letter`."""

    row: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class LogLine:
    """A line that the function gave to `context.log`."""

    level: str
    text: str


@dataclass(frozen=True)
class Result:
    """What a call of a batch function gave.

    Attributes:
        frame: The returned rows as they would reach the sink, in a frame of the input's kind
            (pandas for a function in PySpark); `None` if the function returned `None`.
        table: The same rows as a `pyarrow.Table`.
        dead_letters: Rows that the function refused.
        log: Lines that it logged.
    """

    frame: Any
    table: pa.Table | None
    dead_letters: list[DeadLetter] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)


def run(
    process_batch: Callable[..., Any] | str | os.PathLike[str],
    records: Records,
    *,
    job: str | os.PathLike[str] | None = None,
    batch_id: int | None = None,
    window: tuple[datetime, datetime] | None = None,
    attempt: int = 1,
    name: str | None = None,
    lookups: Mapping[str, Records] | None = None,
    frame: FrameKind | None = None,
    by: Sequence[str] | None = None,
    empty_call: bool | None = None,
) -> Result:
    """Calls a batch function with records, through the conversions of the worker's runner.

    Args:
        process_batch: The function, or the file that has it, which is imported as a worker does
            it: with its folder as the working folder, and with `pyspark` if that is the frame.
        records: The rows of the window: a file (JSON, one object per line or a list; CSV;
            Parquet), a list of dicts, or a frame.
        job: A job file. Its columns and its SQL are applied to the records, which are JSON then,
            by the program `streamctl`; the function gets the rows of the result.
        batch_id: The number of the window; by default that of `window`.
        window: Its start and end, with a time zone; by default the minute of `batch_id`.
        attempt: Which try at the window it is.
        name: The function's name in a file; by default that of the job file, else `process_batch`.
        lookups: Rows for `context.lookups`, by name, in any form that `records` has.
        frame: The kind of frame; by default that of the annotation, else pandas.
        by: Columns of a key: one call for the rows of each, as with `per = "key"`; by default those
            of the job file.
        empty_call: Whether to call the function without rows first, as `submit` does to learn the
            columns of the result. By default yes, unless the job file has `[function.schema]`.

    Raises:
        FunctionError: If the function fails, or returns what no sink can take.
        StreamctlError: If the records cannot be read, or the job refuses them.
    """
    rows, settings = _input(records, job)
    head = _call_head(batch_id, window, attempt, settings.job)
    keys = list(by if by is not None else settings.by)
    if keys:
        head["by"] = keys
    tables = {lookup: _read(content) for lookup, content in (lookups or {}).items()}
    if callable(process_batch):
        function = _of_object(process_batch, frame or settings.frame, settings.job)
        folder = None
    else:
        path = Path(process_batch).resolve()
        folder = path.parent
        function = _of_file(path, name or settings.name, frame or settings.frame, settings.job)
    for lookup, table in tables.items():
        function.lookups.put(lookup, "test", table)
        head["lookups"][lookup] = "test"
    learned = None
    with _working_in(folder):
        if empty_call if empty_call is not None else not settings.has_schema:
            learned = _call(function, head | {"empty": True}, rows.slice(0, 0), first=True)
        answer = _call(function, head, rows, first=False)
    if learned is not None:
        _compare(learned.table, answer.table, function.name)
    return answer


# -- The function ---------------------------------------------------------------------------------


def _of_object(function: Callable[..., Any], frame: str | None, job: str) -> _runner.Function:
    folder = os.path.dirname(inspect.getsourcefile(inspect.unwrap(function)) or __file__)
    name = getattr(function, "__name__", "process_batch")
    try:
        return _runner.Function(function, frame, folder, name, job)
    except _runner.Refusal as error:
        raise _failed(_runner.error_head(error, folder, function)) from None


def _of_file(path: Path, name: str, frame: str | None, job: str) -> _runner.Function:
    if not path.is_file():
        raise StreamctlError("not_found", f"{path} is not a file")
    folder = str(path.parent)
    opening = {"folder": folder, "file": path.name, "name": name, "frame": frame, "job": job}
    try:
        with _working_in(path.parent):
            return _runner.Function.load(opening)
    except Exception as error:
        raise _failed(_runner.error_head(error, folder)) from error


@contextmanager
def _working_in(folder: Path | None) -> Iterator[None]:
    """Changes the working folder for a while."""
    before = os.getcwd()
    if folder is not None:
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# -- Calls ----------------------------------------------------------------------------------------


def _call(
    function: _runner.Function, head: dict[str, Any], rows: pa.Table, *, first: bool
) -> Result:
    parts: list[pa.Table] = []
    dead: list[DeadLetter] = []
    log: list[LogLine] = []

    def take(message: dict[str, Any], body: pa.Buffer | None) -> None:
        if message["type"] == "rows":
            parts.append(_runner.read_table(body))
        elif message["type"] == "dead":
            letters = zip(_runner.read_table(body).to_pylist(), message["reasons"], strict=True)
            dead.extend(DeadLetter(row, reason) for row, reason in letters)
        elif message["type"] == "log":
            log.append(LogLine(message["level"], message["text"]))

    try:
        function.call(head, _runner.read_table(_runner.encode(rows)), take)
    except Exception as error:
        hint = ""
        if first:
            hint = "this was the call without rows, which `submit` makes to learn the columns"
        raise _failed(function.error(error), hint) from error
    if not parts:
        return Result(None, None, dead, log)
    # Results of keys may differ in their types, as far as a worker makes them one.
    options = "permissive" if head.get("by") else "none"
    table = pa.concat_tables(parts, promote_options=options)
    kind = function.frames.kind
    frames = _runner.frames_of("pandas") if kind == "pyspark" else function.frames
    return Result(frames.make(table), table, dead, log)


def _failed(head: Mapping[str, Any], hint: str = "") -> FunctionError:
    return FunctionError(
        head["kind"],
        head["message"],
        hint,
        file=head["file"],
        line=head["line"],
        traceback=head["traceback"],
    )


def _call_head(
    batch_id: int | None, window: tuple[datetime, datetime] | None, attempt: int, job: str
) -> dict[str, Any]:
    if window is None:
        start = _START if batch_id is None else _EPOCH + batch_id * _WINDOW
        window = (start, start + _WINDOW)
    if any(time.tzinfo is None for time in window) or window[1] <= window[0]:
        raise StreamctlError(
            "invalid_argument",
            "window is a start and a later end, both with a time zone",
            "for example datetime(2026, 1, 1, tzinfo=timezone.utc)",
        )
    start_ms, end_ms = ((time - _EPOCH) // timedelta(milliseconds=1) for time in window)
    return {
        "batch_id": start_ms // (end_ms - start_ms) if batch_id is None else batch_id,
        "window_start_ms": start_ms,
        "window_end_ms": end_ms,
        "attempt": attempt,
        "job": job,
        "lookups": {},
        "empty": False,
    }


def _compare(learned: pa.Table | None, result: pa.Table | None, name: str) -> None:
    """Compares the columns of a result with those of the call without rows."""
    if result is None:
        return
    if learned is None:
        raise FunctionError(
            "SchemaError",
            f"{name} returned a frame, and None for no rows: submit would learn no columns",
            "return a frame without rows then",
        )
    for column in learned.schema:
        at = result.schema.get_field_index(column.name)
        if at < 0:
            raise FunctionError(
                "SchemaError",
                f"{name} returned no column {column.name!r}, which it returned for no rows",
            )
        if not _fits(result.column(at), column.type):
            raise FunctionError(
                "SchemaError",
                f"column {column.name!r} is {result.schema.field(at).type}, and was {column.type} "
                "for no rows",
                f"convert it in {name}, so that it has one type for every window",
            )
    for column in result.schema:
        if learned.schema.get_field_index(column.name) < 0:
            raise FunctionError(
                "SchemaError",
                f"{name} returned the column {column.name!r}, which it did not for no rows",
            )


def _fits(column: pa.ChunkedArray, expected: pa.DataType) -> bool:
    """Whether a worker takes these values for a column of this type: without a loss."""
    found = column.type
    types = pa.types
    if found == expected or types.is_null(found):
        return True
    whole = types.is_integer(found)
    related = (
        (whole and (types.is_integer(expected) or types.is_decimal(expected)))
        or (whole and types.is_float64(expected) and found.bit_width <= 32)
        or (types.is_floating(found) and types.is_floating(expected))
        or (types.is_decimal(found) and types.is_decimal(expected))
    )
    if not related:
        return False
    try:
        return bool(column.cast(expected).cast(found).equals(column))
    except pa.ArrowException:
        return False


# -- Records --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    """What a job file says about its function."""

    job: str = "test"
    name: str = "process_batch"
    frame: str | None = None
    has_schema: bool = False
    by: tuple[str, ...] = ()


def _input(records: Records, job: str | os.PathLike[str] | None) -> tuple[pa.Table, _Settings]:
    if job is None:
        return _read(records), _Settings()
    from . import _job

    rows, document = _job.rows(Path(job), _lines(records))
    function = document.get("function") or {}
    settings = _Settings(
        str(document.get("name") or "test"),
        str(function.get("name") or "process_batch"),
        function.get("frame"),
        bool(function.get("schema")),
        tuple(function.get("by") or ()),
    )
    return rows, settings


def _read(records: Records) -> pa.Table:
    """Records in any form as rows."""
    if isinstance(records, str | os.PathLike):
        path = Path(records)
        if path.suffix == ".parquet":
            from pyarrow import parquet

            return parquet.read_table(path)
        if path.suffix == ".csv":
            from pyarrow import csv

            return csv.read_csv(path)
        return _of_objects(_objects(path))
    try:
        table = _runner.table_of(records)
    except _runner.Refusal as error:
        raise StreamctlError("invalid_argument", f"the records: {error}") from None
    if table is not None:
        return _runner.plain(table)
    return _of_objects(_checked(list(records)))


def _lines(records: Records) -> list[str]:
    """Records as lines of JSON, for a job file. Lines of a file stay as they are."""
    if isinstance(records, str | os.PathLike):
        text = _text(Path(records))
        if not text.lstrip().startswith("["):
            return text.splitlines()
    rows = _read(records).to_pylist()
    return [json.dumps(row, default=str, ensure_ascii=False) for row in rows]


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise StreamctlError("not_found", f"{path}: {error}") from None


def _objects(path: Path) -> list[Mapping[str, Any]]:
    text = _text(path)
    if text.lstrip().startswith("["):
        try:
            return _checked(json.loads(text))
        except ValueError as error:
            raise StreamctlError("invalid_argument", f"{path}: {error}") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise StreamctlError(
                "invalid_argument",
                f"{path}, line {number}: {error}",
                "a record is a JSON object on a line; with job=... lines that are not become dead "
                "letters, as in the job",
            ) from None
    return _checked(found)


def _checked(rows: Any) -> list[Mapping[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise StreamctlError(
            "invalid_argument",
            "records are JSON objects: a file of them, a list of dicts or a frame",
        )
    if not rows:
        raise StreamctlError(
            "invalid_argument",
            "there are no records, so the columns are not known",
            "give one record at least, or a frame without rows",
        )
    return rows


def _of_objects(rows: list[Mapping[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = []
    for name in names:
        try:
            columns.append(pa.array([row.get(name) for row in rows]))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StreamctlError(
                "invalid_argument",
                f"the records have values of different types in {name!r}: {error}",
                "give them one type, or name a job file: its columns have types",
            ) from None
    return pa.Table.from_arrays(columns, names=list(names))

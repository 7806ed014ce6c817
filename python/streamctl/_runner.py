"""Runs a user's batch function in a child process of the worker.

Owns: the protocol on descriptor 0, loading the user's code, the conversions between Arrow and the
frames of pandas, polars, pyarrow and sqlframe, and what an error of the user's code reports.
Does not own: starting, limiting and ending the process (the worker), the job's sink.
Rule: this file stands alone. The worker carries its text and runs it with the interpreter of the
job, so it imports only the standard library and pyarrow until the user's code needs more.
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import inspect
import json
import math
import operator
import os
import platform
import re
import resource
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

PROTOCOL = 1
#: Bytes of a message's head, in both directions.
HEAD_BYTES_MAX = 1 << 20
#: Bytes of a message's body if neither the worker nor the system sets a memory limit.
BODY_BYTES_MAX = 16 << 30
#: Rows and bytes of one message of result rows.
ROWS_PER_MESSAGE = 65_536
BYTES_PER_MESSAGE = 16 << 20
#: Bytes of the reasons in one message of dead letters: JSON may escape each byte sixfold.
REASON_BYTES_PER_MESSAGE = HEAD_BYTES_MAX // 8
#: Single dead letters that are kept before they are joined.
PENDING_PARTS_MAX = 1_024
#: Characters that are kept of a text of the user's code.
REASON_CHARS_MAX = 1_000
LOG_CHARS_MAX = 8_192
MESSAGE_CHARS_MAX = 8_192
TRACEBACK_CHARS_MAX = 65_536
#: Most keys of one call of a function per key.
KEYS_PER_CALL_MAX = 100_000
#: Characters of a key's value that an error shows.
KEY_CHARS_MAX = 100
#: Input of this size is worth giving its memory back to the system after the call.
LARGE_INPUT_BYTES = 64 << 20
#: Descriptors below are left to the user's code.
DESCRIPTOR_MIN = 200

LEVELS = ("info", "warning", "error")
KINDS = ("pandas", "polars", "pyarrow", "pyspark")

_HEADER = struct.Struct(">IQ")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: Names that a file of user code would hide from every package that imports them.
_HIDDEN_BY_A_FILE = frozenset({"numpy", "pandas", "polars", "pyarrow", "pyspark", "streamctl"})

Head = dict[str, Any]
Send = Callable[[Head, "pa.Buffer | None"], None]


class Refusal(Exception):
    """An error that the runner found in what the user's code is or returns."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        #: What was refused, to name its line.
        self.function: Callable[..., Any] | None = None


class ProtocolError(Exception):
    """The other side broke the protocol: the connection cannot be used any more."""


# -- Messages ---------------------------------------------------------------------------------


class Channel:
    """One end of the socket pair."""

    def __init__(self, connection: socket.socket, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self.body_bytes_max = body_bytes_max
        self._connection = connection
        self._sending = threading.Lock()
        self._owner = os.getpid()

    def send(self, head: Head, body: pa.Buffer | None = None) -> None:
        """Sends one message. Safe to call from the threads of the user's code."""
        if os.getpid() != self._owner:
            # A fork of the user's code returned into the runner: two writers would corrupt the
            # stream, so this one ends.
            print("a forked child of the function returned: it ends here", file=sys.stderr)
            os._exit(1)
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))
        data = text.encode("utf-8", "replace")
        if len(data) > HEAD_BYTES_MAX:
            raise ProtocolError(f"a head of {len(data)} bytes; {HEAD_BYTES_MAX} are allowed")
        size = 0 if body is None else body.size
        with self._sending:
            self._connection.sendall(_HEADER.pack(len(data), size) + data)
            if body is not None:
                self._connection.sendall(memoryview(body))

    def receive(self) -> tuple[Head, pa.Buffer | None] | None:
        """Receives one message; `None` if the other side has closed the connection."""
        header = bytearray(_HEADER.size)
        if not self._fill(memoryview(header), at_start=True):
            return None
        head_size, body_size = _HEADER.unpack(header)
        if head_size > HEAD_BYTES_MAX:
            raise ProtocolError(f"a head of {head_size} bytes; {HEAD_BYTES_MAX} are allowed")
        if body_size > self.body_bytes_max:
            raise ProtocolError(f"a body of {body_size} bytes; {self.body_bytes_max} are allowed")
        text = bytearray(head_size)
        self._fill(memoryview(text))
        body = None
        if body_size:
            # The one buffer of this message: Arrow arrays refer to it, nothing copies it.
            body = pa.allocate_buffer(body_size)
            self._fill(memoryview(body))
        try:
            head = json.loads(text)
        except ValueError as error:
            raise ProtocolError(f"a head that is not JSON: {error}") from None
        if not isinstance(head, dict):
            raise ProtocolError("a head that is not a JSON object")
        return head, body

    def _fill(self, into: memoryview, *, at_start: bool = False) -> bool:
        size = len(into)
        filled = 0
        while filled < size:
            received = self._connection.recv_into(into[filled:])
            if not received:
                if at_start and not filled:
                    return False
                raise ProtocolError("the connection ended inside a message")
            filled += received
        return True


def read_table(body: pa.Buffer | None) -> pa.Table:
    """The rows of a body, without a copy."""
    if body is None:
        raise ProtocolError("rows without a body")
    try:
        with pa.ipc.open_stream(body) as reader:
            return reader.read_all()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ProtocolError(f"a body that is not an Arrow stream: {error}") from None


def encode(table: pa.Table) -> pa.Buffer:
    """A complete Arrow stream with the rows of a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def pieces(table: pa.Table) -> Iterator[pa.Table]:
    """Slices that fit into one message each; at least one, so that the schema is always sent."""
    if table.num_rows <= 1 or (
        table.num_rows <= ROWS_PER_MESSAGE and table.nbytes <= BYTES_PER_MESSAGE
    ):
        yield table
        return
    if table.num_rows > ROWS_PER_MESSAGE:
        for start in range(0, table.num_rows, ROWS_PER_MESSAGE):
            yield from pieces(table.slice(start, ROWS_PER_MESSAGE))
        return
    # Rows differ in size: halves until each part is small enough.
    half = table.num_rows // 2
    yield from pieces(table.slice(0, half))
    yield from pieces(table.slice(half))


# -- Types ------------------------------------------------------------------------------------


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that stands for several forms of the same values.

    Text is `string`, whatever offsets or views a library prefers; times have microseconds; values
    of a dictionary are the values.
    """
    types = pa.types
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_date64(kind):
        return pa.date32()
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if types.is_timestamp(kind):
        zone = None if kind.tz is None else "UTC"
        return pa.timestamp("us", zone)
    if types.is_float16(kind):
        return pa.float32()
    if types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind):
        # The name of the element differs from library to library and means nothing.
        return pa.list_(pa.field("item", plain_type(kind.value_type)))
    if types.is_fixed_size_list(kind):
        return pa.list_(pa.field("item", plain_type(kind.value_type)))
    if types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in fields])
    return kind


def plain(table: pa.Table) -> pa.Table:
    """The same rows with plain types; zero-copy where the types are plain already."""
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        wanted = plain_type(field.type)
        if wanted != field.type:
            try:
                column = column.cast(wanted, safe=not pa.types.is_timestamp(wanted))
            except pa.ArrowException as error:
                raise Refusal(
                    "SchemaError",
                    f"column {field.name!r}: {field.type} cannot be sent as {wanted}: {error}",
                ) from None
        columns.append(column)
    fields = [
        pa.field(name, column.type)
        for name, column in zip(table.column_names, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _is_supported(kind: pa.DataType) -> bool:
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType) or types.is_union(kind):
        return False
    if types.is_interval(kind) or types.is_duration(kind):
        return False
    return all(_is_supported(kind.field(at).type) for at in range(kind.num_fields))


def check_result(table: pa.Table, *, empty: bool) -> pa.Table:
    """A result with plain types, or a refusal that names the column."""
    names = table.column_names
    if not names:
        raise Refusal("SchemaError", "the returned frame has no columns: return None for no rows")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Refusal("SchemaError", f"the returned frame has two columns {name!r}: rename one")
        seen.add(name)
    for field in table.schema:
        if not _is_supported(field.type):
            raise Refusal(
                "SchemaError",
                f"column {field.name!r} has the type {field.type}, which no sink can write: "
                "convert it, for example to text or to a number",
            )
    table = plain(table)
    if empty:
        untyped = [field.name for field in table.schema if pa.types.is_null(field.type)]
        if untyped:
            raise Refusal(
                "SchemaError",
                f"the type of column {untyped[0]!r} cannot be learned from a call without rows: "
                f'name it in [function.schema], for example {untyped[0]} = "string", or give the '
                "column a type in the function",
            )
    return table


# -- Frames -----------------------------------------------------------------------------------


class PandasFrames:
    """pandas frames whose columns are Arrow arrays."""

    kind = "pandas"

    def __init__(self) -> None:
        self._pandas = _required("pandas", self.kind)

    def make(self, table: pa.Table) -> Any:
        """A frame of the rows; its columns refer to the same memory."""
        return table.to_pandas(types_mapper=self._pandas.ArrowDtype, ignore_metadata=True)

    def share(self, frame: Any) -> Any:
        """A frame that the user's code may change without changing this one."""
        return frame.copy(deep=False)

    def release(self) -> None:
        """Drops what belongs to one call."""


class PolarsFrames:
    """polars frames."""

    kind = "polars"

    def __init__(self) -> None:
        self._polars = _required("polars", self.kind)

    def make(self, table: pa.Table) -> Any:
        """A frame of the rows."""
        return self._polars.from_arrow(table, rechunk=False)

    def share(self, frame: Any) -> Any:
        """A frame that the user's code may change without changing this one."""
        return frame.clone()

    def release(self) -> None:
        """Drops what belongs to one call."""


class ArrowFrames:
    """Tables of pyarrow."""

    kind = "pyarrow"

    def make(self, table: pa.Table) -> Any:
        """The table itself."""
        return table

    def share(self, frame: Any) -> Any:
        """The table itself: it cannot be changed."""
        return frame

    def release(self) -> None:
        """Drops what belongs to one call."""


class SparkFrames:
    """DataFrames with the interface of PySpark: sqlframe, on DuckDB in this process."""

    kind = "pyspark"
    _connection: Any = None
    _session: Any = None
    _made = 0

    def __init__(self) -> None:
        self._names: list[str] = []
        self.activate()

    @classmethod
    def activate(cls) -> None:
        """Makes `import pyspark` mean sqlframe; before the user's code is imported."""
        if cls._connection is not None:
            return
        try:
            import duckdb
            import sqlframe
        except ImportError as error:
            raise Refusal(
                "ImportError",
                f'frame = "pyspark" needs the package {error.name}: add "sqlframe[duckdb]", '
                '"duckdb<1.6" and "pytz" to the requirements of the function',
            ) from None
        connection = duckdb.connect()
        # One thread: rows of a result come in the same order at every try.
        connection.execute("SET threads = 1")
        connection.execute("SET TimeZone = 'UTC'")
        sqlframe.activate("duckdb", conn=connection)
        from sqlframe.base.column import Column
        from sqlframe.duckdb import DuckDBSession

        # sqlframe has no setting for it.
        setattr(Column, "cast", _spark_cast)  # noqa: B010
        cls._connection = connection
        cls._session = DuckDBSession.builder.getOrCreate()

    def make(self, table: pa.Table) -> Any:
        """A DataFrame over the rows."""
        from sqlglot import exp

        for name in table.column_names:
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
                raise Refusal(
                    "SchemaError",
                    f'frame = "pyspark" cannot take the column {name!r}: give it a name of '
                    "letters, digits and underscores in the job's SQL",
                )
        # A new name each time: the session remembers the columns of a name for ever.
        SparkFrames._made += 1
        name = f"streamctl_input_{SparkFrames._made}"
        # A table of DuckDB, and no view over Arrow: cursors, which `toPandas` uses, do not see the
        # views of their connection.
        self._connection.register("streamctl_arrow", table)
        self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM streamctl_arrow")
        self._connection.unregister("streamctl_arrow")
        self._names.append(name)
        described = self._connection.execute(f"DESCRIBE {name}").fetchall()
        types = {
            row[0]: exp.DataType.build(row[1], dialect="duckdb").sql(dialect="spark")
            for row in described
        }
        self._session.catalog.add_table(name, types)
        return self._session.table(name)

    def share(self, frame: Any) -> Any:
        """The frame itself: it cannot be changed."""
        return frame

    def release(self) -> None:
        """Drops what belongs to one call."""
        for name in self._names:
            self._connection.execute(f"DROP TABLE IF EXISTS {name}")
        self._names.clear()


#: A cast to a whole number, as Spark has it. `x` is the value, `BIGINT` the type.
_WHOLE_CAST = """
CASE
  WHEN typeof(x) = 'VARCHAR' THEN TRY_CAST(COALESCE(
    NULLIF(regexp_extract(trim(CAST(x AS TEXT)), '^([+-]?[0-9]+)([.][0-9]*)?$', 1), ''),
    CASE WHEN regexp_matches(trim(CAST(x AS TEXT)), '^[+-]?[.][0-9]+$') THEN '0' END
  ) AS BIGINT)
  WHEN typeof(x) IN ('DOUBLE', 'FLOAT') THEN TRY_CAST(trunc(TRY_CAST(x AS DOUBLE)) AS BIGINT)
  WHEN starts_with(typeof(x), 'DECIMAL')
    THEN TRY_CAST(trunc(TRY_CAST(x AS DECIMAL(38, 18))) AS BIGINT)
  ELSE TRY_CAST(x AS BIGINT)
END
"""


def _spark_cast(column: Any, kind: Any, dialect: Any = None) -> Any:
    """`Column.cast` as Spark has it: what is no such value gives null, fractions are cut off.

    DuckDB raises for text that is no number, and rounds.
    """
    from sqlglot import exp, parse_one

    name = kind.simpleString() if hasattr(kind, "simpleString") else kind
    target = exp.DataType.build(name, dialect=dialect or "spark")
    value = column.column_expression
    if target.this in exp.DataType.TEXT_TYPES:
        return type(column)(exp.cast(value, target))
    if target.this not in exp.DataType.INTEGER_TYPES:
        return type(column)(exp.TryCast(this=value, to=target))

    def filled(node: Any) -> Any:
        if isinstance(node, exp.Column) and node.name == "x":
            return value.copy()
        if isinstance(node, exp.DataType) and node.this == exp.DataType.Type.BIGINT:
            return target.copy()
        return node

    return type(column)(parse_one(_WHOLE_CAST, dialect="duckdb").transform(filled))


Frames = PandasFrames | PolarsFrames | ArrowFrames | SparkFrames


def frames_of(kind: str) -> Frames:
    """The conversions of a kind of frame."""
    if kind == "pandas":
        return PandasFrames()
    if kind == "polars":
        return PolarsFrames()
    if kind == "pyarrow":
        return ArrowFrames()
    if kind == "pyspark":
        return SparkFrames()
    raise Refusal("ValueError", f"frame = {kind!r}: it is one of {', '.join(KINDS)}")


def _required(package: str, kind: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name != package:
            raise
        raise Refusal(
            "ImportError",
            f'frame = "{kind}" needs the package {package}: add it to the requirements of the '
            'function, or set frame = "pyarrow"',
        ) from None


def _is_frame(value: Any, package: str, name: str = "DataFrame") -> bool:
    """Whether a value is a frame of a package, which is not imported for the question."""
    module = sys.modules.get(package)
    kind = getattr(module, name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _is_spark(value: Any) -> bool:
    module = type(value).__module__
    return module.startswith("sqlframe.") and hasattr(value, "toArrow")


def table_of(value: Any) -> pa.Table | None:
    """The rows of a frame of any kind; `None` if the value is not a frame."""
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if _is_frame(value, "pandas"):
        return _table_of_pandas(value)
    if _is_frame(value, "polars"):
        return value.to_arrow()
    if _is_spark(value):
        return value.toArrow()
    return None


def result_table(value: Any, name: str) -> pa.Table:
    """The rows that the function returned, or a refusal that names the type."""
    table = table_of(value)
    if table is not None:
        return table
    kind = type(value)
    described = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        described = f"{kind.__module__.split('.')[0]}.{described}"
    if isinstance(value, Mapping):
        advice = "a job has one output: return one frame"
    elif _is_frame(value, "polars", "LazyFrame"):
        advice = "return frame.collect()"
    elif _is_frame(value, "pandas", "Series"):
        advice = "return series.to_frame()"
    elif isinstance(value, list | tuple):
        advice = "return one frame, for example pandas.DataFrame(rows)"
    else:
        advice = "return a frame of pandas, polars, pyarrow or pyspark, or None"
    raise Refusal("TypeError", f"{name} returned a {described}: {advice}")


def _table_of_pandas(frame: Any) -> pa.Table:
    """The rows of a pandas frame; a named index becomes columns, another one is dropped."""
    if any(name is not None for name in frame.index.names):
        try:
            frame = frame.reset_index()
        except ValueError as error:
            raise Refusal(
                "SchemaError", f"the index cannot become a column: {error}; drop or rename it"
            ) from None
    names = list(frame.columns)
    for name in names:
        if not isinstance(name, str):
            raise Refusal(
                "SchemaError",
                f"the returned frame has the column {name!r}, whose name is not text: set "
                "frame.columns",
            )
    if not frame.columns.is_unique:
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal("SchemaError", f"the returned frame has two columns {twice!r}: rename one")
    columns = [_column_of_pandas(name, frame[name]) for name in names]
    if not columns:
        return pa.table({})
    return pa.Table.from_arrays(columns, names=names)


def _column_of_pandas(name: str, series: Any) -> pa.Array | pa.ChunkedArray:
    try:
        return pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise Refusal("SchemaError", _why_not(name, series, error)) from None


def _why_not(name: str, series: Any, error: Exception) -> str:
    """Why a column of Python objects has no Arrow type."""
    first: tuple[int, type] | None = None
    for at, value in enumerate(series):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        kind = type(value)
        if first is None:
            first = (at, kind)
        elif kind is not first[1]:
            return (
                f"column {name!r} mixes {first[1].__name__} (row {first[0]}) and {kind.__name__} "
                f"(row {at}): give it one type, for example frame[{name!r}].astype(str)"
            )
    return f"column {name!r} has no Arrow type: {error}"


# -- The call ---------------------------------------------------------------------------------


class Lookups(Mapping[str, Any]):
    """The lookups of a call as frames, each made at its first use and once per version."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[str, pa.Table]] = {}
        self._frames: dict[str, tuple[str, Any]] = {}
        self._frames_of: Frames | None = None
        self._in_call: tuple[str, ...] = ()

    def put(self, name: str, version: str, table: pa.Table) -> None:
        """Replaces an older version."""
        self._tables[name] = (version, table)
        self._frames.pop(name, None)

    def use(self, frames: Frames, versions: Mapping[str, str]) -> None:
        """Prepares a call, which names the versions that it reads."""
        for name, version in versions.items():
            if name not in self._tables or self._tables[name][0] != version:
                raise ProtocolError(f"version {version} of the lookup {name!r} was not sent")
        self._frames_of = frames
        self._in_call = tuple(sorted(versions))

    def __getitem__(self, name: str) -> Any:
        if name not in self._in_call or self._frames_of is None:
            known = ", ".join(self._in_call) or "none"
            raise KeyError(f"no lookup {name!r} in this job; there is: {known}")
        version, table = self._tables[name]
        made = self._frames.get(name)
        if made is None or made[0] != version or isinstance(self._frames_of, SparkFrames):
            made = (version, self._frames_of.make(plain(table)))
            self._frames[name] = made
        return self._frames_of.share(made[1])

    def __iter__(self) -> Iterator[str]:
        return iter(self._in_call)

    def __len__(self) -> int:
        return len(self._in_call)


class Context:
    """What a batch function may know and do besides its frame."""

    def __init__(
        self,
        head: Head,
        lookups: Lookups,
        rows: pa.Table,
        send: Send,
        key: Mapping[str, Any] | None = None,
    ) -> None:
        #: The number of the window: the same at every try.
        self.batch_id: int = head["batch_id"]
        #: The first moment of the window, and the first one after it.
        self.window_start: datetime = _time(head.get("window_start_ms", 0))
        self.window_end: datetime = _time(head.get("window_end_ms", 0))
        #: The job's name.
        self.job: str = head.get("job", "")
        #: Which try at this window it is, from 1.
        self.attempt: int = head.get("attempt", 1)
        #: Frames of the lookups that the job names.
        self.lookups: Mapping[str, Any] = lookups
        #: The values that all rows of the call have, by column, if calls are per key.
        self.key: Mapping[str, Any] = key or {}
        self._send = send
        self._dead = DeadLetters(rows)
        self._open = True

    def dead_letter(self, row: Any, reason: str) -> None:
        """Keeps a row of the input as a dead letter, with the reason.

        The row is a row of the frame in any form: a pandas Series, a dict, a named tuple, the
        position in the input frame, or a frame of several rows that share the reason.
        """
        self._check()
        self._dead.add(row, reason)

    def log(self, text: object, level: str = "info") -> None:
        """Sends a line to the log of the worker: level "info", "warning" or "error"."""
        self._check()
        if level not in LEVELS:
            raise ValueError(f"level {level!r}: it is one of {', '.join(LEVELS)}")
        self._send({"type": "log", "level": level, "text": _cut(str(text), LOG_CHARS_MAX)}, None)

    def _check(self) -> None:
        if not self._open:
            raise RuntimeError(f"the call for batch {self.batch_id} has ended")

    def _close(self) -> DeadLetters:
        self._open = False
        return self._dead


class DeadLetters:
    """The rows of the input that the function refused."""

    def __init__(self, rows: pa.Table) -> None:
        self._input = rows
        #: In order: tables of rows, and positions in the input, which are taken together.
        self._parts: list[pa.Table | list[int]] = []
        self._reasons: list[str] = []
        self._positions: set[int] = set()

    def add(self, row: Any, reason: str) -> None:
        """Takes one row, or a frame of rows."""
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError("a dead letter needs a reason: dead_letter(row, 'no amount')")
        positions = _positions_of(row)
        part = self._rows(row) if positions is None else self._checked(positions)
        if len(self._reasons) + len(part) > self._input.num_rows:
            raise ValueError(f"more dead letters than the {self._input.num_rows} rows of the input")
        if isinstance(part, list):
            self._positions.update(part)
            if self._parts and isinstance(self._parts[-1], list):
                self._parts[-1].extend(part)
            else:
                self._parts.append(part)
        else:
            self._parts.append(part)
            if len(self._parts) > PENDING_PARTS_MAX:
                self._parts = [self._table().combine_chunks()]
        self._reasons.extend([_cut(reason, REASON_CHARS_MAX)] * len(part))

    def __len__(self) -> int:
        return len(self._reasons)

    def send(self, send: Send) -> None:
        """Sends all of them, in messages of a limited size."""
        if not self._reasons:
            return
        rows = self._table()
        start = 0
        for piece in pieces(rows):
            end = start + piece.num_rows
            at = start
            while at < end:
                reasons = _as_many_as_fit(self._reasons[at:end])
                body = encode(piece.slice(at - start, len(reasons)))
                send({"type": "dead", "reasons": reasons}, body)
                at += len(reasons)
            start = end

    def _table(self) -> pa.Table:
        """All of them, with the columns of the input."""
        return pa.concat_tables(
            [
                self._input.take(pa.array(part, pa.int64())) if isinstance(part, list) else part
                for part in self._parts
            ]
        )

    def _rows(self, row: Any) -> pa.Table:
        if _is_frame(row, "pandas"):
            kept = [name for name in self._input.column_names if name in row.columns]
            return self._of_table(_table_of_pandas(row[kept].reset_index(drop=True)))
        table = table_of(row)
        if table is not None:
            return self._of_table(table)
        return self._of_values(_values(row))

    def _checked(self, positions: Sequence[int | None]) -> list[int]:
        count = self._input.num_rows
        checked: list[int] = []
        for position in positions:
            if position is None or not 0 <= position < count:
                raise IndexError(f"no row {position} in an input of {count} rows")
            if position in self._positions:
                raise ValueError(f"row {position} is a dead letter already")
            checked.append(position)
        if len(set(checked)) < len(checked):
            raise ValueError("a row is a dead letter once")
        return checked

    def _of_table(self, table: pa.Table) -> pa.Table:
        schema = self._input.schema
        found = [field for field in schema if table.schema.get_field_index(field.name) >= 0]
        if not found:
            raise ValueError("a dead letter has none of the input's columns")
        columns = []
        for field in schema:
            if table.schema.get_field_index(field.name) < 0:
                columns.append(pa.nulls(table.num_rows, field.type))
                continue
            column = plain(table.select([field.name])).column(0)
            try:
                columns.append(column.cast(plain_type(field.type)).cast(field.type))
            except pa.ArrowException as error:
                raise ValueError(f"dead letter: column {field.name!r}: {error}") from None
        return pa.Table.from_arrays(columns, schema=schema)

    def _of_values(self, values: Mapping[str, Any]) -> pa.Table:
        schema = self._input.schema
        if not any(field.name in values for field in schema):
            raise ValueError("a dead letter has none of the input's columns")
        columns = [_column_of(field, values.get(field.name)) for field in schema]
        return pa.Table.from_arrays(columns, schema=schema)


def _column_of(field: pa.Field, value: Any) -> pa.Array:
    """A column of one value, in the type of the input."""
    try:
        try:
            column = pa.array([value], plain_type(field.type), from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            # The function may have changed its type: text of a number is still the value.
            column = pa.array([value], from_pandas=True).cast(plain_type(field.type))
        return column.cast(field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        shown = _cut(repr(value), 100)
        raise ValueError(
            f"dead letter: column {field.name!r} is {field.type}, and {shown} is not: {error}"
        ) from None


def _positions_of(row: Any) -> Sequence[int | None] | None:
    """The positions in the input that stand for rows, if they are positions."""
    if isinstance(row, bool):
        raise TypeError("a dead letter is a row, and not a bool")
    if isinstance(row, pa.Scalar) and pa.types.is_integer(row.type):
        row = row.as_py()
    position = _index(row)
    if position is not None:
        return [position]
    if isinstance(row, pa.Array | pa.ChunkedArray) and pa.types.is_integer(row.type):
        return cast(list[int | None], row.to_pylist())
    if isinstance(row, list) and all(_index(item) is not None for item in row):
        return [_index(item) for item in row]
    return None


def _values(row: Any) -> Mapping[str, Any]:
    """A row as values by column."""
    if isinstance(row, Mapping):
        return row
    if _is_frame(row, "pandas", "Series"):
        return cast(Mapping[str, Any], row.to_dict())
    if isinstance(row, pa.StructScalar):
        return cast(Mapping[str, Any], row.as_py())
    for method in ("_asdict", "asDict"):
        as_dict = getattr(row, method, None)
        if callable(as_dict):
            return cast(Mapping[str, Any], as_dict())
    raise TypeError(
        f"a dead letter is a row of the frame, its position or a frame of rows, and not a "
        f"{type(row).__qualname__}"
    )


def _index(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _as_many_as_fit(reasons: list[str]) -> list[str]:
    """The first reasons that a head can hold; at least one."""
    size = 0
    for at, reason in enumerate(reasons):
        size += len(reason.encode("utf-8", "replace")) + 3
        if size > REASON_BYTES_PER_MESSAGE and at:
            return reasons[:at]
    return reasons


# -- Keys -------------------------------------------------------------------------------------


def key_groups(rows: pa.Table, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """The rows of each key, by the values of the key, those of a key in their order in `rows`.

    Nulls are a value of their own, the last one.
    """
    missing = [name for name in by if name not in rows.column_names]
    if missing:
        raise Refusal("SchemaError", f"by = [{missing[0]!r}]: the rows have no such column")
    if not rows.num_rows:
        return
    keys = plain(rows.select(list(by)))
    ranks = [_ranks(column) for column in keys.columns]
    order = _order(ranks, rows.num_rows)
    starts = _starts([rank.take(order) for rank in ranks])
    if len(starts) > KEYS_PER_CALL_MAX:
        raise Refusal(
            "LimitError",
            f"the window has {len(starts)} keys of {', '.join(by)}, {KEYS_PER_CALL_MAX} are "
            "possible: choose a shorter window, or group the rows in the function with "
            'per = "window"',
        )
    rows = rows.take(order)
    keys = keys.take(order)
    for at, start in enumerate(starts):
        end = starts[at + 1] if at + 1 < len(starts) else rows.num_rows
        yield keys.slice(start, 1).to_pylist()[0], rows.slice(start, end - start)


def _ranks(column: pa.ChunkedArray) -> pa.Array:
    """The place of each value among the values of its column, in their order."""
    values = pc.unique(column)
    values = values.take(pc.array_sort_indices(values))
    ranks = pc.index_in(column, value_set=values)
    return ranks.combine_chunks() if isinstance(ranks, pa.ChunkedArray) else ranks


def _order(ranks: Sequence[pa.Array], count: int) -> pa.Array:
    names = [f"key{at}" for at in range(len(ranks))]
    # The row's own number comes last: rows of a key stay in their order.
    table = pa.table([*ranks, pa.array(range(count), pa.int64())], names=[*names, "row"])
    keys = [(name, "ascending") for name in table.column_names]
    return pc.sort_indices(table, sort_keys=keys)


def _starts(sorted_ranks: Sequence[pa.Array]) -> list[int]:
    """The positions at which another key begins."""
    begins = pa.array([], pa.bool_())
    for at, ranks in enumerate(sorted_ranks):
        differs = pc.not_equal(ranks.slice(1), ranks.slice(0, len(ranks) - 1))
        begins = differs if not at else pc.or_(begins, differs)
    return [0, *(position + 1 for position in pc.indices_nonzero(begins).to_pylist())]


class Results:
    """What the calls returned, on its way to the worker in messages of a useful size."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._parts: list[pa.Table] = []
        self._rows = 0
        self._bytes = 0
        #: Rows of all results.
        self.count = 0
        #: Whether a call returned a frame.
        self.is_frame = False

    def add(self, table: pa.Table) -> None:
        """Takes the result of one call."""
        if self.is_frame and not table.num_rows:
            return
        if self._parts and table.schema != self._parts[0].schema:
            self.flush()
        self.is_frame = True
        self._parts.append(table)
        self.count += table.num_rows
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= ROWS_PER_MESSAGE or self._bytes >= BYTES_PER_MESSAGE:
            self.flush()

    def flush(self) -> None:
        """Sends what is left."""
        if not self._parts:
            return
        for piece in pieces(pa.concat_tables(self._parts)):
            self._send({"type": "rows"}, encode(piece))
        self._parts = []
        self._rows = 0
        self._bytes = 0


# -- The user's code --------------------------------------------------------------------------


class Function:
    """A user's function, ready to be called."""

    def __init__(
        self, function: Callable[..., Any], kind: str | None, folder: str, name: str, job: str = ""
    ) -> None:
        self.name = name
        self.job = job
        self.folder = os.path.realpath(folder)
        self.function = function
        self.parameters = _parameters(function, name)
        self.frames = frames_of(kind or _annotated(function) or "pandas")
        self.lookups = Lookups()
        #: The key that is being called, for errors.
        self._key: Mapping[str, Any] = {}
        #: Where `on_published` is looked for.
        self.module: Any = sys.modules.get(getattr(function, "__module__", ""))

    @classmethod
    def load(cls, head: Head) -> Function:
        """Imports the code that an `open` message names."""
        kind = head.get("frame")
        if kind == "pyspark":
            SparkFrames.activate()
        folder = str(head["folder"])
        name = head.get("name") or "process_batch"
        module = _import(folder, head.get("file"), head.get("module"))
        function = getattr(module, name, None)
        if function is None:
            raise Refusal("NameError", _no_such(module, name))
        try:
            loaded = cls(function, kind, folder, name, head.get("job") or "")
        except Refusal as error:
            error.function = function
            raise
        # The function itself may be imported from another module.
        loaded.module = module
        if head.get("on_published"):
            loaded.check_published(str(head["on_published"]))
        return loaded

    def call(self, head: Head, rows: pa.Table, send: Send) -> None:
        """Calls the function and sends all that belongs to its answer, `done` the last."""
        started = time.perf_counter_ns()
        head.setdefault("job", self.job)
        self.lookups.use(self.frames, head.get("lookups") or {})
        by = [str(name) for name in head.get("by") or ()]
        if by and self.frames.kind == "pyspark":
            raise Refusal(
                "ValueError",
                'a function per key takes no frame of pyspark: set frame = "pandas", as '
                "applyInPandas does",
            )
        results = Results(send)
        done: Head = {"type": "done"}
        if by and not head.get("empty"):
            done["keys"] = 0
            for key, group in key_groups(rows, by):
                self._key = key
                self._call_once(head, group, key, results)
                done["keys"] += 1
            self._key = {}
        else:
            self._call_once(head, rows, {}, results)
            if by:
                done["keys"] = 0
        results.flush()
        done["result"] = "frame" if results.is_frame else "none"
        done["rows"] = results.count
        done["elapsed_us"] = (time.perf_counter_ns() - started) // 1000
        send(done, None)

    def _call_once(
        self, head: Head, rows: pa.Table, key: Mapping[str, Any], results: Results
    ) -> None:
        context = Context(head, self.lookups, rows, results._send, key)
        try:
            arguments = [self.frames.make(plain(rows)), context.batch_id, context]
            # The list holds the only reference: the function may free its frame.
            result = self.function(*_popped(arguments, self.parameters))
            dead = context._close()
            table = None
            if result is not None:
                table = result_table(result, self.name)
                table = check_result(table, empty=bool(head.get("empty")))
            del result
            dead.send(results._send)
            if table is not None:
                results.add(table)
        finally:
            context._close()
            self.frames.release()

    def published(self, head: Head, send: Send) -> None:
        """Calls the function that wants to know what was published."""
        started = time.perf_counter_ns()
        name = str(head["name"])
        function = getattr(self.module, name, None)
        if function is None:
            raise Refusal("NameError", _no_such(self.module, name))
        parameters = _parameters(function, name, ("epoch", "objects"))
        self.lookups.use(self.frames, {})
        context = Context(head | {"job": head.get("job") or self.job}, self.lookups, _NO_ROWS, send)
        try:
            function(*[head["epoch"], head.get("objects") or [], context][:parameters])
        finally:
            context._close()
        elapsed = (time.perf_counter_ns() - started) // 1000
        send({"type": "done", "result": "none", "rows": 0, "elapsed_us": elapsed}, None)

    def check_published(self, name: str) -> None:
        """Refuses code that does not have the function that is called after publishing."""
        function = getattr(self.module, name, None)
        if function is None:
            raise Refusal("NameError", f"on_published: {_no_such(self.module, name)}")
        try:
            _parameters(function, name, ("epoch", "objects"))
        except Refusal as error:
            error.function = function
            raise

    def error(self, error: BaseException) -> Head:
        """The message about an exception of the user's code."""
        head = error_head(error, self.folder, self.function)
        if self._key:
            values = (f"{name} = {_shown(value)}" for name, value in self._key.items())
            head["message"] = _cut(
                f"{head['message']} (key: {', '.join(values)})", MESSAGE_CHARS_MAX
            )
            self._key = {}
        return head


_NO_ROWS = pa.table({})


def _shown(value: Any) -> str:
    return _cut(repr(value), KEY_CHARS_MAX)


def _popped(arguments: list[Any], count: int) -> Iterator[Any]:
    for _ in range(count):
        yield arguments.pop(0)


def _import(folder: str, file: str | None, module: str | None) -> Any:
    os.chdir(folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if module:
        return importlib.import_module(module)
    if not file:
        raise ProtocolError("neither a file nor a module to open")
    path = os.path.join(folder, file)
    name = Path(file).stem
    if name in _HIDDEN_BY_A_FILE or name in sys.stdlib_module_names:
        raise Refusal(
            "ImportError",
            f"{file} hides the module {name} from every import: give the file another name",
        )
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Refusal("ImportError", f"{file} is not a Python file: its name ends in .py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def _no_such(module: Any, name: str) -> str:
    there = sorted(
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    )
    functions = f"its functions are {', '.join(there)}" if there else "it has no function"
    return f"{module.__name__} has no function {name!r}; {functions}"


def _parameters(function: Any, name: str, first: tuple[str, str] = ("frame", "batch_id")) -> int:
    """How many arguments the function takes: 2, or 3 with the context."""
    if not callable(function) or inspect.isclass(function):
        what = "a class" if inspect.isclass(function) else f"a {type(function).__qualname__}"
        raise Refusal("TypeError", f"{name} is {what}, and not a function")
    body = function if inspect.isroutine(function) else type(function).__call__
    if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
        raise Refusal("TypeError", f"{name} is async: write def {name}(...) without async")
    if inspect.isgeneratorfunction(body):
        raise Refusal("TypeError", f"{name} yields: return one frame")
    try:
        parameters = list(_signature(function).parameters.values())
    except (TypeError, ValueError):
        return 2
    positional = [
        item
        for item in parameters
        if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
    ]
    required = sum(1 for item in positional if item.default is item.empty)
    variadic = any(item.kind is item.VAR_POSITIONAL for item in parameters)
    keyword = [
        item.name
        for item in parameters
        if item.kind is item.KEYWORD_ONLY and item.default is item.empty
    ]
    usage = f"write def {name}({', '.join(first)}) or def {name}({', '.join(first)}, context)"
    if keyword:
        raise Refusal("TypeError", f"{name} requires the keyword {keyword[0]}: {usage}")
    if required > 3 or (len(positional) < 2 and not variadic):
        count = f"{required} parameter" + ("" if required == 1 else "s")
        raise Refusal("TypeError", f"{name} takes {count}: {usage}")
    if required == 3 or variadic:
        return 3
    # A third parameter with a default is the user's own, unless it is named as ours.
    return 3 if len(positional) > 2 and positional[2].name == "context" else 2


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Names that exist for type checkers only must not fail here.
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _annotated(function: Callable[..., Any]) -> str | None:
    """The kind of frame that the first parameter's annotation names."""
    try:
        parameters = list(_signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if not parameters or parameters[0].annotation is inspect.Parameter.empty:
        return None
    annotation = parameters[0].annotation
    annotation = getattr(annotation, "__forward_arg__", annotation)
    if isinstance(annotation, str):
        text = annotation.strip("'\" ")
        try:
            annotation = eval(text, dict(getattr(function, "__globals__", {})))
        except Exception:  # the user's annotation may do anything
            return _kind_of_text(text)
    package = getattr(annotation, "__module__", "").split(".")[0]
    return {"sqlframe": "pyspark"}.get(package, package if package in KINDS else None)


def _kind_of_text(text: str) -> str | None:
    aliases = {"pd": "pandas", "pl": "polars", "pa": "pyarrow", "sqlframe": "pyspark"}
    root = text.split(".")[0]
    kind = aliases.get(root, root)
    return kind if kind in KINDS else None


# -- Errors -----------------------------------------------------------------------------------

_SELF = _annotated.__code__.co_filename


def error_head(
    error: BaseException, folder: str, function: Callable[..., Any] | None = None
) -> Head:
    """The `error` message about an exception: where it is in the user's code, and its traceback."""
    folder = os.path.realpath(folder) if folder else ""
    kind = error.kind if isinstance(error, Refusal) else type(error).__qualname__
    if function is None and isinstance(error, Refusal):
        function = error.function
    file, line = _place(error, folder, function)
    message = _text_of(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "pyspark":
        message += ': set frame = "pyspark" in [function] to run this code on DuckDB by sqlframe'
    elif isinstance(error, ImportError) and (error.name or "").split(".")[0] == "pyspark":
        message += ": sqlframe, which is PySpark here, does not have it"
    return {
        "type": "error",
        "kind": kind,
        "message": _cut(message, MESSAGE_CHARS_MAX),
        "file": file,
        "line": line,
        "traceback": _traceback(error, folder),
    }


def plain_error(kind: str, message: str) -> Head:
    """The `error` message about something that no line of the user's code is the reason of."""
    return {
        "type": "error",
        "kind": kind,
        "message": _cut(message, MESSAGE_CHARS_MAX),
        "file": None,
        "line": None,
        "traceback": "",
    }


def _text_of(error: BaseException) -> str:
    try:
        if isinstance(error, SyntaxError):
            return error.msg
        if isinstance(error, KeyError) and len(error.args) == 1:
            # Its text is the key alone, which says nothing without the word.
            return str(error.args[0]) if " " in str(error.args[0]) else f"no key {error.args[0]!r}"
        return str(error) or type(error).__qualname__
    except Exception:  # `__str__` is the user's
        return f"<the text of {type(error).__qualname__} failed>"


def _relative(file: str, folder: str) -> str | None:
    """A file's name from the folder of the code, if it lies there."""
    path = os.path.realpath(file)
    if not folder or not path.startswith(folder.rstrip(os.sep) + os.sep):
        return None
    return os.path.relpath(path, folder)


def _place(
    error: BaseException, folder: str, function: Callable[..., Any] | None
) -> tuple[str | None, int | None]:
    """The innermost line of the user's code; else the function's first line."""
    if isinstance(error, SyntaxError) and error.filename:
        inside = _relative(error.filename, folder)
        if inside is not None:
            return inside, error.lineno
    place: tuple[str | None, int | None] = (None, None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        inside = _relative(frame.f_code.co_filename, folder)
        if inside is not None and frame.f_code.co_filename != _SELF:
            place = (inside, line)
    if place[0] is None and function is not None:
        code = getattr(inspect.unwrap(function), "__code__", None)  # none: a class, a partial
        if code is not None:
            inside = _relative(code.co_filename, folder)
            return inside or os.path.basename(code.co_filename), code.co_firstlineno
    return place


def _traceback(error: BaseException, folder: str) -> str:
    """The traceback without the runner's own frames, with names of files from the folder."""
    if isinstance(error, Refusal):
        return ""
    try:
        report = traceback.TracebackException.from_exception(error)
        _strip(report, set())
        text = "".join(report.format())
    except Exception:  # formatting calls code of the user
        return ""
    if folder:
        text = text.replace(f'File "{folder.rstrip(os.sep)}{os.sep}', 'File "')
    return _cut(text, TRACEBACK_CHARS_MAX, from_end=True)


def _strip(report: traceback.TracebackException, seen: set[int]) -> None:
    if id(report) in seen:
        return
    seen.add(id(report))
    frames = [frame for frame in report.stack if frame.filename != _SELF]
    while frames and _is_import(frames[0].filename):
        frames.pop(0)
    del report.stack[:]
    report.stack.extend(frames)
    others = [report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or [])]
    for other in others:
        if other is not None:
            _strip(other, seen)


def _is_import(filename: str) -> bool:
    return filename.startswith("<frozen ") or filename.endswith(f"importlib{os.sep}__init__.py")


def _cut(text: str, characters: int, *, from_end: bool = False) -> str:
    if len(text) <= characters:
        return text
    return "… " + text[2 - characters :] if from_end else text[: characters - 2] + " …"


def _time(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


# -- The process ------------------------------------------------------------------------------


class Runner:
    """Answers the worker's messages until it closes the connection."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._function: Function | None = None
        self._folder = ""
        self._call: Head | None = None
        self._rows: list[pa.Table] = []
        self._bytes = 0

    def run(self) -> None:
        """Returns when the other side has closed the connection."""
        while (message := self._channel.receive()) is not None:
            head, body = message
            try:
                self._step(head, body)
            except KeyError as error:
                # Those of the user's code end in `_guarded`.
                raise ProtocolError(f"a message {head.get('type')!r} without {error}") from None
            del message, head, body

    def _step(self, head: Head, body: pa.Buffer | None) -> None:
        kind = head.get("type")
        if kind == "open":
            self._open(head)
        elif kind == "lookup":
            table = read_table(body)
            self._opened().lookups.put(str(head["name"]), str(head["version"]), table)
        elif kind == "call":
            self._opened()
            if self._call is not None:
                raise ProtocolError("a call inside a call")
            if not isinstance(head["batch_id"], int):
                raise ProtocolError("a batch_id that is no number")
            self._call = head
        elif kind == "rows":
            self._take(body)
        elif kind == "end":
            self._finish()
        elif kind == "published":
            self._published(head)
        else:
            raise ProtocolError(f"a message of the unknown type {kind!r}")

    def _opened(self) -> Function:
        if self._function is None:
            raise ProtocolError("a message before the code is open")
        return self._function

    def _open(self, head: Head) -> None:
        if head.get("protocol") != PROTOCOL:
            raise ProtocolError(f"protocol {head.get('protocol')}; this runner speaks {PROTOCOL}")
        limit = head.get("memory_bytes")
        if isinstance(limit, int) and limit > 0:
            self._channel.body_bytes_max = min(limit, self._channel.body_bytes_max)
        self._folder = str(head.get("folder") or "")
        try:
            self._function = Function.load(head)
        except BaseException as error:  # SystemExit of the user's code, too
            if isinstance(error, ProtocolError):
                raise
            self._channel.send(error_head(error, self._folder))
            return
        self._channel.send(
            {
                "type": "ready",
                "protocol": PROTOCOL,
                "frame": self._function.frames.kind,
                "python": platform.python_version(),
                "parameters": self._function.parameters,
                "stable_hashes": not sys.flags.hash_randomization,
            }
        )

    def _take(self, body: pa.Buffer | None) -> None:
        if self._call is None:
            raise ProtocolError("rows outside of a call")
        self._bytes += 0 if body is None else body.size
        if self._bytes > self._channel.body_bytes_max:
            raise ProtocolError(
                f"a call with more than {self._channel.body_bytes_max} bytes of rows"
            )
        table = read_table(body)
        if self._rows and table.schema != self._rows[0].schema:
            raise ProtocolError("rows of one call with two schemas")
        self._rows.append(table)

    def _finish(self) -> None:
        function = self._opened()
        if self._call is None or not self._rows:
            raise ProtocolError("the end of a call that did not begin, or without rows")
        call = self._call
        large = self._bytes >= LARGE_INPUT_BYTES
        rows = pa.concat_tables(self._rows)
        self._call = None
        self._rows = []
        self._bytes = 0
        self._guarded(function, lambda: function.call(call, rows, self._channel.send))
        if large:
            pa.default_memory_pool().release_unused()

    def _published(self, head: Head) -> None:
        function = self._opened()
        self._guarded(function, lambda: function.published(head, self._channel.send))

    def _guarded(self, function: Function, work: Callable[[], None]) -> None:
        """An exception of the user's code ends the call, and not the runner."""
        try:
            work()
        except (ProtocolError, BrokenPipeError, ConnectionError):
            if _is_of_user(sys.exc_info()[2], function.folder):
                self._channel.send(function.error(cast(BaseException, sys.exc_info()[1])))
                return
            raise
        except BaseException as error:  # SystemExit of the user's code, too
            self._channel.send(function.error(error))
        finally:
            _flush()


def _is_of_user(trace: TracebackType | None, folder: str) -> bool:
    """Whether an exception passed through the user's code: a broken connection may be theirs."""
    return any(
        _relative(frame.f_code.co_filename, folder) is not None
        for frame, _ in traceback.walk_tb(trace)
        if frame.f_code.co_filename != _SELF
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # The user's code may have closed or replaced it.
            continue


def _take_connection() -> socket.socket:
    """Moves the connection away from descriptor 0, which becomes empty input."""
    try:
        moved = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, DESCRIPTOR_MIN)
    except OSError:
        # Fewer descriptors are allowed than that.
        moved = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(empty, 0, inheritable=True)
    os.close(empty)
    connection = socket.socket(fileno=moved)
    connection.setblocking(True)
    return connection


def _memory_limit() -> int:
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    finite = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min([BODY_BYTES_MAX, *finite])


def main() -> int:
    """Serves descriptor 0 until the worker closes it; the exit code is 0 then."""
    connection = _take_connection()
    # Ctrl-C in a terminal reaches the whole group; the worker decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    own = os.path.dirname(os.path.abspath(_SELF))
    if sys.path and os.path.abspath(sys.path[0]) == own and not sys.flags.isolated:
        # The folder of this file is no place for the user's imports.
        del sys.path[0]
    channel = Channel(connection, _memory_limit())
    try:
        Runner(channel).run()
    except ProtocolError as error:
        print(f"the function's runner: {error}", file=sys.stderr)
        try:
            channel.send(plain_error("ProtocolError", str(error)))
        except OSError:
            # The other side is gone: its end of the connection says the same.
            return 2
        return 2
    except MemoryError:
        text = "the rows of the call do not fit into the memory of the process"
        channel.send(plain_error("MemoryError", text))
        return 2
    except (BrokenPipeError, ConnectionError):
        return 0
    _flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`streamctl-function serve`: a batch function as a server that workers call over Arrow Flight.

Owns: the Flight service, a pool of processes, start and stop. Does not own: the call itself, which
is that of the runner (`_runner`) in each process of the pool.
Rule: one process answers one call at a time, so a function sees no second thread; calls beyond the
number of processes wait. A process that ends during a call costs that call alone.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from . import _runner
from .errors import StreamctlError

#: Bytes of an error's JSON. It is sent twice in a trailer that gRPC limits to 8 KiB.
ERROR_BYTES_MAX = 3_000
#: Bytes of the rows of one call: the default of `memory` in `[function]`, as the worker keeps it.
INPUT_BYTES_MAX = 1 << 30
#: Processes if the command line names no number: each holds the libraries of the function.
PROCESSES_MAX = 4
#: Seconds in which calls may end after SIGTERM.
STOP_S = 10.0
#: Fewest and most characters of a token, as the workers take it.
TOKEN_CHARS = (32, 512)
#: Seconds between two looks at whether a waiting client is still there.
WAIT_S = 0.2


class Process:
    """A runner with the user's code, started at the first call and again if it ended."""

    def __init__(self, opening: dict[str, Any]) -> None:
        self._opening = opening
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: _runner.Channel | None = None
        self._connection: socket.socket | None = None
        self.ready: dict[str, Any] = {}

    def start(self) -> _runner.Channel:
        """The connection to a running process.

        Raises:
            CallFailed: If the code cannot be opened.
        """
        if self._channel is not None and self._child is not None and self._child.poll() is None:
            return self._channel
        self.stop()
        ours, theirs = socket.socketpair()
        runner = str(Path(_runner.__file__))
        # Sets and dicts of text then have the same order in every process.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self._child = subprocess.Popen(
            [sys.executable, "-s", "-B", runner], stdin=theirs.fileno(), env=environment
        )
        theirs.close()
        self._connection = ours
        self._channel = _runner.Channel(ours)
        self._channel.send(self._opening)
        head, _ = self.receive()
        if head["type"] != "ready":
            self.stop()
            raise CallFailed(head)
        self.ready = head
        return self._channel

    def receive(self) -> tuple[dict[str, Any], pa.Buffer | None]:
        """The next message; an error that says how the process ended if it did."""
        message = None
        if self._channel is not None:
            try:
                message = self._channel.receive()
            except (OSError, _runner.ProtocolError):
                message = None
        if message is None:
            raise CallFailed(
                _runner.plain_error("ProcessEnded", f"the process of the function {self._end()}")
            )
        return message

    def _end(self) -> str:
        if self._child is None:
            return "was stopped"
        try:
            code = self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def stop(self) -> None:
        """Ends the process, also in the middle of a call."""
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = self._channel = self._connection = None


class CallFailed(Exception):
    """The `error` message of a call."""

    def __init__(self, head: dict[str, Any]) -> None:
        super().__init__(head.get("message", ""))
        self.head = head


class Pool:
    """The processes, of which each call takes one."""

    def __init__(self, opening: dict[str, Any], count: int) -> None:
        self._all = [Process(opening) for _ in range(count)]
        self._free: queue.LifoQueue[Process] = queue.LifoQueue()
        for process in self._all:
            self._free.put(process)

    def check(self) -> dict[str, Any]:
        """Starts one process, which shows whether the code can be used; returns its `ready`."""
        process = self._free.get()
        try:
            process.start()
        finally:
            self._free.put(process)
        return process.ready

    @contextmanager
    def one(self, context: Any) -> Iterator[Process]:
        """A process of the caller's own, as soon as one is free."""
        while True:
            try:
                process = self._free.get(timeout=WAIT_S)
                break
            except queue.Empty:
                if context.is_cancelled():
                    raise CallFailed(
                        _runner.plain_error("Cancelled", "the client gave up")
                    ) from None
        try:
            yield process
        finally:
            self._free.put(process)

    def stop(self) -> None:
        """Ends all processes."""
        for process in self._all:
            process.stop()


class TokenCheck(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses calls without the token."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._expected = f"Bearer {token}".encode()

    def start_call(self, info: Any, headers: dict[str, list[Any]]) -> None:
        """Lets a call pass, or refuses it."""
        given = [
            value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
            for name, values in headers.items()
            if name.lower() == "authorization"
            for value in values
        ]
        if len(given) != 1 or not hmac.compare_digest(given[0], self._expected):
            raise flight.FlightUnauthenticatedError(
                "the token of this function server is missing or wrong: start the workers with "
                "--function-server-token-file"
            )


class FunctionServer(flight.FlightServerBase):  # type: ignore[misc]
    """The Flight service: one DoExchange is one call."""

    def __init__(
        self,
        location: str,
        pool: Pool,
        name: str,
        tls: list[tuple[bytes, bytes]],
        input_max: int = INPUT_BYTES_MAX,
        token: str | None = None,
    ) -> None:
        middleware = {} if token is None else {"token": TokenCheck(token)}
        super().__init__(location, tls_certificates=tls or None, middleware=middleware)
        self._input_max = input_max
        self._pool = pool
        self._name = name

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Reads the rows of a window, calls the function, writes what it returned."""
        try:
            call = self._call(descriptor)
            # A worker sends rows as long as their window is open: no process waits for them.
            bodies = self._rows(reader)
            with self._pool.one(context) as process:
                channel = process.start()
                whole = False
                try:
                    channel.send(call)
                    while bodies:
                        channel.send({"type": "rows"}, bodies.popleft())
                    channel.send({"type": "end"})
                    _answer(process, writer, per_key=bool(call.get("by")))
                    whole = True
                except (BrokenPipeError, ConnectionError):
                    process.receive()
                    raise
                except CallFailed as error:
                    whole = error.head.get("kind") != "ProcessEnded"
                    raise
                finally:
                    if not whole:
                        # There is no message that takes half a call back.
                        process.stop()
        except CallFailed as error:
            raise flight.FlightServerError(_fitting(error.head)) from None

    def _rows(self, reader: Any) -> deque[pa.Buffer]:
        """The rows of a call, as the runner takes them."""
        bodies: deque[pa.Buffer] = deque()
        size = 0
        for chunk in reader:
            if chunk.data is None:
                continue
            for piece in _runner.pieces(pa.Table.from_batches([chunk.data])):
                body = _runner.encode(piece)
                size += body.size
                if size > self._input_max:
                    raise CallFailed(
                        _runner.plain_error(
                            "MemoryError", f"a call with more than {self._input_max} bytes of rows"
                        )
                    )
                bodies.append(body)
        # The schema is known without rows, too.
        return bodies or deque([_runner.encode(reader.schema.empty_table())])

    def _call(self, descriptor: Any) -> dict[str, Any]:
        try:
            call = json.loads(descriptor.command or b"")
        except ValueError:
            call = None
        if not isinstance(call, dict) or call.get("type") != "call" or "batch_id" not in call:
            raise CallFailed(
                _runner.plain_error("ProtocolError", "the descriptor's command is not a call")
            )
        name = call.get("name") or self._name
        if name != self._name:
            raise CallFailed(
                _runner.plain_error(
                    "NameError", f"this server has the function {self._name!r}, and not {name!r}"
                )
            )
        if call.get("lookups"):
            raise CallFailed(
                _runner.plain_error("ProtocolError", "a function behind a url gets no lookups")
            )
        return call


def _answer(process: Process, writer: Any, *, per_key: bool) -> None:
    begun = False
    # Results of keys may differ in their types, and the rows of an exchange have one schema.
    of_keys: list[pa.Table] = []
    while True:
        head, body = process.receive()
        kind = head["type"]
        if kind == "error":
            raise CallFailed(head)
        if kind == "rows" and per_key:
            of_keys.append(_runner.read_table(body))
            continue
        if kind == "done" and of_keys:
            table = _together(of_keys)
            writer.begin(table.schema)
            writer.write_table(table)
        if kind == "rows":
            table = _runner.read_table(body)
            if not begun:
                writer.begin(table.schema)
                begun = True
            writer.write_table(table)
            continue
        if kind == "dead":
            rows = _runner.read_table(body).to_pylist()
            head["rows_json"] = "\n".join(json.dumps(row, default=_as_json) for row in rows)
        writer.write_metadata(pa.py_buffer(json.dumps(head).encode()))
        if kind == "done":
            return


def _together(tables: list[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise CallFailed(
            _runner.plain_error("SchemaError", f"the results of two keys differ: {error}")
        ) from None


def _as_json(value: Any) -> Any:
    """Values of a row that JSON has no form for."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__qualname__} in a dead letter")


def _fitting(head: dict[str, Any]) -> str:
    """The JSON of an error that fits into a trailer: the traceback is cut first, from its start."""
    for field in ("traceback", "message"):
        text = json.dumps(head)
        if len(text) <= ERROR_BYTES_MAX:
            return text
        value = str(head[field])
        # A character has up to twelve bytes in JSON, so what is cut is measured and not computed.
        while value and len(json.dumps({**head, field: value})) > ERROR_BYTES_MAX:
            value = value[len(value) // 4 + 1 :] if field == "traceback" else value[:-100]
        head = {**head, field: value}
    return json.dumps(head)


# -- The command line -----------------------------------------------------------------------------


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="streamctl-function", description="Serves a batch function to streamctl's workers."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    serve = verbs.add_parser(
        "serve",
        help="serve a function over Arrow Flight",
        description="Serves a function over Arrow Flight, for [function] url = ... in a job file.",
    )
    code = serve.add_mutually_exclusive_group(required=True)
    code.add_argument("file", nargs="?", help="the file with the function")
    code.add_argument("--module", help="a module in the working folder instead of a file")
    serve.add_argument("--name", default="process_batch", help="the function (%(default)s)")
    serve.add_argument(
        "--listen", default="grpc://127.0.0.1:5005", metavar="URL", help="where (%(default)s)"
    )
    serve.add_argument("--frame", choices=_runner.KINDS, help="kind of frame (by annotation)")
    serve.add_argument(
        "--processes",
        type=int,
        default=min(os.cpu_count() or 1, PROCESSES_MAX),
        help="how many calls at once, each in a process (%(default)s)",
    )
    serve.add_argument(
        "--memory",
        type=int,
        default=INPUT_BYTES_MAX >> 20,
        metavar="MIB",
        help="most rows of one call, in MiB (%(default)s)",
    )
    serve.add_argument("--tls-cert", metavar="FILE", help="certificate, for grpc+tls://")
    serve.add_argument("--tls-key", metavar="FILE", help="its private key")
    serve.add_argument(
        "--token-file", metavar="FILE", help="token that callers must show, for grpc+tls://"
    )
    arguments = parser.parse_args(words)
    if arguments.processes < 1:
        parser.error("--processes is at least 1")
    if arguments.memory < 1:
        parser.error("--memory is at least 1")
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    secured = arguments.listen.startswith("grpc+tls://")
    if secured != (arguments.tls_cert is not None):
        parser.error("grpc+tls:// needs --tls-cert and --tls-key, and the other way round")
    if arguments.token_file is not None and not secured and not _is_here(arguments.listen):
        parser.error("--token-file needs grpc+tls://: a token is not sent without TLS")
    return arguments


def _is_here(url: str) -> bool:
    host = url.partition("://")[2].rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_visible(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


def _token(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        token = Path(path).read_text().strip()
    except OSError as error:
        raise StreamctlError("not_found", f"{path}: {error.strerror}") from None
    if not TOKEN_CHARS[0] <= len(token) <= TOKEN_CHARS[1] or not _is_visible(token):
        raise StreamctlError(
            "invalid_argument",
            f"{path} has no token: {TOKEN_CHARS[0]} to {TOKEN_CHARS[1]} visible ASCII characters",
            "make one: streamctl token new",
        )
    return token


def _opening(arguments: argparse.Namespace) -> dict[str, Any]:
    path = None if arguments.file is None else Path(arguments.file).resolve()
    if path is not None and not path.is_file():
        raise StreamctlError("not_found", f"{arguments.file} is not a file")
    return {
        "type": "open",
        "protocol": _runner.PROTOCOL,
        "folder": str(path.parent if path else Path.cwd()),
        "file": path.name if path else None,
        "module": arguments.module,
        "name": arguments.name,
        "frame": arguments.frame,
        "job": "",
    }


def serve(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    # A signal may reach a thread of gRPC: a byte in a pipe wakes this thread in any case.
    signalled, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    pool = Pool(_opening(arguments), arguments.processes)
    try:
        try:
            ready = pool.check()
        except CallFailed as error:
            print(_described(error.head), file=sys.stderr)
            return 1
        tls = []
        if arguments.tls_cert is not None:
            pair = (Path(arguments.tls_cert).read_bytes(), Path(arguments.tls_key).read_bytes())
            tls = [pair]
        try:
            server = FunctionServer(
                arguments.listen,
                pool,
                arguments.name,
                tls,
                arguments.memory << 20,
                _token(arguments.token_file),
            )
        except (pa.ArrowException, OSError) as error:
            raise StreamctlError("unavailable", f"{arguments.listen}: {error}") from None
        scheme, _, rest = arguments.listen.partition("://")
        host = rest.rpartition(":")[0]
        print(
            f"{arguments.name} ({ready['frame']}) listens on {scheme}://{host}:{server.port}, "
            f"{arguments.processes} calls at once",
            flush=True,
        )
        os.read(signalled, 1)
        ending = threading.Thread(target=server.shutdown, daemon=True)
        ending.start()
        ending.join(STOP_S)
        return 0
    finally:
        pool.stop()


def _described(head: dict[str, Any]) -> str:
    place = f"{head['file']}, line {head['line']}: " if head.get("file") else ""
    trace = head.get("traceback") or ""
    return f"{trace}error: {place}{head['kind']}: {head['message']}"


def main(words: Sequence[str] | None = None) -> int:
    """The console script `streamctl-function`."""
    arguments = _arguments(words)
    try:
        return serve(arguments)
    except (StreamctlError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""The worker's side of the protocol, for tests: it shares no code with the runner.

Owns: one runner as a child process, messages to and from it.
Rule: bytes are written and read here as `python/README.md` describes them, so that a change of the
runner alone fails a test.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

import streamctl

RUNNER = Path(streamctl.__file__).parent / "_runner.py"
#: Seconds for one answer, on a busy machine.
PATIENCE_S = 60


def stream(table: pa.Table) -> bytes:
    """A complete Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def table(body: bytes) -> pa.Table:
    """The rows of an Arrow stream."""
    return pa.ipc.open_stream(body).read_all()


@dataclass
class Answer:
    """All that the runner sent for one call."""

    end: dict[str, Any]
    rows: list[pa.Table] = field(default_factory=list)
    dead: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)

    @property
    def result(self) -> pa.Table:
        """The rows of all messages."""
        assert self.end["type"] == "done", self.end
        return pa.concat_tables(self.rows)


class Child:
    """A runner with the code of a folder."""

    def __init__(
        self,
        folder: Path,
        code: str | None = None,
        *,
        flags: Sequence[str] = ("-I", "-B"),
        runner: Path = RUNNER,
        env: dict[str, str] | None = None,
    ) -> None:
        if code is not None:
            (folder / "transform.py").write_text(code)
        self.folder = folder
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, *flags, str(runner)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env if env is not None else dict(os.environ),
        )
        theirs.close()
        ours.settimeout(PATIENCE_S)
        self.socket = ours

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        if self.process.poll() is None:
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.communicate()

    def send(self, head: dict[str, Any] | bytes, body: bytes = b"") -> None:
        """Sends one message."""
        text = head if isinstance(head, bytes) else json.dumps(head).encode()
        self.socket.sendall(struct.pack(">IQ", len(text), len(body)) + text + body)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Receives one message."""
        head, body = struct.unpack(">IQ", self._read(12))
        return json.loads(self._read(head)), self._read(body)

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def open(self, **more: Any) -> dict[str, Any]:
        """Opens `transform.py`, and returns the answer."""
        head = {
            "type": "open",
            "protocol": 1,
            "folder": str(self.folder),
            "file": "transform.py",
            "name": "process_batch",
            "frame": None,
            "job": "sales",
        }
        self.send(head | more)
        return self.receive()[0]

    def call(
        self, *tables: pa.Table, batch_id: int = 28_512_345, empty: bool = False, **more: Any
    ) -> Answer:
        """One call, and all of its answer."""
        head = {
            "type": "call",
            "batch_id": batch_id,
            "window_start_ms": batch_id * 60_000,
            "window_end_ms": (batch_id + 1) * 60_000,
            "attempt": 1,
            "job": "sales",
            "lookups": {},
            "empty": empty,
        }
        self.send(head | more)
        for part in tables:
            self.send({"type": "rows"}, stream(part))
        self.send({"type": "end"})
        return self.answer()

    def answer(self) -> Answer:
        """All messages up to the end of a call."""
        answer = Answer({})
        while True:
            head, body = self.receive()
            kind = head["type"]
            if kind == "rows":
                answer.rows.append(table(body))
            elif kind == "dead":
                rows = table(body).to_pylist()
                answer.dead += zip(head["reasons"], rows, strict=True)
            elif kind == "log":
                answer.log.append((head["level"], head["text"]))
            else:
                answer.end = head
                return answer

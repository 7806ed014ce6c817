"""`streamctl-function serve`, called by a Flight client as a worker does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

CODE = '''
import os, time
import pyarrow as pa

def process_batch(frame: pa.Table, batch_id, context):
    """What it does depends on the number of the batch."""
    context.log("here", level="warning")
    if batch_id == 1:
        return None
    if batch_id == 2:
        raise ValueError("no second batch: " + "é" * 5000)
    if batch_id == 3:
        os._exit(7)
    if batch_id == 4:
        context.dead_letter(0, "bad")
        return frame.slice(1)
    if batch_id == 5:
        met = context.window_start.timestamp()
        open(f"met-{met}", "w").close()
        while len([name for name in os.listdir() if name.startswith("met-")]) < 2:
            time.sleep(0.01)
    return frame.append_column("pid", pa.array([os.getpid()] * len(frame), pa.int64()))
'''
TOKEN = "a-token-of-this-server-" * 2
ROWS = pa.table({"n": [1, 2, 3], "at": pa.array([0, 1, 2], pa.timestamp("us", "UTC"))})


@contextmanager
def server(folder: Path, *words: str, code: str = CODE) -> Iterator[tuple[Any, Any]]:
    """The process, and a client of it."""
    (folder / "transform.py").write_text(code)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "streamctl.serve", "serve"),
            *(str(folder / "transform.py"), "--listen", "grpc://127.0.0.1:0", *words),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split("listens on ")[1].split(",")[0]
        with flight.connect(address) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def call(
    client: Any, batch_id: int, rows: pa.Table = ROWS, token: str | None = None, **more: Any
) -> tuple[Any, list[Any]]:
    """The rows and the messages of one call."""
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    options = flight.FlightCallOptions(headers=headers)
    command = {"type": "call", "batch_id": batch_id, "attempt": 1, "job": "sales"} | more
    descriptor = flight.FlightDescriptor.for_command(json.dumps(command))
    writer, reader = client.do_exchange(descriptor, options)
    writer.begin(rows.schema)
    writer.write_table(rows)
    writer.done_writing()
    batches, messages = [], []
    for chunk in reader:
        if chunk.data is not None:
            batches.append(chunk.data)
        if chunk.app_metadata is not None:
            messages.append(json.loads(chunk.app_metadata.to_pybytes()))
    writer.close()
    return pa.Table.from_batches(batches) if batches else None, messages


def failure(client: Any, batch_id: int, **more: Any) -> dict[str, Any]:
    """The error of a call that fails: the JSON at the start of the Flight error's message."""
    with pytest.raises(flight.FlightError) as caught:
        call(client, batch_id, **more)
    return dict(json.JSONDecoder().raw_decode(str(caught.value))[0])


def test_a_call_gets_rows_messages_and_errors(tmp_path: Path) -> None:
    with server(tmp_path, "--processes", "1", "--memory", "1") as (process, client):
        rows, messages = call(client, 0)
        assert rows.select(["n", "at"]) == ROWS
        assert [message["type"] for message in messages] == ["log", "done"]
        assert messages[0] == {"type": "log", "level": "warning", "text": "here"}
        pid = rows.column("pid")[0].as_py()

        rows, messages = call(client, 1)
        assert rows is None
        assert (messages[-1]["type"], messages[-1]["result"]) == ("done", "none")

        error = failure(client, 2)
        assert (error["kind"], error["file"], error["line"]) == ("ValueError", "transform.py", 11)
        assert error["message"].startswith("no second batch: éé")

        rows, messages = call(client, 4)
        assert rows.column("n").to_pylist() == [2, 3]
        dead = next(message for message in messages if message["type"] == "dead")
        assert dead["reasons"] == ["bad"]
        row = {"n": 1, "at": "1970-01-01T00:00:00+00:00"}
        assert [json.loads(line) for line in dead["rows_json"].split("\n")] == [row]

        _, messages = call(client, 0, ROWS.slice(0, 0), empty=True)
        assert messages[-1]["rows"] == 0
        assert call(client, 0)[0].column("pid")[0].as_py() == pid, "the process is kept"

        assert failure(client, 3)["message"].endswith("ended with exit code 7")
        rows, _ = call(client, 0)
        assert rows.column("pid")[0].as_py() != pid, "another process takes over"

        assert failure(client, 0, name="other")["kind"] == "NameError"
        assert failure(client, 0, lookups={"a": "b"})["kind"] == "ProtocolError"
        assert failure(client, 0, type="hello")["kind"] == "ProtocolError"
        large = pa.table({"n": list(range(200_000)), "at": ROWS["at"].take([0] * 200_000)})
        assert failure(client, 0, rows=large)["kind"] == "MemoryError"

        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_calls_at_the_same_time_run_in_processes_of_their_own(tmp_path: Path) -> None:
    with server(tmp_path, "--processes", "2") as (_, client):
        found: list[int] = []

        def one(start: int) -> None:
            # Each waits in the function until the other is there, too.
            rows, _ = call(client, 5, window_start_ms=start)
            found.append(rows.column("pid")[0].as_py())

        threads = [threading.Thread(target=one, args=(start,)) for start in (1000, 2000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(set(found)) == 2
        assert os.getpid() not in found


def test_code_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "transform.py"
    file.write_text("def process_batch(frame):\n    pass\n")
    words = [sys.executable, "-m", "streamctl.serve", "serve", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: transform.py, line 1: TypeError: process_batch takes 1 parameter" in done.stderr
    words[-1] = str(tmp_path / "absent.py")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "absent.py is not a file" in done.stderr) == (1, True)


def test_a_call_per_key_is_answered_with_rows_of_one_schema(tmp_path: Path) -> None:
    code = """
import pyarrow as pa
def process_batch(frame: pa.Table, batch_id, context):
    share = None if context.key["n"] == 1 else 0.5
    return pa.table({"n": [context.key["n"]], "share": pa.array([share])})
"""
    with server(tmp_path, "--processes", "1", code=code) as (_, client):
        rows, messages = call(client, 0, by=["n"])
        assert rows.to_pydict() == {"n": [1, 2, 3], "share": [None, 0.5, 0.5]}
        assert messages[-1]["keys"] == 3


def test_callers_show_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    with server(tmp_path, "--token-file", str(token)) as (_, client):
        for wrong in (None, "another"):
            with pytest.raises(flight.FlightUnauthenticatedError, match="token"):
                call(client, 0, token=wrong)
        rows, _ = call(client, 0, token=TOKEN)
        assert rows.num_rows == 3
    (tmp_path / "short").write_text("short\n")
    words = [*(sys.executable, "-m", "streamctl.serve", "serve", str(tmp_path / "transform.py"))]
    short = [*words, "--listen", "grpc://127.0.0.1:0", "--token-file", str(tmp_path / "short")]
    done = subprocess.run(short, capture_output=True, text=True, check=False)
    assert "32 to 512 visible ASCII characters" in done.stderr
    words += ["--listen", "grpc://0.0.0.0:0", "--token-file", str(token)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "a token is not sent without TLS" in done.stderr) == (2, True)

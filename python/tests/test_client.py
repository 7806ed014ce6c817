"""The client, with a controller and a worker as processes, and with controllers that refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from cluster import cluster, free_port

import streamctl
from streamctl import Client, _wire

JOB = """
name = "{name}"
[source]
type = "generator"
shards = 2
rate = {rate}
bad_every = 40
{bound}
[window]
size = "{window}"
[transform]
sql = "SELECT uuid, country, unitssold FROM source"
[sink]
path = "{folder}/{name}/out/"
[checkpoint]
location = "{folder}/{name}/checkpoint/"
"""


def job(folder: Path, name: str, *, records: int = 0, rate: int = 200, window: str = "1s") -> str:
    """A job on made-up records; without their number it does not end."""
    bound = f"records_per_shard = {records}" if records else ""
    return JOB.format(folder=folder, name=name, rate=rate, bound=bound, window=window)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def client(home: Path, program: str) -> Iterator[Client]:
    with cluster(home, program) as url, Client(url) as client:
        yield client


def until(what: Callable[[], Any], patience_s: float = 60) -> Any:
    """The first value that is true."""
    limit = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.05)
    return found


def test_a_job_runs_from_submit_to_delete(client: Client, home: Path) -> None:
    file = home / "bounded.toml"
    file.write_text(job(home, "bounded", records=100))
    tried = client.submit(file, dry_run=True)
    assert (tried.job, tried.created) == ("bounded", False)
    assert client.jobs() == []
    submitted = client.submit(str(file))
    assert submitted.created
    assert submitted.output_columns == {
        "uuid": "Utf8",
        "country": "Utf8",
        "unitssold": "Utf8",
    }
    assert not client.submit(file).created, "the same file again changes nothing"

    rows = client.tail("bounded", start=1)
    frames = list(rows)
    assert all(isinstance(frame, pd.DataFrame) for frame in frames)
    assert frames[0].dtypes["uuid"] == pd.ArrowDtype(pa.string())
    status = client.status("bounded")
    assert (status.state, status.published) == ("completed", status.epoch)
    assert status.totals["rows_in"] == 200
    assert sum(len(frame) for frame in frames) == status.totals["rows_out"] == 196
    assert isinstance(status.fields["shards"], list)

    windows = client.windows("bounded", first=1)
    assert [window.epoch for window in windows] == list(range(1, status.epoch + 1))
    assert sum(window.counts["rows_out"] for window in windows) == 196
    assert all(window.published for window in windows)
    length = windows[0].window_end - windows[0].window_start
    assert length.total_seconds() == 1

    dead = client.dead_letters("bounded", frame="pyarrow")
    assert dead.num_rows == 4
    assert {"epoch", "reason", "payload"} <= set(dead.column_names)
    assert client.dead_letters("bounded", frame="polars", limit=2).height == 2

    verified = client.verify("bounded", deep=True)
    assert (verified.verdict, verified.summary["epochs"]) == ("proven", status.epoch)

    assert client.delete("bounded")["epoch"] == status.epoch
    with pytest.raises(streamctl.StreamctlError) as caught:
        client.status("bounded")
    assert caught.value.code == "not_found"


def test_a_tail_goes_on_where_it_stopped(client: Client, home: Path) -> None:
    client.submit(job(home, "flowing"))
    other = job(home, "flowing").replace("uuid, country", "uuid")
    with pytest.raises(streamctl.StreamctlError) as caught:
        client.submit(other)
    assert caught.value.code == "already_exists", "another file needs change=True"
    assert client.submit(other, change=True, dry_run=True).changes[0]["field"] == "transform.sql"
    # The newest epoch, or the first one.
    rows = client.tail("flowing", frame="polars")
    first = next(rows)
    assert isinstance(first, pl.DataFrame)
    kept = json.loads(json.dumps(rows.state))
    assert kept["next_epoch"] == rows.epoch + 1
    second = next(rows)
    again = client.tail("flowing", kept, frame="polars")
    assert next(again).equals(second), "the epoch after the one that was kept"
    assert again.epoch == rows.epoch

    client.stop("flowing")
    state = until(lambda: client.status("flowing").state == "stopped")
    assert state
    rest = list(again)
    last = client.status("flowing").published
    assert again.state["next_epoch"] == last + 1
    assert list(client.tail("flowing", again.state)) == []
    uuids = pl.concat([second, *rest])["uuid"]
    assert uuids.n_unique() == len(uuids)

    assert client.resume(job(home, "flowing")).resumed
    assert next(client.tail("flowing", again.state, frame="polars")).height > 0
    client.stop("flowing", drain=True)
    until(lambda: client.status("flowing").state == "stopped")
    client.delete("flowing")
    client.submit(job(home, "flowing-2").replace('"flowing-2"', '"flowing"', 1))
    with pytest.raises(streamctl.StreamctlError) as caught:
        client.tail("flowing", kept)
    assert caught.value.code == "stale_state"
    client.stop("flowing")


def test_a_tail_survives_a_while_without_an_answer(
    client: Client, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.submit(job(home, "patient", records=200))
    until(lambda: client.status("patient").state == "completed")
    asked = client._page
    calls: list[Any] = []
    failures = {1, 3}

    def failing(*words: Any, **more: Any) -> Any:
        calls.append(words)
        if len(calls) in failures:
            raise streamctl.StreamctlError("unavailable", "no controller leads at the moment")
        return asked(*words, **more)

    monkeypatch.setattr(client, "_page", failing)
    monkeypatch.setattr("streamctl.client.RETRY_S", 0.01)
    count = sum(len(frame) for frame in client.tail("patient", start=1))
    assert count == client.status("patient").totals["rows_out"] == 390
    calls.clear()
    failures = {1}
    impatient = client.tail("patient", start=1, patience_s=0)
    with pytest.raises(streamctl.StreamctlError, match="no controller leads"):
        next(impatient)
    assert sum(len(frame) for frame in impatient) > 0, "it goes on after the error"


def test_a_job_that_is_not_there_does_not_go_on(client: Client, home: Path) -> None:
    for call in (client.status, client.stop, client.delete, client.tail, client.windows):
        with pytest.raises(streamctl.StreamctlError) as caught:
            call("absent")
        assert caught.value.code == "not_found", call
    with pytest.raises(streamctl.StreamctlError) as caught:
        client.resume(job(home, "absent"))
    assert caught.value.code == "not_found"
    assert "absent" not in {job.job for job in client.jobs()}
    with pytest.raises(streamctl.StreamctlError) as caught:
        client.submit("name = 7\n")
    assert caught.value.code == "invalid_argument"
    assert caught.value.message.count("hint: ") > 1, "every problem has its own"
    with pytest.raises(streamctl.StreamctlError, match=r"no-such\.toml"):
        client.submit("no-such.toml")


def test_a_secured_cluster_takes_tls_and_a_token(tmp_path: Path, program: str) -> None:
    openssl(tmp_path)

    entries = []
    for name, role in (("me", "admin"), ("worker-1", "worker")):
        file = str(tmp_path / f"{name}.token")
        words = [program, "-q", "token", "new", "--name", name, "--role", role, "--out", file]
        entries.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    (tmp_path / "access.toml").write_text("\n".join(entries))
    token = (tmp_path / "me.token").read_text().strip()
    pair = ["--tls-cert", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key")]
    ca = tmp_path / "ca.pem"
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    client = Client(url, token=token, ca=ca)
    with cluster(
        tmp_path,
        program,
        controller=[*pair, "--tls-ca", str(ca), "--access", str(tmp_path / "access.toml")],
        worker=[
            *(*pair, "--tls-ca", str(ca)),
            *("--join-token-file", str(tmp_path / "worker-1.token"), "--id", "worker-1"),
        ],
        scheme="https",
        client=client,
        port=port,
    ):
        client.submit(job(tmp_path, "secured", records=50))
        assert sum(len(frame) for frame in client.tail("secured", start=1)) == 98
        with pytest.raises(streamctl.StreamctlError) as caught:
            Client(url, ca=ca).jobs()
        assert caught.value.code == "unauthenticated"
        with pytest.raises(streamctl.StreamctlError) as caught:
            Client(url, token=token).jobs()
        assert caught.value.code == "unavailable", "its authority is not among the system's"


def openssl(folder: Path) -> None:
    """An authority, and a certificate for this machine."""
    subject = ["-subj", "/CN=test", "-days", "2", "-newkey", "ec"]
    subject += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    commands = [
        ["req", "-x509", *subject, "-keyout", "ca.key", "-out", "ca.pem"],
        [
            *("req", "-x509", *subject, "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", "server.key", "-out", "server.pem"),
        ],
    ]
    for words in commands:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


# -- Controllers that refuse ----------------------------------------------------------------------


class Fake:
    """A controller that answers every call in the same way."""

    def __init__(self, answer: Callable[[Any], bytes]) -> None:
        self.calls: list[dict[str, str]] = []
        self._answer = answer
        self._server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.method_handlers_generic_handler(
            "streamctl.v1.Jobs",
            {
                name: grpc.unary_unary_rpc_method_handler(self._call)
                for name in ("ListJobs", "Submit")
            },
        )
        self._server.add_generic_rpc_handlers((handler,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _call(self, request: bytes, context: Any) -> bytes:
        self.calls.append(dict(context.invocation_metadata()))
        return self._answer(context)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop(None)


def leads(_: Any) -> bytes:
    """A controller that leads, and has no jobs."""
    return bytes(_wire.message("ListJobsResponse")().SerializeToString())


def field(number: int, value: bytes) -> bytes:
    """A field of a message; short ones only."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def details(reason: str, hint: str) -> bytes:
    """A `google.rpc.Status` with an `ErrorInfo`."""
    entry = field(3, field(1, b"hint") + field(2, hint.encode()))
    info = field(1, reason.encode()) + field(2, b"streamctl") + entry
    return field(3, field(1, b"type.googleapis.com/google.rpc.ErrorInfo") + field(2, info))


def refuses(
    code: grpc.StatusCode, text: str, leader: str = "", *, hint: str = ""
) -> Callable[[Any], bytes]:
    """A controller that does not lead, or refuses."""

    def answer(context: Any) -> bytes:
        metadata: list[tuple[str, str | bytes]] = [
            ("streamctl-leader", leader) if leader else ("a", "b")
        ]
        if hint:
            metadata.append(("grpc-status-details-bin", details("INVALID_JOB_FILE", hint)))
        context.set_trailing_metadata(tuple(metadata))
        context.abort(code, text)
        return b""

    return answer


def test_a_call_follows_the_name_of_the_leader_and_remembers_it() -> None:
    leader = Fake(leads)
    named = f"127.0.0.1:{leader.port}"
    standby = Fake(refuses(grpc.StatusCode.FAILED_PRECONDITION, "this one stands by", named))
    with Client(standby.url, token="secret") as client:
        assert client.jobs() == []
        assert client.jobs() == []
        assert (len(standby.calls), len(leader.calls)) == (1, 2)
        assert leader.calls[0]["authorization"] == "Bearer secret"


def test_a_call_tries_one_address_after_the_other() -> None:
    absent = f"127.0.0.1:{free_port()}"
    waiting = Fake(refuses(grpc.StatusCode.UNAVAILABLE, "no controller leads at the moment"))
    leader = Fake(leads)
    with Client(f"{absent}, {waiting.url},{leader.url}") as client:
        assert client.jobs() == []
    with Client([absent, waiting.url]) as client, pytest.raises(streamctl.StreamctlError) as caught:
        client.jobs()
    error = caught.value
    assert error.code == "unavailable"
    assert "Connection refused" in error.message
    assert "no controller leads at the moment" in error.message


def test_two_controllers_that_name_each_other_end_in_an_error() -> None:
    first = Fake(lambda context: port_of(second, context))
    second = Fake(lambda context: port_of(first, context))

    def port_of(other: Fake, context: Any) -> bytes:
        named = f"127.0.0.1:{other.port}"
        return refuses(grpc.StatusCode.FAILED_PRECONDITION, "stands by", named)(context)

    with Client(first.url) as client, pytest.raises(streamctl.StreamctlError) as caught:
        client.jobs()
    assert caught.value.code == "unavailable"
    assert len(first.calls) + len(second.calls) == 4


def test_a_refusal_has_its_code_and_its_hint_and_goes_to_one_controller() -> None:
    refusing = Fake(
        refuses(
            grpc.StatusCode.INVALID_ARGUMENT,
            "no such column\n  hint: look again",
            hint="look again",
        )
    )
    other = Fake(leads)
    with (
        Client([refusing.url, other.url]) as client,
        pytest.raises(streamctl.StreamctlError) as caught,
    ):
        client.jobs()
    error = caught.value
    assert (error.code, error.message, error.hint) == (
        "invalid_argument",
        "no such column",
        "look again",
    )
    assert other.calls == []


def test_a_job_file_that_broke_a_controller_is_not_sent_to_the_next() -> None:
    other = Fake(leads)

    over = threading.Event()

    def breaks(_: Any) -> bytes:
        threading.Thread(target=broken.stop).start()
        over.wait()
        return b""

    broken = Fake(breaks)
    with (
        Client([broken.url, other.url]) as client,
        pytest.raises(streamctl.StreamctlError) as caught,
    ):
        client.submit("name = 'sales'\n")
    over.set()
    assert caught.value.code in ("unavailable", "cancelled")
    assert other.calls == []


@pytest.mark.parametrize("package", ["grpc", "google.protobuf"])
def test_without_its_packages_the_client_says_what_to_install(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; import streamctl\n"
        "try: streamctl.Client('127.0.0.1:1').jobs()\n"
        "except streamctl.StreamctlError as error: print(error.code, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("import_error pip install"), done.stdout


def test_a_token_is_not_shown() -> None:
    with Client("https://controller:7070", token="secret") as client:
        assert "secret" not in repr(client._security)


def test_a_token_is_not_sent_to_another_machine_without_tls() -> None:
    with pytest.raises(streamctl.StreamctlError, match="not sent to controller without TLS"):
        Client("http://controller:7070", token="secret")
    for wrong in ("", "ftp://host:1", "host"):
        with pytest.raises(streamctl.StreamctlError, match="controller"):
            Client([wrong])

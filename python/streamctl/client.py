"""A client for a cluster: jobs over gRPC, rows over Arrow Flight.

Owns: requests and answers as Python values, following a job's epochs. Does not own: connections
(`_calls`), what a ticket means (the workers).
Rule: rows come in the order of the epochs, each epoch once; where reading stopped is a value that
can be kept.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.flight as flight

from . import _code, _job, _runner, _wire
from ._calls import DEFAULT_URL, Controllers, Security, addresses
from .errors import StreamctlError

__all__ = ["Client", "Epoch", "JobStatus", "Submitted", "Tail", "Verified"]

FrameKind = Literal["pandas", "polars", "pyarrow"]

#: Epochs per request, and of one request for dead letters.
EPOCHS_PER_REQUEST = 16
EPOCHS_PER_LOOK = 100
#: Seconds between two looks for a newer epoch.
POLL_S = 0.25
#: Seconds between two attempts while nothing answers.
RETRY_S = 1.0
#: How many times a new grant is requested because a worker refuses the current one.
GRANT_RENEWALS_MAX = 8
#: The location that stands for the server of the endpoints.
REUSE_CONNECTION = "arrow-flight-reuse-connection://?"
ENDED = ("stopped", "completed", "failed")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class JobStatus:
    """The state of a job.

    Attributes:
        job: Its name.
        state: `starting`, `running`, `waiting`, `draining`, `stopped`, `completed` or `failed`.
        epoch: The last committed epoch; 0 before the first.
        published: The last published epoch.
        lag_ms: How far the job is behind its stream.
        waiting_on: What it waits for.
        error: Why it failed.
        hint: What to do then.
        totals: Counts since the job began: `rows_in`, `rows_out`, `rows_dead` and others.
        fields: All fields of the answer, by their names in `jobs.proto`.
    """

    job: str
    state: str
    epoch: int
    published: int
    lag_ms: int
    waiting_on: list[str]
    error: str
    hint: str
    totals: dict[str, Any]
    fields: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Epoch:
    """A committed epoch of a job: one window.

    Attributes:
        epoch: Its number.
        window_start: The first moment of the window.
        window_end: The first moment after it.
        counts: `rows_in`, `rows_out`, `rows_dead` and others.
        published: Whether its rows are visible.
        objects: How many objects it wrote.
        fields: All fields of the answer, by their names in `jobs.proto`.
    """

    epoch: int
    window_start: datetime
    window_end: datetime
    counts: dict[str, Any]
    published: bool
    objects: int
    fields: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Submitted:
    """The answer to a job file.

    Attributes:
        job: The job's name.
        created: Whether it is new; `False` if this very job was there.
        changed: Whether the file replaced an older version.
        resumed: Whether the job had ended and goes on.
        job_version: The version that makes the next epoch.
        output_columns: Names and types of the result's columns.
        remarks: What is worth knowing and need not be fixed.
        changes: What is different from the version before.
        fields: All fields of the answer, by their names in `jobs.proto`.
    """

    job: str
    created: bool
    changed: bool
    resumed: bool
    job_version: int
    output_columns: dict[str, str]
    remarks: list[str]
    changes: list[dict[str, Any]]
    fields: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Verified:
    """The outcome of a verification.

    Attributes:
        verdict: `proven`, `broken` (a promise is not kept) or `unchecked` (something could not be
            looked at).
        findings: What was found, with `severity`, `kind`, `epoch`, `subject`, `text` and `hint`.
        summary: Epochs, objects and rows that were looked at.
    """

    verdict: Literal["proven", "broken", "unchecked"]
    findings: list[dict[str, Any]]
    summary: dict[str, Any]


class Client:
    """Speaks to the controllers of a cluster, and to its workers.

    Args:
        url: The controllers: one address, several separated by commas, or a list. By default
            STREAMCTL_CONTROLLER, else http://127.0.0.1:7070.
        token: The caller's token.
        ca: A file with the trusted authorities; by default the system's.
        cert: A file with the client's certificate.
        key: A file with its key.
        server_name: The name in the servers' certificates, if it is not their address.

    Calls raise `StreamctlError` with the code of the refusal (`not_found`, `invalid_argument`,
    `unavailable` ...). A client may be used by several threads, and closed by `close` or `with`.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
    ) -> None:
        self._security = Security(token, _path(ca), _path(cert), _path(key), server_name)
        urls = addresses(url or os.environ.get("STREAMCTL_CONTROLLER") or DEFAULT_URL)
        self._controllers = Controllers(urls, self._security)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._controllers.close()

    # -- Jobs -------------------------------------------------------------------------------------

    def submit(
        self,
        job: str | os.PathLike[str],
        *,
        change: bool = False,
        dry_run: bool = False,
        if_version: int = 0,
    ) -> Submitted:
        """Starts a job, or replaces its file.

        Args:
            job: The path of a job file, or its text. The code of its function is sent along, from
                the folder of the file; of a text, from the working folder.
            change: Replace the file of a job that is there; without it another file is refused.
            dry_run: Check everything, start nothing.
            if_version: Only if the job is at this version; 0: at any.
        """
        text, folder = _text(job)
        kind = _wire.message("SubmitRequest")
        request = kind(spec_toml=text, change=change, dry_run=dry_run, if_version=if_version)
        if "function_code" in kind.DESCRIPTOR.fields_by_name:
            for name, content in _code.pack(text, folder).items():
                request.function_code.add(name=name, content=content)
        found = self._jobs("Submit", request, "SubmitResponse", once=True)
        columns = {column["name"]: column["type"] for column in found["output_columns"]}
        outcome = found["outcome"]
        return Submitted(
            found["job"],
            outcome == "created",
            outcome == "changed",
            outcome == "resumed",
            found["job_version"],
            columns,
            found["remarks"],
            found["changes"],
            found,
        )

    def resume(self, job: str | os.PathLike[str]) -> Submitted:
        """Lets a stopped or failed job go on, from its path or its text: the same file again.

        Raises:
            StreamctlError: `not_found` if there is no such job; it is not started.
        """
        self.status(self.submit(job, dry_run=True).job)
        return self.submit(job)

    def status(self, job: str) -> JobStatus:
        """The state of a job."""
        request = _wire.message("GetJobRequest")(job=job)
        return _status(self._jobs("GetJob", request, "JobStatus"))

    def jobs(self) -> list[JobStatus]:
        """The states of all jobs."""
        request = _wire.message("ListJobsRequest")()
        jobs: list[JobStatus] = []
        while True:
            page = self._jobs("ListJobs", request, "ListJobsResponse")
            jobs.extend(_status(job) for job in page["jobs"])
            if not page["next_page_token"]:
                return jobs
            request.page_token = page["next_page_token"]

    def windows(self, job: str, *, first: int = 0, last: int = 0, limit: int = 20) -> list[Epoch]:
        """Committed epochs, oldest first: by default the newest 20.

        Args:
            job: The job's name.
            first: The first epoch; 0: the newest `limit` ones up to `last`.
            last: The last epoch; 0: the last committed one.
            limit: How many, at most 1,000.
        """
        request = _wire.message("ListEpochsRequest")(
            **{"job": job, "from": first, "to": last, "limit": limit}
        )
        found = self._jobs("ListEpochs", request, "ListEpochsResponse")
        return [_epoch(epoch) for epoch in found["epochs"]]

    def stop(self, job: str, *, drain: bool = False) -> JobStatus:
        """Stops a job; its position is kept. `drain` finishes the open windows first."""
        request = _wire.message("StopJobRequest")(job=job, drain=drain)
        return _status(self._jobs("StopJob", request, "JobStatus"))

    def delete(self, job: str, *, force: bool = False, purge: bool = False) -> dict[str, Any]:
        """Forgets a stopped job; its files stay. `force` gives up epochs that are not published.

        `purge` removes its manifests, lookup versions and job files, too.
        """
        request = _wire.message("DeleteJobRequest")(job=job, force=force, purge=purge)
        return self._jobs("DeleteJob", request, "DeleteJobResponse")

    def verify(
        self,
        job: str,
        *,
        first: int = 0,
        last: int = 0,
        replay: Sequence[int] = (),
        deep: bool = False,
    ) -> Verified:
        """Verifies that every record was written exactly once.

        Args:
            job: The job's name.
            first: The first epoch; 0: of all.
            last: The last epoch; 0: the last committed one.
            replay: Epochs to read from the source again, and to compare row by row.
            deep: Read every object.
        """
        request = _wire.message("VerifyRequest")(
            **{"job": job, "from": first, "to": last, "replay": list(replay), "deep": deep}
        )
        answer = _wire.message("VerifyEvent").FromString
        findings = []
        summary: dict[str, Any] | None = None
        for event in self._controllers.stream(_method("Verify"), request, answer=answer):
            found = _wire.record(event)
            if found["finding"] is not None:
                findings.append(found["finding"])
            summary = found["summary"] or summary
        if summary is None:
            raise StreamctlError("aborted", "the verification broke off", "run it again")
        verdict: Literal["proven", "broken", "unchecked"] = "proven"
        if summary["faults"]:
            verdict = "broken"
        elif summary["unchecked"]:
            verdict = "unchecked"
        return Verified(verdict, findings, summary)

    # -- Rows -------------------------------------------------------------------------------------

    def tail(
        self,
        job: str,
        start: int | Mapping[str, Any] | None = None,
        *,
        frame: FrameKind = "pandas",
        follow: bool = True,
        last: int | None = None,
        patience_s: float = 60.0,
    ) -> Tail:
        """The rows of a job as its epochs are published: an iterator of one frame per epoch.

        Args:
            job: The job's name.
            start: The first epoch, or the `state` of an earlier `Tail`, which goes on there. By
                default the newest published epoch.
            frame: The kind of frame: pandas (with Arrow types), polars or pyarrow.
            follow: Wait for further epochs until the job ends; else stop at the newest.
            last: The last epoch.
            patience_s: For how long to try again while no controller leads, or no worker answers,
                before the error is raised. The iterator can go on after it.
        """
        return Tail(self, job, start, frame, follow, last, patience_s)

    def dead_letters(
        self,
        job: str,
        *,
        first: int = 1,
        last: int | None = None,
        limit: int = 10_000,
        frame: FrameKind = "pandas",
    ) -> Any:
        """Records that could not be decoded or computed: position, reason and bytes.

        Rows of the result that could not be written, or that the job's function put aside, are
        among them: their `kind` is "row", their `payload` the row as JSON.

        Args:
            job: The job's name.
            first: The first epoch.
            last: The last epoch; by default the newest.
            limit: How many rows at most.
            frame: The kind of frame.
        """
        parts: list[pa.Table] = []
        count = 0
        schema = None
        while count < limit and (last is None or first <= last):
            page = self._page(job, first, last, EPOCHS_PER_LOOK, dead_letters=True)
            schema = schema or page.schema
            for endpoint in page.endpoints:
                part = page.read(endpoint).slice(0, limit - count)
                count += part.num_rows
                parts.append(part)
                if count >= limit:
                    break
            if page.next_epoch <= first:
                break
            first = page.next_epoch
        if schema is None:
            raise StreamctlError("invalid_argument", "last is before first, or limit is 0")
        table = pa.concat_tables(parts) if parts else schema.empty_table()
        return _runner.frames_of(frame).make(_runner.plain(table))

    def _page(
        self, job: str, first: int, last: int | None, limit: int, *, dead_letters: bool = False
    ) -> _Page:
        command: dict[str, Any] = {"job": job, "from": first, "to": last, "limit": limit}
        if dead_letters:
            command["dead_letters"] = True
        descriptor = flight.FlightDescriptor.for_command(json.dumps(command))
        info, origin = self._controllers.unary(
            "/arrow.flight.protocol.FlightService/GetFlightInfo",
            descriptor,
            serialize=lambda message: bytes(message.serialize()),
            answer=flight.FlightInfo.deserialize,
        )

        def again() -> _Page:
            return self._page(job, first, last, limit, dead_letters=dead_letters)

        return _Page(info, origin, self._security, again)

    def _jobs(
        self, method: str, request: Any, answer: str, *, once: bool = False
    ) -> dict[str, Any]:
        parse = _wire.message(answer).FromString
        found, _ = self._controllers.unary(_method(method), request, answer=parse, once=once)
        return _wire.record(found)


class Tail(Iterator[Any]):
    """The rows of a job, one frame per epoch.

    Attributes:
        epoch: The epoch of the frame that came last; 0 before the first.
    """

    def __init__(
        self,
        client: Client,
        job: str,
        start: int | Mapping[str, Any] | None,
        frame: FrameKind,
        follow: bool,
        last: int | None,
        patience_s: float,
    ) -> None:
        self._client = client
        self._job = job
        self._frames = _runner.frames_of(frame)
        self._follow = follow
        self._last = last
        self._patience_s = patience_s
        self._ready: list[tuple[int, list[tuple[_Page, Any]], int]] = []
        self.epoch = 0
        status = client.status(job)
        self._submitted_ms = int(status.fields["submitted_ms"])
        if isinstance(start, Mapping):
            self._next = self._checked(start)
        else:
            self._next = max(1, status.published if start is None else start)

    def _checked(self, state: Mapping[str, Any]) -> int:
        if state.get("job") != self._job or not isinstance(state.get("next_epoch"), int):
            raise StreamctlError(
                "invalid_argument", f"start is no state of a tail of {self._job}: {dict(state)}"
            )
        if state.get("submitted_ms") != self._submitted_ms:
            raise StreamctlError(
                "stale_state",
                f"the job {self._job} was deleted and submitted again since the state was kept",
                "begin with start=1: its epochs are numbered anew",
            )
        return int(state["next_epoch"])

    @property
    def state(self) -> dict[str, Any]:
        """Where to go on: the epoch after the frame that came last. JSON can hold it."""
        return {
            "job": self._job,
            "next_epoch": self._next,
            "submitted_ms": self._submitted_ms,
        }

    def __iter__(self) -> Tail:
        return self

    def __next__(self) -> Any:
        """The frame of the next epoch that has rows; waits for it."""
        failing_since: float | None = None
        while True:
            try:
                return self._following()
            except StreamctlError as error:
                now = time.monotonic()
                failing_since = failing_since or now
                if error.code != "unavailable" or now - failing_since >= self._patience_s:
                    raise
                # The locations may be those of workers that are gone.
                self._ready.clear()
                time.sleep(RETRY_S)

    def _following(self) -> Any:
        while self._ready or self._look():
            epoch, parts, next_epoch = self._ready[0]
            table = pa.concat_tables([page.read(endpoint) for page, endpoint in parts])
            # Only now: after an error the same epoch is read again.
            self._ready.pop(0)
            self._next = next_epoch
            if table.num_rows:
                self.epoch = epoch
                return self._frames.make(_runner.plain(table))
        raise StopIteration

    def _look(self) -> bool:
        """Looks for further epochs; `False` if there will be none."""
        while self._last is None or self._next <= self._last:
            page = self._client._page(self._job, self._next, self._last, EPOCHS_PER_REQUEST)
            if page.next_epoch < self._next:
                raise StreamctlError("internal", f"epoch {page.next_epoch} after {self._next}")
            found: dict[int, list[tuple[_Page, Any]]] = {}
            for endpoint in page.endpoints:
                found.setdefault(_epoch_of(endpoint, self._next), []).append((page, endpoint))
            epochs = sorted(found)
            # Epochs without rows have no endpoint: the last one takes the reader past them.
            after = [*epochs[1:], page.next_epoch]
            self._ready = [
                (epoch, found[epoch], following)
                for epoch, following in zip(epochs, after, strict=False)
            ]
            if self._ready:
                return True
            nothing_new = page.next_epoch == self._next
            self._next = page.next_epoch
            if nothing_new:
                if not self._follow or page.state in ENDED:
                    return False
                time.sleep(POLL_S)
        return False


class _Page:
    """The locations of the rows of some epochs."""

    def __init__(self, info: Any, origin: str, security: Security, again: Any) -> None:
        metadata = json.loads(info.app_metadata)
        self.next_epoch = int(metadata["next_epoch"])
        self.state = str(metadata["state"])
        self.schema = info.schema
        self.endpoints = list(info.endpoints)
        self._grant: str | None = metadata.get("grant")
        self._origin = origin
        self._security = security
        self._again = again

    def read(self, endpoint: Any) -> pa.Table:
        """The rows of one endpoint, from the first of its locations that returns them."""
        for _ in range(GRANT_RENEWALS_MAX):
            try:
                return self._attempt(endpoint)
            except _GrantRefused:
                # The grant is too old, or another controller leads, which signs with another key.
                time.sleep(POLL_S)
                self._grant = self._again()._grant
        return self._attempt(endpoint)

    def _attempt(self, endpoint: Any) -> pa.Table:
        uris = [location.uri.decode() for location in endpoint.locations] or [REUSE_CONNECTION]
        failures = []
        refused = False
        for uri in uris:
            try:
                return self._read(uri, endpoint.ticket)
            except flight.FlightUnauthenticatedError as error:
                refused |= self._grant is not None
                failures.append(f"{uri}: {error}")
            except (flight.FlightError, pa.ArrowException, OSError) as error:
                failures.append(f"{uri}: {error}")
        if refused:
            raise _GrantRefused("unauthenticated", "; ".join(failures))
        raise StreamctlError(
            "unavailable", "; ".join(failures), "the next attempt reads the same epoch again"
        )

    def _read(self, uri: str, ticket: Any) -> pa.Table:
        here = uri == REUSE_CONNECTION
        url = self._origin if here else _http(uri)
        # Workers get the grant that came with their address, and never the caller's token.
        token = self._security.token if here else self._grant
        options: dict[str, Any] = {}
        if url.startswith("https://"):
            certificate, key = self._security.pair()
            options = {
                "tls_root_certs": self._security.roots(),
                "cert_chain": certificate,
                "private_key": key,
                "override_hostname": self._security.server_name,
            }
            options = {name: value for name, value in options.items() if value is not None}
        elif token:
            Security(token=token).check(url)
        location = url.replace("http://", "grpc+tcp://").replace("https://", "grpc+tls://")
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        with flight.connect(location, **options) as connection:
            reader = connection.do_get(ticket, flight.FlightCallOptions(headers=headers))
            return reader.read_all()


class _GrantRefused(StreamctlError):
    """A worker refused the grant."""


def _http(uri: str) -> str:
    """A Flight location as a URL."""
    if uri.startswith("grpc+tls://"):
        return f"https://{uri[len('grpc+tls://') :]}"
    for scheme in ("grpc+tcp://", "grpc://"):
        if uri.startswith(scheme):
            return f"http://{uri[len(scheme) :]}"
    return uri if "://" in uri else f"http://{uri}"


def _epoch_of(endpoint: Any, default: int) -> int:
    try:
        return int(json.loads(endpoint.app_metadata)["epoch"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return default


def _method(name: str) -> str:
    return f"/{_wire.PACKAGE}.Jobs/{name}"


def _path(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _text(job: str | os.PathLike[str]) -> tuple[str, Path]:
    """The text of a job file, given as its path or itself, and its folder."""
    if isinstance(job, str) and ("\n" in job or "=" in job):
        return job, Path.cwd()
    return _job.read(job), Path(job).resolve().parent


def _status(found: dict[str, Any]) -> JobStatus:
    return JobStatus(
        found["job"],
        found["state"],
        found["epoch"],
        found["published"],
        found["lag_ms"],
        found["waiting_on"],
        found["error"],
        found["hint"],
        found["totals"] or {},
        found,
    )


def _epoch(found: dict[str, Any]) -> Epoch:
    window = found["window"] or {"start_ms": 0, "end_ms": 0}
    return Epoch(
        found["epoch"],
        _EPOCH + timedelta(milliseconds=window["start_ms"]),
        _EPOCH + timedelta(milliseconds=window["end_ms"]),
        found["counts"] or {},
        found["published"],
        found["objects"],
        found,
    )

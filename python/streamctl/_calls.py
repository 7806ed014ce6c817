"""Calls to the leading controller, over gRPC.

Owns: addresses, TLS, the token, finding the leader. Does not own: requests and answers (`client`).
Rule: a call is tried at each address until the leader answers; a call that plans a query is not
sent to another controller after a connection broke, because the query may be what broke it. A
token is never sent to another machine without TLS.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from . import _details, _wire
from .errors import StreamctlError

try:
    import grpc
except ImportError:
    raise _wire.missing("grpcio") from None

#: The address of a controller on this machine.
DEFAULT_URL = "http://127.0.0.1:7070"
#: Carries the leader's address in a refusal.
LEADER_METADATA = "streamctl-leader"
#: How many redirects one call follows.
LEADER_HOPS_MAX = 3
#: Seconds for a connection, and for an answer: `submit` reads the catalog and plans the query.
CONNECT_S = 3.0
CALL_S = 60.0
#: The limit of the controllers.
MESSAGE_BYTES_MAX = 16 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class Security:
    """What a client trusts and shows. The files are read at each connection, as they are then."""

    token: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None

    def roots(self) -> bytes | None:
        """The certificates of trusted authorities: those of `ca`, else the system's."""
        path = self.ca or ssl.get_default_verify_paths().cafile
        return None if path is None else _bytes(path)

    def pair(self) -> tuple[bytes | None, bytes | None]:
        """Certificate and key of the client."""
        if (self.cert is None) != (self.key is None):
            raise StreamctlError("invalid_argument", "cert and key belong together")
        if self.cert is None or self.key is None:
            return None, None
        return _bytes(self.cert), _bytes(self.key)

    def check(self, url: str) -> None:
        """Refuses to send a token over a connection that others can read."""
        host = _host(url)
        if self.token and not url.startswith("https://") and not _is_loopback(host):
            raise StreamctlError(
                "invalid_argument",
                f"a token is not sent to {host} without TLS",
                "write https://, or ask without a token",
            )


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StreamctlError("not_found", f"{path}: {error.strerror}") from None


def _host(url: str) -> str:
    return url.split("://", 1)[1].split("/")[0].rpartition(":")[0].strip("[]")


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def addresses(text: str | Sequence[str]) -> list[str]:
    """Addresses as URLs; a text may hold several, separated by commas."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    found = []
    for part in (part.strip() for part in parts):
        if not part:
            continue
        url = part if "://" in part else f"http://{part}"
        if not url.startswith(("http://", "https://")) or not url.rpartition(":")[2].isdigit():
            raise StreamctlError(
                "invalid_argument",
                f"{part!r} is not the address of a controller",
                "for example http://127.0.0.1:7070, or https://host:7070",
            )
        found.append(url)
    if not found:
        raise StreamctlError("invalid_argument", "no controller is named", f"such as {DEFAULT_URL}")
    return found


def like(base: str, address: str) -> str:
    """An address with the scheme of another one."""
    return f"{base.split('://')[0]}://{address.split('://')[-1]}"


class Controllers:
    """The controllers of a cluster, one of which leads."""

    def __init__(self, urls: Sequence[str], security: Security) -> None:
        self._urls = list(urls)
        self._security = security
        self._channels: dict[str, Any] = {}
        self._lock = threading.Lock()
        #: The controller that answered last.
        self._leader: str | None = None
        for url in urls:
            security.check(url)

    def close(self) -> None:
        """Closes all connections."""
        for url in list(self._channels):
            self._drop(url)

    def unary(
        self,
        method: str,
        request: Any,
        *,
        answer: Callable[[bytes], T],
        serialize: Callable[[Any], bytes] | None = None,
        once: bool = False,
    ) -> tuple[T, str]:
        """The answer of the leader, and its address."""
        return self._call(
            lambda channel: channel.unary_unary(
                method,
                request_serializer=serialize or (lambda message: message.SerializeToString()),
                response_deserializer=answer,
            )(request, timeout=CALL_S, metadata=self._metadata()),
            once,
        )

    def stream(self, method: str, request: Any, *, answer: Callable[[bytes], T]) -> Iterator[T]:
        """The answers of the leader, one after the other."""

        def begin(channel: Any) -> tuple[T | None, Any]:
            call = channel.unary_stream(
                method,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer,
            )(request, metadata=self._metadata())
            # A controller that does not lead refuses instead of its first answer.
            return next(call, None), call

        (first, call), _ = self._call(begin, once=False)
        if first is None:
            return
        yield first
        try:
            yield from call
        except grpc.RpcError as error:
            raise _error(error) from None

    def _drop(self, url: str) -> None:
        with self._lock:
            channel = self._channels.pop(url, None)
        if channel is not None:
            channel.close()

    def _metadata(self) -> list[tuple[str, str]]:
        token = self._security.token
        return [("authorization", f"Bearer {token}")] if token else []

    def _channel(self, url: str) -> Any:
        with self._lock:
            if url not in self._channels:
                self._channels[url] = self._open(url)
            return self._channels[url]

    def _open(self, url: str) -> Any:
        self._security.check(url)
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.enable_retries", 0),
            # A connection of its own, which does not wait out the failures of an earlier one.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        target = url.split("://", 1)[1]
        if url.startswith("https://"):
            if self._security.server_name:
                options.append(("grpc.ssl_target_name_override", self._security.server_name))
            certificate, key = self._security.pair()
            credentials = grpc.ssl_channel_credentials(self._security.roots(), key, certificate)
            return grpc.secure_channel(target, credentials, options)
        return grpc.insecure_channel(target, options)

    def _connect(self, url: str) -> Any:
        """A channel to an address that accepts connections.

        gRPC reports a refused and a broken connection alike, and only the first proves that the
        request was not sent: so the address is tried before.
        """
        host, _, port = url.split("://", 1)[1].split("/")[0].rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except OSError as error:
            raise _Unreachable(f"{url}: {error.strerror or error}") from None
        return self._channel(url)

    def _call(self, call: Callable[[Any], T], once: bool) -> tuple[T, str]:
        leader = self._leader
        waiting = deque([leader] if leader else [])
        waiting.extend(url for url in self._urls if url != leader)
        failures = []
        hint = ""
        hops = 0
        while waiting:
            url = waiting.popleft()
            try:
                channel = self._connect(url)
            except _Unreachable as error:
                failures.append(str(error))
                continue
            try:
                found = call(channel)
            except grpc.RpcError as error:
                failure = _error(error)
                failures.append(f"{url}: {failure.message}")
                hint = hint or failure.hint
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    # The next call connects anew, with the certificates of then.
                    self._drop(url)
                named = _leader(error)
                if named and hops < LEADER_HOPS_MAX:
                    hops += 1
                    waiting.appendleft(like(url, named))
                elif not named and not self._is_elsewhere(error, once):
                    raise failure from None
                continue
            self._leader = url
            return found, url
        raise StreamctlError(
            "unavailable",
            "; ".join(failures),
            hint or "is streamctl-controller running?",
        )

    @staticmethod
    def _is_elsewhere(error: Any, once: bool) -> bool:
        """Whether another controller may answer a call that failed."""
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return not once
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return False
        # A status of the controller itself comes with the headers of its answer.
        of_controller = bool(error.trailing_metadata()) or bool(error.initial_metadata())
        return of_controller or not once


class _Unreachable(Exception):
    """An address does not accept connections."""


def _leader(error: Any) -> str | None:
    if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
        return None
    for key, value in error.trailing_metadata() or ():
        if key == LEADER_METADATA and value:
            return str(value)
    return None


def _error(error: Any) -> StreamctlError:
    """A status as an exception."""
    code = error.code().name.lower()
    text = str(error.details())
    found = _details.read(error)
    if found.problems:
        return StreamctlError(code, "\n".join(found.problems), reason=found.reason)
    message = text.removesuffix(f"\n  hint: {found.hint}") if found.hint else text
    return StreamctlError(code, message, found.hint, reason=found.reason)

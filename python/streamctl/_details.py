"""The details of a refused call: reason, hint, and problems of a job file.

Owns: reading `google.rpc.Status` out of a call's metadata. Does not own: the reasons
(docs/errors.md).
Rule: what is not understood is left out; a broken detail never hides the error itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: Where gRPC carries the details.
DETAILS_METADATA = "grpc-status-details-bin"
DOMAIN = "streamctl"


@dataclass
class Details:
    """What a refusal holds besides code and message."""

    reason: str = ""
    hint: str = ""
    #: Of a job file: text of each problem, as far as there was room.
    problems: list[str] = field(default_factory=list)


def read(error: Any) -> Details:
    """The details of an error of gRPC; empty ones if it has none of ours."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_METADATA and isinstance(value, bytes):
            try:
                return _status(value)
            except (IndexError, ValueError):
                return Details()
    return Details()


def _status(data: bytes) -> Details:
    details = Details()
    violations: list[tuple[str, str]] = []
    places: list[tuple[int, str]] = []
    for number, detail in _fields(data):
        if number != 3 or not isinstance(detail, bytes):
            continue
        parts = dict(_fields(detail))
        name = _text(parts.get(1, b"")).rpartition("/")[2]
        value = parts.get(2, b"")
        if not isinstance(value, bytes):
            continue
        if name == "google.rpc.ErrorInfo":
            _info(value, details)
        elif name == "google.rpc.BadRequest":
            violations = [(_text(f.get(1, b"")), _text(f.get(2, b""))) for f in _parts(value)]
        elif name == "streamctl.v1.ProblemDetails":
            places = [(_number(f.get(1, 0)), _text(f.get(2, b""))) for f in _parts(value)]
    for index, (key, text) in enumerate(violations):
        line, hint = places[index] if index < len(places) else (0, "")
        where = f"line {line}: " if line else ""
        details.problems.append(f"{where}{key}: {text}" + (f"\n  hint: {hint}" if hint else ""))
    return details


def _info(data: bytes, details: Details) -> None:
    reason, domain, metadata = "", "", {}
    for number, value in _fields(data):
        if number == 1:
            reason = _text(value)
        elif number == 2:
            domain = _text(value)
        elif number == 3 and isinstance(value, bytes):
            entry = dict(_fields(value))
            metadata[_text(entry.get(1, b""))] = _text(entry.get(2, b""))
    if domain == DOMAIN:
        details.reason = reason
        details.hint = metadata.get("hint", "")


def _parts(data: bytes) -> list[dict[int, int | bytes]]:
    """The fields of each message that field 1 repeats."""
    return [
        dict(_fields(value))
        for number, value in _fields(data)
        if number == 1 and isinstance(value, bytes)
    ]


def _text(value: int | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message: numbers, and bytes of known length."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field is cut")
            yield key >> 3, data[at : at + length]
            at += length
        else:
            raise ValueError(f"fields of kind {kind} are not used")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")

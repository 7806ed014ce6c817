"""Messages of the control plane, from the definitions that the wheel carries.

Owns: message classes by name, their fields as Python values. Does not own: calls (`client`).
Rule: a field that this package does not know is kept: `record` gives all that a message has.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from .errors import StreamctlError

PACKAGE = "streamctl.v1"
#: A FileDescriptorSet of `proto/streamctl/v1`, made when the wheel is built.
DEFINITIONS = "_proto.binpb"


@functools.cache
def _pool() -> Any:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool
    except ImportError:
        raise missing("protobuf") from None
    try:
        data = resources.files(__package__).joinpath(DEFINITIONS).read_bytes()
    except FileNotFoundError:
        raise StreamctlError(
            "definitions_missing",
            f"this installation has no {DEFINITIONS}",
            "install the wheel, or run `python backend.py` in the checkout's folder python/",
        ) from None
    # A pool of our own: another version of the definitions in the process does no harm.
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


def missing(package: str) -> StreamctlError:
    """The error about a package that only the client needs."""
    return StreamctlError(
        "import_error",
        f"the client needs the package {package}",
        'pip install "streamctl[client]", or pip install grpcio protobuf',
    )


@functools.cache
def message(name: str) -> Any:
    """The class of a message."""
    descriptor = _pool().FindMessageTypeByName(f"{PACKAGE}.{name}")
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)


def record(found: Any) -> dict[str, Any]:
    """All fields of a message: numbers as numbers, enums as words, absent messages as `None`."""
    return {field.name: _field(found, field) for field in found.DESCRIPTOR.fields}


def _field(found: Any, field: Any) -> Any:
    if field.has_presence and not found.HasField(field.name):
        return None
    value = getattr(found, field.name)
    if _is_repeated(field):
        return [_value(item, field) for item in value]
    return _value(value, field)


def _is_repeated(field: Any) -> bool:
    # `label` was replaced in a later version of protobuf.
    repeated = getattr(field, "is_repeated", None)
    return bool(repeated) if repeated is not None else field.label == field.LABEL_REPEATED


def _value(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return record(value)
    if field.enum_type is not None:
        found = field.enum_type.values_by_number.get(value)
        return _word(found.name, field.enum_type.name) if found else str(value)
    return value


def _word(name: str, enum: str) -> str:
    """`running`, of JOB_STATE_RUNNING of the enum JobState."""
    prefix = "".join(f"_{char}" if char.isupper() else char.upper() for char in enum)
    return name.removeprefix(prefix.lstrip("_") + "_").lower()

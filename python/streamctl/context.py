"""The third argument of a batch function, for annotations.

Owns: the names and types that a function may rely on. Does not own: the object, which the runner
makes without this package.
Rule: what stands here is what `_runner.Context` has.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable


@runtime_checkable
class Context(Protocol):
    """What a batch function may know and do besides its frame."""

    #: The number of the window, window start / window size: the same at every try.
    batch_id: int
    #: The first moment of the window, in UTC.
    window_start: datetime
    #: The first moment after the window, in UTC.
    window_end: datetime
    #: The job's name.
    job: str
    #: Which try at this window it is, from 1.
    attempt: int
    #: The job's lookups by name, as frames of the same kind as the input.
    lookups: Mapping[str, Any]
    #: With `per = "key"`, the values of the key by column, which all rows of the call have; else
    #: empty.
    key: Mapping[str, Any]

    def dead_letter(self, row: Any, reason: str) -> None:
        """Keeps a row of the input as a dead letter, with the reason.

        Args:
            row: A row of the frame in any form: a pandas Series, a dict, a named tuple, the row's
                position in the input frame, or a frame of several rows that share the reason.
            reason: Why the row is not in the result.
        """

    def log(self, text: object, level: Literal["info", "warning", "error"] = "info") -> None:
        """Sends a line to the log of the worker."""

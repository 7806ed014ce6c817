"""The exception that everything in this package raises.

Owns: its shape. Does not own: the texts.
Rule: an error says what to do: `hint` is text for the person who reads it, `code` for programs.
"""

from __future__ import annotations


class StreamctlError(Exception):
    """Something that streamctl refused, or could not do.

    Attributes:
        code: A word for programs, such as `not_found` or `invalid_argument`; for an exception of
            a batch function the name of its class.
        message: What happened.
        hint: What to do; empty if nothing is known.
        reason: Why a controller refused it, such as `JOB_NOT_FOUND` (docs/errors.md); else empty.
    """

    def __init__(self, code: str, message: str, hint: str = "", *, reason: str = "") -> None:
        super().__init__(message if not hint else f"{message}\n  hint: {hint}")
        self.code = code
        self.reason = reason
        self.message = message
        self.hint = hint


class FunctionError(StreamctlError):
    """An exception of a batch function, as the worker would report it.

    Attributes:
        file: The file of the innermost line of the user's code, from the folder of the function.
        line: That line.
        traceback: The traceback without the frames of the runner.
    """

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        file: str | None = None,
        line: int | None = None,
        traceback: str = "",
    ) -> None:
        place = f" ({file}, line {line})" if file else ""
        super().__init__(code, f"{code}: {message}{place}", hint)
        self.file = file
        self.line = line
        self.traceback = traceback

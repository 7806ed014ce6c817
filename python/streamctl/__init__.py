"""streamctl from Python: batch functions, their tests, and a client for a cluster.

- `streamctl.testing.run` runs a batch function in a test, as the worker runs it.
- `streamctl.Client` submits and follows jobs, and reads their rows.
- `streamctl.Context` annotates the third argument of a batch function.
- `streamctl-function serve` serves a function to workers by Arrow Flight.
- `python -m streamctl` runs the program `streamctl`.

Rule: importing this package imports nothing but the standard library; a batch function may import
it for annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .context import Context
from .errors import FunctionError, StreamctlError

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Client", "Context", "FunctionError", "StreamctlError"]


def __getattr__(name: str) -> Any:
    # The client needs pyarrow and grpcio, which a function that imports this package may not have.
    if name == "Client":
        from .client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

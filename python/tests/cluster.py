"""One controller and one worker as processes, for tests of the client.

Owns: their start, ports and end. Does not own: the programs, which lie in
STREAMCTL_PROGRAMS, or beside `streamctl`.
Rule: uses only what a user could use: the programs' flags.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from streamctl import Client, StreamctlError

#: Seconds until the programs answer, on a busy machine.
PATIENCE_S = 60


def free_port() -> int:
    """A port of this machine without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster(
    folder: Path,
    program: str,
    *,
    controller: Sequence[str] = (),
    worker: Sequence[str] = (),
    scheme: str = "http",
    client: Client | None = None,
    port: int | None = None,
) -> Iterator[str]:
    """The URL of a controller with one worker."""
    port = port or free_port()
    address = f"127.0.0.1:{port}"
    url = f"{scheme}://{address}"
    # The wheel carries the command line alone.
    programs = Path(os.environ.get("STREAMCTL_PROGRAMS") or Path(program).parent)
    words = {
        "controller": [
            *("--listen", address, "--http-listen", f"127.0.0.1:{free_port()}"),
            *("--store", f"file://{folder / 'store'}", *controller),
        ],
        "worker": [
            *("--controller", url, "--listen", f"127.0.0.1:{free_port()}", *worker),
        ],
    }
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    running = []
    try:
        for name, flags in words.items():
            with open(folder / f"{name}.log", "wb") as log:
                running.append(
                    subprocess.Popen(
                        [str(programs / f"streamctl-{name}"), *flags],
                        stdout=log,
                        stderr=log,
                        env=environment,
                    )
                )
        _wait_for_answer(client or Client(url), folder)
        yield url
    finally:
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _wait_for_answer(client: Client, folder: Path) -> None:
    limit = time.monotonic() + PATIENCE_S
    while True:
        try:
            client.jobs()
            return
        except StreamctlError as error:
            if time.monotonic() > limit:
                log = (folder / "controller.log").read_text()[-2000:]
                raise AssertionError(f"{error}\n{log}") from None
            time.sleep(0.1)

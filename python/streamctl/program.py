"""The program `streamctl`, which the wheel carries.

Owns: finding it. Does not own: what it does.
Rule: the one that was installed with this package wins over one in PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from .errors import StreamctlError

NAME = "streamctl"


def find() -> str:
    """The path of the program.

    Raises:
        StreamctlError: If there is none.
    """
    chosen = os.environ.get("STREAMCTL_PROGRAM")
    if chosen:
        return chosen
    suffix = sysconfig.get_config_var("EXE") or ""
    folders = [
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")),
        # `pip install --target` puts programs beside the packages.
        str(Path(__file__).parent.parent / "bin"),
    ]
    for folder in folders:
        path = os.path.join(folder, NAME + suffix)
        if os.access(path, os.X_OK) and not _is_script(path):
            return path
    found = shutil.which(NAME)
    if found is not None and not _is_script(found):
        return found
    raise StreamctlError(
        "program_missing",
        f"the program {NAME} is neither in this installation ({sys.prefix}) nor in PATH",
        "install a wheel that carries it (`make wheel`), or put the program into PATH",
    )


def _is_script(path: str) -> bool:
    """Whether a file is a script: one that runs this module would run itself for ever."""
    with open(path, "rb") as file:
        return file.read(2) == b"#!"

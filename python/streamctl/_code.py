"""The code of a job's function, as `streamctl submit` packs it.

Owns: which files belong to a function. Does not own: what the controllers take (they check names
and sizes again).
Rule: only files below the folder of the job file are packed; links to folders are not followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import _job
from .errors import StreamctlError

#: The limits of the controllers.
FILES_MAX = 500
BYTES_MAX = 2 << 20
DEPTH_MAX = 16


def pack(text: str, folder: Path) -> dict[str, bytes]:
    """The files of the function that a job file names; none if a server runs it.

    Raises:
        StreamctlError: If a file is missing, or there is too much.
    """
    if "function" not in text:
        return {}
    function = _job.load(text, "job file").get("function")
    if not isinstance(function, dict) or "url" in function:
        return {}
    files: dict[str, bytes] = {}
    size = 0
    for name in _names(function, folder):
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StreamctlError(
                "not_found",
                f"{path}: {error.strerror}",
                "the path is taken from the folder of the job file",
            ) from None
        size += len(content)
        files[name] = content
        if size > BYTES_MAX or len(files) > FILES_MAX:
            raise StreamctlError(
                "invalid_argument",
                f"the function has more than {FILES_MAX} files or {BYTES_MAX >> 20} MiB",
                "put data into a lookup, and packages into requirements",
            )
    return files


def _names(function: dict[str, Any], folder: Path) -> Iterator[str]:
    file = function.get("file")
    if isinstance(file, str):
        yield file
    module = function.get("module")
    if isinstance(module, str):
        top = module.split(".")[0]
        if (folder / top).is_dir():
            yield from _below(folder, top, 0)
        else:
            yield f"{top}.py"
    requirements = function.get("requirements")
    if isinstance(requirements, str):
        for name in _requirements(requirements):
            if name != file:
                yield name


def _requirements(path: str) -> list[str]:
    """A file of requirements, with the lock or the project that belongs to it."""
    folder, slash, name = path.rpartition("/")
    if name in ("uv.lock", "pyproject.toml"):
        return [f"{folder}{slash}pyproject.toml", f"{folder}{slash}uv.lock"]
    if name.endswith(".py"):
        return [path, f"{path}.lock"]
    return [path]


def _below(folder: Path, name: str, depth: int) -> Iterator[str]:
    """All files, without hidden ones and those that Python makes."""
    if depth > DEPTH_MAX:
        raise StreamctlError("invalid_argument", f"{name} has too many folders inside each other")
    for path in sorted((folder / name).iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__" or path.suffix == ".pyc":
            continue
        inside = f"{name}/{path.name}"
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _below(folder, inside, depth + 1)
        elif path.is_file():
            yield inside

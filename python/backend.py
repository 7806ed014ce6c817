"""Builds the wheel: the package, the definitions of the control plane and the program.

Owns: what is in the wheel and how it is named (PEP 517). Does not own: building the program
(`make build`).
Rule: it needs Python and protoc alone, so that building reads nothing from the network; the same
input gives the same bytes.

    STREAMCTL_PROGRAM=target/release/streamctl   the program that the wheel carries; without it the
                                                 wheel is for any platform and uses the one in PATH
    STREAMCTL_STRIP=1                            without the program's debug information

`python backend.py wheel FOLDER` does it without pip; `python backend.py` writes the definitions
beside the package, to work in the checkout.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent / "proto"
PACKAGE = HERE / "streamctl"
DEFINITIONS = "streamctl/_proto.binpb"
#: The earliest time that a zip file can hold: the wheel does not depend on when it was built.
TIME = (1980, 1, 1, 0, 0, 0)
#: zlib's fastest: a program of some hundred megabytes is packed in seconds.
PROGRAM_LEVEL = 1


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Nothing: see the rule above."""
    return []


def prepare_metadata_for_build_wheel(directory: str, config_settings: Any = None) -> str:
    """Writes the metadata alone, and returns its folder's name."""
    name = f"streamctl-{version()}.dist-info"
    folder = Path(directory) / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in metadata(tag(program())).items():
        (folder / file).write_bytes(data)
    return name


def build_wheel(
    directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Writes the wheel, and returns its name."""
    carried = program()
    wheel = f"streamctl-{version()}-{tag(carried)}.whl"
    info = f"streamctl-{version()}.dist-info"
    records = []
    with zipfile.ZipFile(Path(directory) / wheel, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, data: bytes, mode: int = 0o644, level: int = 6) -> None:
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data, compresslevel=level)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            records.append(f"{name},sha256={digest},{len(data)}")

        for file in sorted(PACKAGE.rglob("*")):
            if file.suffix == ".py" or file.name == "py.typed":
                add(file.relative_to(HERE).as_posix(), file.read_bytes())
        add(DEFINITIONS, definitions())
        if carried is not None:
            name = f"streamctl-{version()}.data/scripts/{carried.name}"
            add(name, content(carried), 0o755, PROGRAM_LEVEL)
        for name, data in metadata(tag(carried)).items():
            add(f"{info}/{name}", data)
        records.append(f"{info}/RECORD,,")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", TIME), "\n".join(records) + "\n")
    return wheel


def build_sdist(directory: str, config_settings: Any = None) -> str:
    """Refuses: the definitions and the program are built from the whole checkout."""
    raise SystemExit("streamctl is built from a checkout: run `make wheel` there")


def program() -> Path | None:
    """The program that the wheel carries."""
    path = os.environ.get("STREAMCTL_PROGRAM")
    if not path:
        return None
    if not Path(path).is_file():
        raise SystemExit(f"STREAMCTL_PROGRAM={path} is not there: run `make build`")
    return Path(path)


def content(carried: Path) -> bytes:
    """The bytes of the program, without debug information if that is wanted."""
    if not os.environ.get("STREAMCTL_STRIP"):
        return carried.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder) / carried.name
        subprocess.run(["strip", "-o", str(stripped), str(carried)], check=True)
        return stripped.read_bytes()


def tag(carried: Path | None) -> str:
    """Which installations the wheel is for."""
    if carried is None:
        return "py3-none-any"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    if platform.startswith("linux_"):
        # The program needs the C library that it was linked with, or a later one.
        library = os.confstr("CS_GNU_LIBC_VERSION") or ""
        found = re.fullmatch(r"glibc (\d+)\.(\d+)", library)
        if found is not None:
            platform = platform.replace("linux_", f"manylinux_{found[1]}_{found[2]}_", 1)
    return f"py3-none-{platform}"


def version() -> str:
    """That of the whole project."""
    text = (HERE.parent / "Cargo.toml").read_text()
    found = re.search(r'^\[workspace\.package\]\nversion = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise SystemExit("Cargo.toml names no version")
    return found[1]


def definitions() -> bytes:
    """The messages of the control plane, as a FileDescriptorSet."""
    files = ["streamctl/v1/jobs.proto", "streamctl/v1/types.proto"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        words = [f"--proto_path={PROTO}", "--include_imports", f"--descriptor_set_out={out}"]
        subprocess.run([*protoc(), *words, *files], check=True)
        return out.read_bytes()


def protoc() -> list[str]:
    """The compiler of definitions: the system's, else that of grpcio-tools."""
    found = shutil.which("protoc")
    if found is not None:
        return [found]
    try:
        import grpc_tools  # noqa: F401
    except ImportError:
        raise SystemExit(
            "protoc is missing: `tests/support/servers.sh build` installs it"
        ) from None
    return [sys.executable, "-m", "grpc_tools.protoc"]


def metadata(built_for: str) -> dict[str, bytes]:
    """The files of the dist-info folder, but for RECORD."""
    wheel = [
        "Wheel-Version: 1.0",
        "Generator: streamctl",
        f"Root-Is-Purelib: {'true' if built_for.endswith('any') else 'false'}",
        f"Tag: {built_for}",
    ]
    scripts = ["[console_scripts]", *(f"{name} = {target}" for name, target in _table("scripts"))]
    texts = {
        "METADATA": _metadata(),
        "WHEEL": "\n".join(wheel),
        "entry_points.txt": "\n".join(scripts),
    }
    return {name: f"{text}\n".encode() for name, text in texts.items()}


def _metadata() -> str:
    lines = [
        "Metadata-Version: 2.3",
        "Name: streamctl",
        f"Version: {version()}",
        f"Summary: {_text('description')}",
        f"Requires-Python: {_text('requires-python')}",
        f"License: {_text('license')}",
        "Description-Content-Type: text/markdown",
        *(f"Classifier: {item}" for item in _list("classifiers")),
        *(f"Requires-Dist: {item}" for item in _list("dependencies")),
    ]
    for extra, text in _table("optional-dependencies"):
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {item} ; extra == "{extra}"' for item in _items(text)]
    return "\n".join(lines) + "\n\n" + (HERE / "README.md").read_text()


# pyproject.toml is our own and plain; Python 3.10 has no parser for it.


def _project() -> str:
    return (HERE / "pyproject.toml").read_text()


def _text(key: str) -> str:
    found = re.search(rf'^{key} = "(.*)"$', _project(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"pyproject.toml has no {key}")
    return found[1]


def _items(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)


def _list(key: str) -> list[str]:
    found = re.search(rf"^{key} = \[(.*?)\]$", _project(), re.MULTILINE | re.DOTALL)
    return _items(found[1]) if found else []


def _table(name: str) -> Iterator[tuple[str, str]]:
    _, _, rest = _project().partition(f"\n[project.{name}]\n")
    for line in rest.split("\n[")[0].splitlines():
        key, found, value = line.partition(" = ")
        if found:
            yield key, value.strip('"') if value.startswith('"') else value


def main(words: list[str]) -> None:
    """`wheel FOLDER` builds the wheel; without words the definitions are written."""
    if words[:1] == ["wheel"] and len(words) == 2:
        folder = Path(words[1])
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("streamctl-*.whl"):
            old.unlink()
        print(folder / build_wheel(words[1]))
    elif not words:
        (HERE / DEFINITIONS).write_bytes(definitions())
        print(f"wrote {DEFINITIONS}")
    else:
        raise SystemExit("python backend.py [wheel FOLDER]")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Which files of a function are sent along with its job."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamctl import StreamctlError, _code


def packed(folder: Path, function: str) -> list[str]:
    return list(_code.pack(f'name = "sales"\n[function]\n{function}\n', folder))


def test_a_file_is_packed_with_its_requirements_and_nothing_else(tmp_path: Path) -> None:
    for name in ("transform.py", "requirements.txt", "other.py"):
        (tmp_path / name).write_text(name)
    both = 'file = "transform.py"\nrequirements = "requirements.txt"'
    assert packed(tmp_path, both) == ["transform.py", "requirements.txt"]
    assert packed(tmp_path, 'url = "grpc://host:1"') == []
    assert _code.pack('name = "sales"\n', tmp_path) == {}
    assert packed(tmp_path, 'module = "other"') == ["other.py"]


def test_a_lock_is_packed_with_what_it_locks(tmp_path: Path) -> None:
    for name in ("t.py", "t.py.lock", "pyproject.toml", "uv.lock"):
        (tmp_path / name).write_text(name)
    project = ["t.py", "pyproject.toml", "uv.lock"]
    assert packed(tmp_path, 'file = "t.py"\nrequirements = "uv.lock"') == project
    assert packed(tmp_path, 'file = "t.py"\nrequirements = "pyproject.toml"') == project
    script = 'file = "t.py"\nrequirements = "t.py"'
    assert packed(tmp_path, script) == ["t.py", "t.py.lock"]


def test_a_module_is_packed_with_its_package(tmp_path: Path) -> None:
    kept = ["sales/__init__.py", "sales/data/rates.csv", "sales/window.py"]
    for name in [*kept, "sales/__pycache__/window.cpython.pyc", "sales/.git/config", "other.py"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "sales" / "link").symlink_to("/etc")
    assert packed(tmp_path, 'module = "sales.window"') == kept


def test_what_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StreamctlError, match=r"no\.py"):
        packed(tmp_path, 'file = "no.py"')
    (tmp_path / "large.py").write_bytes(b"#" * (_code.BYTES_MAX + 1))
    with pytest.raises(StreamctlError, match="2 MiB"):
        packed(tmp_path, 'file = "large.py"')

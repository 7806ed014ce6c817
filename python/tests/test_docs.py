"""The page of functions: its files are written, its commands are run, as a reader would.

Owns: which blocks are run. Does not own: job files and commands of `streamctl` as such, which the
program's own tests read.
Rule: a file is a block after a line that ends in its name; every `sh` block runs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas

PAGE = Path(__file__).parents[2] / "docs" / "functions.md"
#: From here on the commands need a program that runs functions.
RUN = "\n## Run it\n"
FILE = re.compile(r"`([\w./-]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def run(commands: list[str], folder: Path, program: str) -> str:
    """What the commands print, one after the other in one shell."""
    # The page's reader has installed all that the function imports; `python` is that of the test.
    path = f"{Path(sys.executable).parent}:{Path(program).parent}:{os.environ['PATH']}"
    packages = Path(pandas.__file__).parents[4]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(commands)],
        cwd=folder,
        env={
            **os.environ,
            "PATH": path,
            "STREAMCTL_FUNCTION_PYTHON": str(packages / "bin" / "python"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_works_word_for_word(tmp_path: Path, program: str) -> None:
    page = PAGE.read_text()
    files = FILE.findall(page)
    names = ["transform.py", "records/sales.json", "test_transform.py", "job.toml"]
    assert [name for name, _ in files] == names
    for name, text in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before, after = page.split(RUN)
    assert "2 passed" in run(SHELL.findall(before), tmp_path, program)
    printed = run(SHELL.findall(after), tmp_path, program)
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert sorted(row["total"] for row in rows) == [4.5, 8.0], printed
    assert "Ada" not in [row["customer"] for row in rows]


def test_the_blocks_of_the_page_are_python() -> None:
    for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        compile(text, str(PAGE), "exec")

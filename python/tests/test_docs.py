"""The page of functions: its files are written, its commands are run, as a reader would.

Owns: which blocks are run. Does not own: job files and commands of `streamctl` as such, which the
program's own tests read.
Rule: a file is a block after a line that ends in its name; every `sh` block up to RUN_UNTIL runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "functions.md"
#: From here on a program that runs functions is needed.
RUN_UNTIL = "\n## Run it\n"
FILE = re.compile(r"`([\w./-]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def test_the_files_of_the_page_work(tmp_path: Path) -> None:
    page = PAGE.read_text()
    files = FILE.findall(page)
    names = ["transform.py", "records/sales.json", "test_transform.py", "job.toml"]
    assert [name for name, _ in files] == names
    for name, text in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commands = SHELL.findall(page.split(RUN_UNTIL)[0])
    assert commands, "the page has no commands any more"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(commands)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_blocks_of_the_page_are_python(tmp_path: Path) -> None:
    for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        compile(text, str(PAGE), "exec")

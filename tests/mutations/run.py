#!/usr/bin/env python3
"""Breaks one line after the other and sees that a test notices.

    run.py [ONLY]      the mutations of list.toml whose rule or description contains ONLY

Owns: a copy of the checkout below the cache folder, in which lines are broken. Does not own: which (list.toml).
Rule: the checkout itself is never touched; the copy is as it was after every mutation.
"""
import os, pathlib, re, subprocess, sys, tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "streamctl"
COPY = CACHE / "mutations"
# Of building and testing one of them; a break that makes a test run for ever is not one for this list.
SECONDS_MAX = 900


def copy():
    """The files of the checkout as they are now; those that did not change keep their times, so little is built again."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True)
    names = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    for name in names:
        source, target = ROOT / name, COPY / name
        data = source.read_bytes()
        if not target.is_file() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    for target in [path for path in COPY.rglob("*") if path.is_file()]:
        if str(target.relative_to(COPY)) not in names:
            target.unlink()


def failures(mutation):
    """The tests that fail now, or None when it does not even compile or come to an end."""
    command = ["cargo", "test", "--locked", "--lib", "-p", mutation["package"], "-p", "streamctl-tests", "--", mutation["tests"]]
    try:
        ran = subprocess.run(command, cwd=COPY, capture_output=True, text=True, timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return None
    if "test result:" not in ran.stdout:
        print(ran.stderr[-3000:], file=sys.stderr)
        return None
    return sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED", ran.stdout, re.M)))


def pattern(old):
    """The text `old` however it is formatted: white space and commas before closing brackets do not count."""
    parts = []
    for char in "".join(old.split()):
        if char in ")]}":
            parts.append(r",?\s*")
        parts.append(re.escape(char) + r"\s*")
    return re.compile("".join(parts).removesuffix(r"\s*"))


def noticed(mutation):
    path = COPY / mutation["file"]
    text = path.read_text()
    found = list(pattern(mutation["old"]).finditer(text))
    if len(found) != 1:
        print(f"  {mutation['file']} has this {len(found)} times: {mutation['old']!r}")
        return False
    start, end = found[0].span()
    path.write_text(text[:start] + mutation["new"] + text[end:])
    try:
        failed = failures(mutation)
    finally:
        path.write_text(text)
    if failed is None:
        print("  it does not compile, or does not end")
        return False
    missing = [name for name in mutation["caught_by"] if not any(test.endswith(name) for test in failed)]
    for name in failed:
        print(f"  caught by {name}")
    for name in missing:
        print(f"  NOT caught by {name}")
    return bool(failed) and not missing


def main():
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    mutations = tomllib.loads((HERE / "list.toml").read_text())["mutation"]
    chosen = [each for each in mutations if only in each["rule"] or only in each["what"]]
    copy()
    bad = 0
    for mutation in chosen:
        print(f"{mutation['rule']}: {mutation['what']}", flush=True)
        if not noticed(mutation):
            bad += 1
            print("  NOT NOTICED", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} breaks were noticed")
    sys.exit(bool(bad) or not chosen)


main()

"""Drives `streamctl top` on a terminal of its own.   top.py PROGRAM CONTROLLER JOB

A pseudo-terminal of 80 by 24. Waits for the job's line, looks into the job (enter), goes back (esc), makes the terminal larger,
leaves (q). Prints {"jobs": the screen as it was first, "inside": ..., "larger": ..., "exit": code, "restored": bool,
"interrupted": code}:
restored, if the terminal's modes are those of before and the screen was given back; interrupted, the exit code when Ctrl-C ends it.
"""
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

import aws

PATIENCE_S = 30
ALTERNATE_OFF = b"\x1b[?1049l"


CONTROL = re.compile(r"\x1b\[([?>=]?)([0-9;]*)([@-~])|\x1b[()][0-9A-B]|\x1b[=>78cDEM]")


def drawn_text(seen):
    """What stands on the screen: a program draws only the cells that change, and goes from one to the next by their place."""
    rows, row, column, at = {}, 0, 0, 0
    while at < len(seen):
        control = CONTROL.match(seen, at)
        if control:
            at = control.end()
            if control.group(3) == "H":
                place = [int(number or 1) for number in (control.group(2) or "1;1").split(";")]
                row, column = place[0] - 1, (place + [1])[1] - 1
            elif control.group(3) == "J":
                rows = {}
            continue
        if seen[at] == "\n":
            row += 1
        elif seen[at] == "\r":
            column = 0
        elif seen[at] >= " ":
            rows.setdefault(row, {})[column] = seen[at]
            column += 1
        at += 1
    line = lambda cells: "".join(cells.get(x, " ") for x in range(max(cells) + 1)).rstrip()
    return "\n".join(line(rows[y]) for y in sorted(rows))


class Screen:
    def __init__(self, args):
        self.seen = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(args[0], args)
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.terminal)

    def resize(self, rows, columns):
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        """Takes what there is; false at the end."""
        ready, _, _ = select.select([self.terminal], [], [], 0.1)
        if not ready:
            return True
        try:
            more = os.read(self.terminal, 65536)
        except OSError:
            return False
        self.seen += more
        return bool(more)

    def until(self, *wanted):
        """Waits until all of it stands on the screen."""
        end = time.monotonic() + PATIENCE_S
        while True:
            screen = drawn_text(self.seen.decode(errors="replace"))
            if all(text in screen for text in wanted):
                return screen
            if time.monotonic() > end or not self.read():
                raise SystemExit(f"not on the screen: {wanted}; it has:\n{screen}")

    def press(self, keys):
        os.write(self.terminal, keys)

    def end(self):
        """The exit code."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            open_still = self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while select.select([self.terminal], [], [], 0)[0] and self.read():
                    pass
                return os.waitstatus_to_exitcode(status)
            if not open_still:
                time.sleep(0.05)
        raise SystemExit("it does not end")


def main(program, controller, job):
    args = [program, "--controller", controller, "top", "--interval", "300ms"]
    screen = Screen(args)
    first = screen.until(f"> {job}", "q leave", "WORKER")
    screen.press(b"\r")
    inside = screen.until("COMMITTED", "esc back")
    screen.press(b"\x1b")
    screen.until("enter shards")
    screen.seen = b""
    screen.resize(40, 120)  # All of it is drawn anew, in its new place.
    larger = screen.until(f"> {job}", "q leave", "WORKER")
    screen.press(b"q")
    code = screen.end()
    modes = termios.tcgetattr(screen.terminal)
    restored = modes[:4] == screen.before[:4] and ALTERNATE_OFF in screen.seen
    interrupted = Screen(args)
    interrupted.until(f"> {job}")
    interrupted.press(b"\x03")
    answer = {"jobs": first, "inside": inside, "larger": larger, "exit": code, "restored": restored}
    aws.answer({**answer, "interrupted": interrupted.end()})


main(*sys.argv[1:])

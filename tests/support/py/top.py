"""Drives `streamctl top` on a terminal of its own.   top.py PROGRAM CONTROLLER JOB

A pseudo-terminal of 80 by 24. Waits for the job's line, looks into the job (enter), goes back (esc), makes the terminal larger,
leaves (q). Prints {"jobs": the screen as it was first, "inside": ..., "exit": code, "restored": bool, "interrupted": code}:
restored, if the terminal's modes are those of before and the screen was given back; interrupted, the exit code when Ctrl-C ends it.
"""
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

import aws

PATIENCE_S = 30
ALTERNATE_ON, ALTERNATE_OFF = b"\x1b[?1049h", b"\x1b[?1049l"


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
        """Waits until all of it was drawn since `seen` was emptied."""
        end = time.monotonic() + PATIENCE_S
        while not all(text.encode() in self.seen for text in wanted):
            if time.monotonic() > end or not self.read():
                raise SystemExit(f"not drawn: {wanted}; drawn: {self.seen[-4000:]!r}")
        drawn, self.seen = self.seen, b""
        return drawn.decode(errors="replace")

    def press(self, keys):
        self.seen = b""
        os.write(self.terminal, keys)

    def end(self):
        """The exit code."""
        drawn = self.seen
        while self.read():
            drawn = self.seen
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while select.select([self.terminal], [], [], 0)[0] and self.read():
                    drawn = self.seen
                return os.waitstatus_to_exitcode(status), drawn
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), drawn


def main(program, controller, job):
    args = [program, "--controller", controller, "top", "--interval", "300ms"]
    screen = Screen(args)
    first = screen.until(f"> {job}", "q leave", "WORKER")
    screen.press(b"\r")
    inside = screen.until("COMMITTED", "esc back")
    screen.press(b"\x1b")
    screen.until("enter shards")
    screen.press(b"")
    screen.resize(40, 120)
    screen.until(f"> {job}")
    screen.press(b"q")
    code, drawn = screen.end()
    modes = termios.tcgetattr(screen.terminal)
    restored = modes[:4] == screen.before[:4] and ALTERNATE_OFF in drawn and ALTERNATE_ON in first.encode()
    interrupted = Screen(args)
    interrupted.until(f"> {job}")
    interrupted.press(b"\x03")
    aws.answer({"jobs": first, "inside": inside, "exit": code, "restored": restored, "interrupted": interrupted.end()[0]})


main(*sys.argv[1:])

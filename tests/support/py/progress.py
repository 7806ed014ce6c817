"""Looks at verbs of `streamctl` while whoever they ask takes its time.   progress.py PROGRAM VERBS

VERBS is JSON: a list of lists of words. They ask a server that takes connections and answers nothing for HOLD_S, then hangs
up. Each verb runs three times at once: on a pseudo-terminal, there with `-o json`, and with pipes. Prints, per verb in order,
{"terminal": what was drawn, "json": the same with -o json, "pipe": what was written to standard error, "left": what the last
line of the terminal shows at the end of the progress, "exits": [three codes]}.
"""
import json
import os
import pty
import selectors
import socket
import subprocess
import sys
import threading
import time

import aws

HOLD_S = 3
PATIENCE_S = 60
CLEAR_LINE = "\x1b[2K"


def serve():
    """The address of a server that keeps every connection for a while and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def hold(line):
        time.sleep(HOLD_S)
        line.close()

    def accept():
        while True:
            line, _ = listener.accept()
            threading.Thread(target=hold, args=(line,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


class Run:
    """A program and what it says: all of it on a terminal, or standard error where it has pipes."""

    def __init__(self, args, env, terminal):
        self.seen = b""
        if terminal:
            self.place, inner = pty.openpty()
            self.process = subprocess.Popen(args, stdin=inner, stdout=inner, stderr=inner, env=env, start_new_session=True)
            os.close(inner)
        else:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=pipe, env=env)
            self.place = self.process.stderr.fileno()

    def read(self):
        """Takes what there is; false at the end."""
        try:
            more = os.read(self.place, 65536)
        except OSError:  # What a terminal says when nobody is left on its other side.
            more = b""
        self.seen += more
        return bool(more)

    def text(self):
        return self.seen.decode(errors="replace")


def main(program, verbs):
    address = serve()
    env = {
        "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TERM": "xterm-256color", "NO_COLOR": "1",
        "STREAMCTL_CONTROLLER": address, "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1",
    }
    verbs = json.loads(verbs)
    runs = []
    for words in verbs:
        args = [program, *words]
        runs.append([Run(args, env, True), Run([*args, "-o", "json"], env, True), Run(args, env, False)])
    open_ones = selectors.DefaultSelector()
    for run in (run for three in runs for run in three):
        open_ones.register(run.place, selectors.EVENT_READ, run)
    end = time.monotonic() + PATIENCE_S
    while open_ones.get_map() and time.monotonic() < end:
        for key, _ in open_ones.select(0.2):
            if not key.data.read():
                open_ones.unregister(key.fd)
    if open_ones.get_map():
        for key in list(open_ones.get_map().values()):
            key.data.process.kill()
        raise SystemExit(f"they do not end: {[key.data.process.args for key in open_ones.get_map().values()]}")
    answer = []
    for terminal, as_json, pipe in runs:
        shown = terminal.text()
        answer.append({
            "terminal": shown, "json": as_json.text(), "pipe": pipe.text(),
            "left": shown.rpartition(CLEAR_LINE)[2], "exits": [run.process.wait() for run in (terminal, as_json, pipe)],
        })
    aws.answer(answer)


main(*sys.argv[1:])

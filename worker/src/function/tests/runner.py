"""A runner with the standard library alone: rows are passed on as bytes."""

import fcntl
import json
import os
import socket
import struct
import sys
import time
import traceback

descriptor = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 100)
null = os.open("/dev/null", os.O_RDWR)
os.dup2(null, 0)
os.close(null)
connection = socket.socket(fileno=descriptor)


def exactly(count):
    parts = []
    while count:
        part = connection.recv(min(count, 1 << 20))
        if not part:
            sys.exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def receive():
    head, body = struct.unpack(">IQ", exactly(12))
    return json.loads(exactly(head)), exactly(body)


def send(head, body=b""):
    head = json.dumps(head).encode()
    connection.sendall(struct.pack(">IQ", len(head), len(body)) + head + body)


def raised(error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    send({
        "type": "error", "kind": type(error).__name__, "message": str(error), "line": last.lineno,
        "file": os.path.basename(last.filename), "traceback": traceback.format_exc(),
    })


opened, _ = receive()
os.chdir(opened["folder"])
space = {"send": send, "connection": connection, "opened": opened}
try:
    text = open(opened["file"]).read()
    exec(compile(text, os.path.abspath(opened["file"]), "exec"), space)
    send({"type": "ready", "protocol": 1, "frame": opened["frame"], "python": sys.version.split()[0],
          "parameters": 2, "later": True})
except BaseException as error:
    raised(error)
    sys.exit(0)

lookups = {}
while True:
    head, body = receive()
    if head["type"] == "lookup":
        lookups[head["name"]] = (head["version"], body)
        continue
    if head["type"] == "published":
        try:
            space[head["name"]](head)
            send({"type": "done", "result": "none"})
        except Exception as error:
            raised(error)
        continue
    bodies = []
    while True:
        part, body = receive()
        if part["type"] == "end":
            break
        bodies.append(body)
    begun = time.monotonic()
    try:
        head["lookups"] = {name: lookups[name] for name in head["lookups"]}
        result = space[opened["name"]](head, bodies)
    except Exception as error:
        raised(error)
        continue
    for body in result or []:
        send({"type": "rows"}, body)
    send({"type": "done", "result": "none" if result is None else "frame",
          "elapsed_us": int((time.monotonic() - begun) * 1e6)})

"""Runs the examples of docs/flight.md as they are printed.   flight_docs.py PAGE HOST:PORT JOB EPOCH

Only the address, the name of the job and the epoch are replaced. Prints {"examples": [{"rows": n, "columns": [...]}]}.
"""
import json
import re
import sys


def measure(names):
    """What an example made: a frame, a table, a count or a reader."""
    if "frame" in names:
        frame = names["frame"]
        return {"rows": len(frame), "columns": list(frame.columns)}
    if "counted" in names:
        return {"rows": names["counted"][0], "columns": names["sales"].column_names}
    table = names["reader"].read_all()
    return {"rows": table.num_rows, "columns": table.column_names}


def main(page, address, job, epoch):
    text = open(page).read()
    made = []
    for example in re.findall(r"```python\n(.*?)```", text, re.S):
        assert example.count("\n") <= 6, example
        for printed, real in [
            ("host:7070", address),
            ('"job": "sales"', f'"job": "{job}"'),
            ('"epoch": 7', f'"epoch": {epoch}'),
            ('"from": 1, "to": 7', f'"from": {epoch}, "to": {epoch}'),
        ]:
            example = example.replace(printed, real)
        names = {}
        exec(compile(example, page, "exec"), names)
        made.append(measure(names))
    print(json.dumps({"examples": made}))


main(*sys.argv[1:])

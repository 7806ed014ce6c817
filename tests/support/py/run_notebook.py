"""Runs a notebook from top to bottom, and answers with the value of an expression at its end.

    run_notebook.py run NOTEBOOK EXPRESSION [--store]    --store: its outputs go into NOTEBOOK, stripped of times
    run_notebook.py check NOTEBOOK                       whether the outputs in it are of its cells as they are

It runs in a copy of its folder, so that nothing is written beside it. The expression gives text that is JSON. Prints {"value",
"cells", "outputs"}, or {"fresh", "problems"}.
"""
import argparse, hashlib, json, pathlib, shutil, sys, tempfile

import nbformat

DIGEST = "sources_sha256"
CELL_SECONDS = 180


def digest(notebook):
    sources = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell):
    return [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]


def run(path, expression, store):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="streamctl-notebook-") as scratch:
        folder = shutil.copytree(path.parent, pathlib.Path(scratch) / "notebook")
        notebook.cells.append(nbformat.v4.new_code_cell(f"print({expression})"))
        options = {"timeout": CELL_SECONDS, "kernel_name": "python3", "record_timing": False}
        NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options).execute()
    last = notebook.cells.pop()
    if store:
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}, DIGEST: digest(notebook)}
        nbformat.write(notebook, path)
    cells = code_cells(notebook)
    return {"value": json.loads(last.outputs[0].text), "cells": len(cells), "outputs": [outputs(cell) for cell in cells]}


def check(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    problems = []
    if notebook.metadata.get(DIGEST) != digest(notebook):
        problems.append("a cell was changed after its outputs were made")
    for place, cell in enumerate(code_cells(notebook), 1):
        if cell.execution_count != place:
            problems.append(f"cell {cell.id} ran as number {cell.execution_count}, not {place}")
        if any(output.output_type == "error" for output in cell.outputs):
            problems.append(f"cell {cell.id} ended with an error")
        if any("127.0.0.1" in text or "/tmp/" in text for text in outputs(cell)):
            problems.append(f"cell {cell.id} tells of the machine that it ran on")
    return {"fresh": not problems, "problems": problems}


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("run", "check"):
        words = verbs.add_parser(verb)
        words.add_argument("notebook", type=pathlib.Path)
        if verb == "run":
            words.add_argument("expression")
            words.add_argument("--store", action="store_true")
    options = parser.parse_args()
    answer = run(options.notebook, options.expression, options.store) if options.verb == "run" else check(options.notebook)
    json.dump(answer, sys.stdout, ensure_ascii=False)


main()

"""The runner, spoken to as the worker does: a child process and a socket pair."""

from __future__ import annotations

import resource
import struct
import textwrap
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from peer import Answer, Child, stream

ROWS = pa.table(
    {
        "uuid": ["a", "b", "c"],
        "units": pa.array([1, None, 3], pa.int64()),
        "price": pa.array([1.5, 2.5, None]),
        "at": pa.array([0, 1_000_000, 2_000_000], pa.timestamp("us", "UTC")),
        "tags": pa.array([["x"], [], None], pa.list_(pa.string())),
    }
)
NONE = ROWS.slice(0, 0)


def once(folder: Path, code: str, *tables: pa.Table, **more: object) -> Answer:
    """Opens code and calls it once."""
    opening = {key: more.pop(key) for key in ("frame", "name") if key in more}
    with Child(folder, textwrap.dedent(code)) as child:
        ready = child.open(**opening)
        assert ready["type"] == "ready", ready
        return child.call(*(tables or (ROWS,)), **more)


def refused(folder: Path, code: str, **more: object) -> dict[str, object]:
    """Opens code that is refused."""
    with Child(folder, textwrap.dedent(code)) as child:
        answer = child.open(**more)
        assert answer["type"] == "error", answer
        return answer


def of_statements(statements: Iterable[str]) -> str:
    """A function that runs the statement with the number of the batch."""
    code = "def process_batch(frame, batch_id, context):\n"
    for at, statement in enumerate(statements):
        code += f"    if batch_id == {at}:\n        {statement}\n"
    return code


# -- Frames ---------------------------------------------------------------------------------------

IDENTITY = {
    "pandas": "def process_batch(frame, batch_id):\n    return frame\n",
    "annotated": (
        "import pandas as pd\ndef process_batch(frame: pd.DataFrame, batch_id):\n    return frame\n"
    ),
    "polars": (
        "import polars as pl\ndef process_batch(frame: pl.DataFrame, batch_id):\n    return frame\n"
    ),
    "pyarrow": (
        "from __future__ import annotations\nimport pyarrow as pa\n"
        "def process_batch(frame: pa.Table, batch_id):\n    return frame\n"
    ),
    "text": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import polars as pl\n"
        "def process_batch(frame: 'pl.DataFrame', batch_id):\n    return frame\n"
    ),
}


@pytest.mark.parametrize("which", IDENTITY)
def test_a_frame_that_is_returned_as_it_came_has_the_same_rows_and_types(
    tmp_path: Path, which: str
) -> None:
    kind = {"annotated": "pandas", "text": "polars"}.get(which, which)
    with Child(tmp_path, IDENTITY[which]) as child:
        ready = child.open()
        assert (ready["frame"], ready["parameters"], ready["protocol"]) == (kind, 2, 1)
        answer = child.call(ROWS, ROWS)
        assert answer.result.cast(ROWS.schema) == pa.concat_tables([ROWS, ROWS])
        assert answer.result.schema == ROWS.schema
        assert answer.end["rows"] == 6
        empty = child.call(NONE, empty=True)
        assert empty.result.num_rows == 0
        assert empty.result.schema == ROWS.schema, "a frame without rows keeps its types"


def test_a_function_in_pyspark_runs_on_duckdb(tmp_path: Path) -> None:
    pytest.importorskip("sqlframe")
    code = """
        from pyspark.sql import functions as F
        def process_batch(frame, batch_id):
            return (frame.where(F.col("units") > 1)
                .withColumn("key", F.upper(F.col("uuid"))).drop("tags"))
    """
    answer = once(tmp_path, code, frame="pyspark")
    assert answer.result.to_pylist() == [
        {
            "uuid": "c",
            "units": 3,
            "price": None,
            "at": datetime(1970, 1, 1, 0, 0, 2, tzinfo=timezone.utc),
            "key": "C",
        }
    ]
    assert answer.result.schema.field("at").type == pa.timestamp("us", "UTC")


def test_lookups_and_dead_letters_work_in_pyspark(tmp_path: Path) -> None:
    code = """
        from pyspark.sql import SparkSession, functions as F
        def process_batch(frame, batch_id, context):
            context.dead_letter(frame.where(F.col("units").isNull()), "no units")
            context.dead_letter(frame.where(F.col("uuid") == "a").collect()[0], "first")
            assert frame.count() == len(frame.toPandas()) == 3
            frame.createOrReplaceTempView("batch")
            spark = SparkSession.builder.getOrCreate()
            found = spark.sql("SELECT uuid FROM batch WHERE units IS NOT NULL")
            return found.join(context.lookups["names"], "uuid").select("uuid", "name")
    """
    with Child(tmp_path, textwrap.dedent(code)) as child:
        child.open(frame="pyspark")
        names = pa.table({"uuid": ["c", "a"], "name": ["Cid", "Ada"]})
        child.send({"type": "lookup", "name": "names", "version": "v"}, stream(names))
        # The second call has frames of its own.
        for _ in range(2):
            answer = child.call(ROWS, lookups={"names": "v"})
            found = answer.result.sort_by("uuid").to_pydict()
            assert found == {"uuid": ["a", "c"], "name": ["Ada", "Cid"]}
            rows = ROWS.to_pylist()
            assert answer.dead == [("no units", rows[1]), ("first", rows[0])]


def test_code_for_pyspark_says_how_it_can_run(tmp_path: Path) -> None:
    answer = refused(tmp_path, "import pyspark.sql\n")
    assert answer["kind"] == "ModuleNotFoundError"
    assert 'frame = "pyspark"' in str(answer["message"])
    code = "from pyspark.sql.functions import no_such_function\n"
    answer = refused(tmp_path, code, frame="pyspark")
    assert "sqlframe, which is PySpark here, does not have it" in str(answer["message"])


def test_the_setting_wins_over_the_annotation(tmp_path: Path) -> None:
    code = """
        import pandas as pd
        def process_batch(frame: pd.DataFrame, batch_id):
            return type(frame).__module__ and frame.select(["uuid"])
    """
    assert once(tmp_path, code, frame="pyarrow").result.to_pydict() == {"uuid": ["a", "b", "c"]}


def test_none_is_an_answer_without_rows(tmp_path: Path) -> None:
    answer = once(tmp_path, "def process_batch(frame, batch_id):\n    pass\n", frame="pyarrow")
    assert (answer.end["result"], answer.end["rows"], answer.rows) == ("none", 0, [])


def test_text_views_and_dictionaries_arrive_as_text_and_leave_as_text(tmp_path: Path) -> None:
    views = pa.table(
        {
            "view": pa.array(["a", "b"], pa.string_view()),
            "large": pa.array(["a", "b"], pa.large_string()),
            "coded": pa.array(["a", "b"]).dictionary_encode(),
        }
    )
    code = """
        def process_batch(frame, batch_id):
            frame["upper"] = frame["view"].str.upper()
            frame["category"] = frame["view"].astype("category")
            return frame
    """
    result = once(tmp_path, code, views).result
    assert set(result.schema.types) == {pa.string()}
    assert result.column("upper").to_pylist() == ["A", "B"]


def test_large_results_come_in_messages_of_a_limited_size(tmp_path: Path) -> None:
    code = """
        import pyarrow as pa
        def process_batch(frame: pa.Table, batch_id):
            many = pa.table({"n": list(range(150_000))})
            wide = pa.table({"n": [1] * 9, "text": ["x" * (4 << 20)] * 9})
            return many if batch_id == 1 else wide
    """
    with Child(tmp_path, textwrap.dedent(code)) as child:
        child.open()
        many = child.call(ROWS, batch_id=1)
        assert [part.num_rows for part in many.rows] == [65_536, 65_536, 18_928]
        assert many.result.column("n").to_pylist() == list(range(150_000))
        wide = child.call(ROWS, batch_id=2)
        assert all(part.nbytes <= 16 << 20 for part in wide.rows)
        assert wide.result.num_rows == 9


# -- Context --------------------------------------------------------------------------------------


def test_the_context_knows_the_window_and_the_job(tmp_path: Path) -> None:
    code = """
        def process_batch(frame, batch_id, context):
            context.log("first")
            context.log("second", level="warning")
            assert batch_id == context.batch_id
            frame["what"] = " ".join([str(batch_id), context.window_start.isoformat(),
                context.window_end.isoformat(), context.job, str(context.attempt)])
            return frame[["what"]]
    """
    answer = once(tmp_path, code, batch_id=60, attempt=3)
    expected = "60 1970-01-01T01:00:00+00:00 1970-01-01T01:01:00+00:00 sales 3"
    assert answer.result.column("what").to_pylist() == [expected] * 3
    assert answer.log == [("info", "first"), ("warning", "second")]


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_lookups_are_frames_of_the_same_kind_made_once_per_version(
    tmp_path: Path, kind: str
) -> None:
    code = """
        seen = []
        def process_batch(frame, batch_id, context):
            assert list(context.lookups) == ["countries"]
            lookup = context.lookups["countries"]
            assert type(lookup).__module__.split(".")[0] == type(frame).__module__.split(".")[0]
            seen.append(len(lookup))
            if type(lookup).__module__.startswith("pandas"):
                lookup["new"] = 1
                assert "new" not in context.lookups["countries"].columns
            context.log(seen)
    """
    with Child(tmp_path, textwrap.dedent(code)) as child:
        child.open(frame=kind)
        for version, rows in (("v1", ["Germany"]), ("v2", ["Germany", "Namibia"])):
            body = stream(pa.table({"country": rows}))
            child.send({"type": "lookup", "name": "countries", "version": version}, body)
            answer = child.call(ROWS, lookups={"countries": version})
            assert answer.end["type"] == "done", answer.end
        assert answer.log == [("info", "[1, 2]")]


def test_a_lookup_that_is_not_there_is_named(tmp_path: Path) -> None:
    code = "def process_batch(frame, batch_id, context):\n    context.lookups['country']\n"
    answer = once(tmp_path, code)
    assert answer.end["kind"] == "KeyError"
    assert answer.end["message"] == "no lookup 'country' in this job; there is: none"


DEAD = {
    "position": "context.dead_letter(1, 'why')",
    "numpy": "import numpy; context.dead_letter(numpy.int64(1), 'why')",
    "series": "context.dead_letter(frame.iloc[1], 'why')",
    "iterrows": "[context.dead_letter(row, 'why') for at, row in frame.iterrows() if at == 1]",
    "itertuples": "context.dead_letter(list(frame.itertuples())[1], 'why')",
    "dict": "context.dead_letter(frame.iloc[1].to_dict() | {'extra': 1}, 'why')",
    "frame": "context.dead_letter(frame[frame['units'].isna()], 'why')",
    "changed": (
        "frame['uuid'] = frame['uuid'].astype(object); context.dead_letter(frame.iloc[1], 'why')"
    ),
}


def test_a_dead_letter_is_a_row_of_the_input_in_any_form(tmp_path: Path) -> None:
    with Child(tmp_path, of_statements(DEAD.values())) as child:
        child.open()
        for at, which in enumerate(DEAD):
            answer = child.call(ROWS, batch_id=at)
            assert answer.end["type"] == "done", (which, answer.end)
            assert answer.dead == [("why", ROWS.slice(1, 1).to_pylist()[0])], which


DEAD_ELSEWHERE = {
    "polars": "context.dead_letter(frame.filter(frame['units'].is_null()), 'why')",
    "polars row": "context.dead_letter(frame.row(1, named=True), 'why')",
    "pyarrow": "context.dead_letter(frame.slice(1, 1), 'why')",
    "pyarrow positions": "import pyarrow as pa; context.dead_letter(pa.array([1]), 'why')",
    "pyarrow position": "import pyarrow as pa; context.dead_letter(pa.scalar(1), 'why')",
}


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_a_dead_letter_is_a_row_of_polars_and_pyarrow_too(tmp_path: Path, kind: str) -> None:
    statements = [code for name, code in DEAD_ELSEWHERE.items() if name.startswith(kind)]
    with Child(tmp_path, of_statements(statements)) as child:
        child.open(frame=kind)
        for at, statement in enumerate(statements):
            answer = child.call(ROWS, batch_id=at)
            assert answer.end["type"] == "done", (statement, answer.end)
            assert answer.dead == [("why", ROWS.slice(1, 1).to_pylist()[0])], statement


WRONG_DEAD = {
    "context.dead_letter(3, 'why')": "no row 3 in an input of 3 rows",
    "context.dead_letter(-1, 'why')": "no row -1 in an input of 3 rows",
    "context.dead_letter(1, 'a'); context.dead_letter(1, 'b')": "row 1 is a dead letter already",
    "context.dead_letter(True, 'why')": "a dead letter is a row, and not a bool",
    "context.dead_letter('b', 'why')": (
        "a dead letter is a row of the frame, its position or a frame of rows, and not a str"
    ),
    "context.dead_letter({'other': 1}, 'why')": "a dead letter has none of the input's columns",
    "context.dead_letter(1, '')": "a dead letter needs a reason: dead_letter(row, 'no amount')",
    "[context.dead_letter(frame, 'why') for _ in 'ab']": (
        "more dead letters than the 3 rows of the input"
    ),
}


def test_what_is_no_dead_letter_is_refused_at_its_line(tmp_path: Path) -> None:
    with Child(tmp_path, of_statements(WRONG_DEAD)) as child:
        child.open()
        for at, statement in enumerate(WRONG_DEAD):
            answer = child.call(ROWS, batch_id=at)
            assert answer.end["message"] == WRONG_DEAD[statement], statement
            assert (answer.end["file"], answer.end["line"]) == ("transform.py", 3 + 2 * at)
            assert answer.dead == []


def test_single_dead_letters_keep_their_order_however_many_there_are(tmp_path: Path) -> None:
    code = """
        def process_batch(frame, batch_id, context):
            for at, row in enumerate(frame.to_pylist()):
                context.dead_letter(at if at % 3 else row, str(at))
    """
    many = pa.table({"n": list(range(5000)), "text": [str(n) for n in range(5000)]})
    answer = once(tmp_path, code, many, frame="pyarrow")
    assert answer.dead == [(str(row["n"]), row) for row in many.to_pylist()]


def test_many_dead_letters_come_in_heads_of_a_limited_size(tmp_path: Path) -> None:
    code = """
        def process_batch(frame, batch_id, context):
            for at in range(len(frame)):
                context.dead_letter(at, "\\u0001" * 5000)
    """
    many = pa.table({"n": list(range(2000))})
    answer = once(tmp_path, code, many, frame="pyarrow")
    assert [row["n"] for _, row in answer.dead] == list(range(2000))
    assert {len(reason) for reason, _ in answer.dead} == {1000}


# -- Errors ---------------------------------------------------------------------------------------


def test_an_exception_says_where_it_is_and_the_runner_goes_on(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def halve(number):\n    return number / 0\n")
    code = """
        from helper import halve

        def process_batch(frame, batch_id):
            if batch_id == 1:
                try:
                    halve(1)
                except ZeroDivisionError as error:
                    raise ValueError("no half of it") from error
            return frame
    """
    with Child(tmp_path, textwrap.dedent(code)) as child:
        child.open()
        answer = child.call(ROWS, batch_id=1)
        assert answer.end == {
            "type": "error",
            "kind": "ValueError",
            "message": "no half of it",
            "file": "transform.py",
            "line": 9,
            "traceback": answer.end["traceback"],
        }
        trace = answer.end["traceback"]
        assert 'File "helper.py", line 2, in halve' in trace
        assert 'File "transform.py", line 9, in process_batch' in trace
        assert "_runner" not in trace
        assert str(tmp_path) not in trace
        assert child.call(ROWS, batch_id=2).result.num_rows == 3


OPENING = {
    "syntax": ("def process_batch(frame, batch_id):\n    return (\n", "SyntaxError", 2, "closed"),
    "import": ("import json\nimport no_such_package\n", "ModuleNotFoundError", 2, "no_such"),
    "raises": ("x = 1\nraise RuntimeError('at import')\n", "RuntimeError", 2, "at import"),
    "exits": ("raise SystemExit(3)\n", "SystemExit", 1, "3"),
    "one": (
        "\ndef process_batch(frame):\n    pass\n",
        "TypeError",
        2,
        "process_batch takes 1 parameter: write def process_batch(frame, batch_id) or "
        "def process_batch(frame, batch_id, context)",
    ),
    "four": ("def process_batch(a, b, c, d):\n    pass\n", "TypeError", 1, "takes 4 parameters"),
    "keyword": ("def process_batch(a, b, *, c):\n    pass\n", "TypeError", 1, "the keyword c"),
    "async": ("async def process_batch(a, b):\n    pass\n", "TypeError", 1, "is async"),
    "yields": ("def process_batch(a, b):\n    yield a\n", "TypeError", 1, "yields"),
    "class": ("class process_batch:\n    pass\n", "TypeError", None, "is a class"),
    "value": ("process_batch = 7\n", "TypeError", None, "is a int, and not a function"),
    "absent": ("def other(a, b):\n    pass\n", "NameError", None, "its functions are other"),
}


def test_code_that_cannot_be_used_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    with Child(tmp_path, "") as child:
        for which, (code, kind, line, words) in OPENING.items():
            (tmp_path / "transform.py").write_text(code)
            answer = child.open(frame="pyarrow")
            assert (answer["type"], answer["kind"], answer["line"]) == ("error", kind, line), which
            assert words in answer["message"], which
            assert answer["file"] == (None if line is None else "transform.py"), which


@pytest.mark.parametrize("package", ["pandas", "polars", "sqlframe"])
def test_a_package_that_is_missing_is_named_with_what_to_do(tmp_path: Path, package: str) -> None:
    # None in `sys.modules` is a package that is not installed.
    code = f"import sys\nsys.modules[{package!r}] = None\ndef process_batch(a, b):\n    pass\n"
    kind = "pyspark" if package == "sqlframe" else package
    if kind == "pyspark":
        # It is imported before the code is.
        (tmp_path / "sqlframe.py").write_text("raise ImportError('no', name='sqlframe')\n")
        code = ""
    with Child(tmp_path, code) as child:
        if kind == "pyspark":
            child.open(frame="pyarrow")
        answer = child.open(frame=kind)
    assert answer["kind"] == "ImportError"
    assert f'frame = "{kind}" needs the package {package}: add ' in answer["message"]


def test_a_file_that_hides_a_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def process_batch(frame, batch_id):\n    pass\n")
    answer = refused(tmp_path, "", file="json.py")
    assert "json.py hides the module json" in str(answer["message"])


def test_a_module_of_a_folder_is_opened_by_its_name(tmp_path: Path) -> None:
    package = tmp_path / "team" / "rules"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "team" / "__init__.py").write_text("")
    (package / "window.py").write_text(
        "from . import __name__ as name\ndef run(frame, batch_id):\n    raise ValueError(name)\n"
    )
    with Child(tmp_path, "") as child:
        ready = child.open(file=None, module="team.rules.window", name="run")
        assert ready["type"] == "ready", ready
        end = child.call(ROWS).end
        assert (end["message"], end["file"]) == ("team.rules", "team/rules/window.py")


RETURNS = {
    "7": "process_batch returned a int: return a frame of pandas, polars, pyarrow or pyspark, or",
    "{'a': frame}": "process_batch returned a dict: a job has one output: return one frame",
    "[{'a': 1}]": "return one frame, for example pandas.DataFrame(rows)",
    "frame['uuid']": "process_batch returned a pandas.Series: return series.to_frame()",
    "frame[[]]": "the returned frame has no columns",
    "frame.set_axis([1, 2, 3, 4, 5], axis=1)": "the column 1, whose name is not text",
    "frame[['uuid', 'uuid']]": "two columns 'uuid'",
    "frame.assign(uuid=[1, 'x', None])": (
        "column 'uuid' mixes int (row 0) and str (row 1): give it one type, for example "
        "frame['uuid'].astype(str)"
    ),
    "frame.assign(uuid=[object()] * 3)": "column 'uuid' has no Arrow type",
    "frame.assign(span=frame['at'] - frame['at'])": "column 'span' has the type duration[",
}


def test_what_is_no_result_is_refused_by_name(tmp_path: Path) -> None:
    with Child(tmp_path, of_statements(f"return {value}" for value in RETURNS)) as child:
        child.open()
        for at, value in enumerate(RETURNS):
            end = child.call(ROWS, batch_id=at).end
            assert RETURNS[value] in end["message"], value
            assert (end["file"], end["line"], end["traceback"]) == ("transform.py", 1, "")


def test_a_column_without_a_type_is_refused_in_the_call_without_rows(tmp_path: Path) -> None:
    code = "def process_batch(frame, batch_id):\n    return frame.assign(code=None)\n"
    with Child(tmp_path, code) as child:
        child.open()
        end = child.call(NONE, empty=True).end
        assert end["kind"] == "SchemaError"
        assert "the type of column 'code' cannot be learned" in end["message"]
        assert 'code = "string"' in end["message"]
        assert child.call(ROWS).result.schema.field("code").type == pa.null()


def test_an_index_is_dropped_unless_it_has_a_name(tmp_path: Path) -> None:
    code = """
        def process_batch(frame, batch_id):
            if batch_id == 1:
                return frame.set_index([[7, 8, 9]])[["uuid"]]
            return frame.groupby("uuid")[["units"]].sum()
    """
    with Child(tmp_path, textwrap.dedent(code)) as child:
        child.open()
        assert child.call(ROWS, batch_id=1).result.column_names == ["uuid"]
        assert child.call(ROWS, batch_id=2).result.column_names == ["uuid", "units"]


# -- The process ----------------------------------------------------------------------------------


def test_print_goes_to_the_output_line_by_line_and_input_is_empty(tmp_path: Path) -> None:
    code = """
        import os, sys
        def process_batch(frame, batch_id):
            print("a line", sys.stdin.read(), os.read(0, 10))
            print("an error \\udcff", file=sys.stderr)
            print("no end", end="")
    """
    with Child(tmp_path, textwrap.dedent(code)) as child:
        child.open(frame="pyarrow")
        answer = child.call(ROWS)
        assert answer.end["type"] == "done", answer.end
        assert child.process.stdout is not None
        assert child.process.stderr is not None
        assert child.process.stdout.readline() == b"a line  b''\n"
        assert child.process.stderr.readline() == b"an error \\udcff\n"
        assert child.process.stdout.read(6) == b"no end"


def test_a_closed_connection_ends_the_process_with_success(tmp_path: Path) -> None:
    with Child(tmp_path, IDENTITY["pyarrow"]) as child:
        child.open()
        child.socket.close()
        assert child.process.wait(60) == 0


def test_programs_that_the_function_starts_do_not_get_the_connection(tmp_path: Path) -> None:
    code = """
        import os, subprocess, sys
        def process_batch(frame, batch_id, context):
            listed = "import os; print(sorted(os.listdir('/proc/self/fd')))"
            found = subprocess.run([sys.executable, "-I", "-c", listed], close_fds=False,
                capture_output=True, text=True).stdout
            context.log(found.strip())
    """
    answer = once(tmp_path, code, frame="pyarrow")
    assert [text for _, text in answer.log] == ["['0', '1', '2', '3']"], "3 lists the folder"


def test_a_fork_that_comes_back_does_not_answer(tmp_path: Path) -> None:
    code = """
        import os
        def process_batch(frame, batch_id):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            return frame
    """
    answer = once(tmp_path, code, frame="pyarrow")
    assert answer.result.num_rows == 3


def test_the_function_may_exit_threads_may_log_and_the_runner_goes_on(tmp_path: Path) -> None:
    code = """
        import sys, threading
        kept = []
        def process_batch(frame, batch_id, context):
            if batch_id == 1:
                sys.exit("enough")
            if batch_id == 2:
                kept.append(context)
                threads = [threading.Thread(target=context.log, args=("x" * 10_000,))
                    for _ in range(8)]
                [thread.start() for thread in threads]
                [thread.join() for thread in threads]
            if batch_id == 3:
                kept[0].log("late")
            return frame
    """
    with Child(tmp_path, textwrap.dedent(code)) as child:
        child.open(frame="pyarrow")
        assert child.call(ROWS, batch_id=1).end["kind"] == "SystemExit"
        second = child.call(ROWS, batch_id=2)
        assert second.result.num_rows == 3
        assert [len(text) for _, text in second.log] == [8192] * 8
        third = child.call(ROWS, batch_id=3).end
        assert third["message"] == "the call for batch 2 has ended"


def test_published_is_told_to_the_function_that_is_named(tmp_path: Path) -> None:
    code = """
        from helper import process_batch
        def after(epoch, objects, context):
            context.log(f"{epoch} {objects[0]['location']} {context.batch_id} {context.job}")
        def wrong(epoch):
            pass
    """
    (tmp_path / "helper.py").write_text("def process_batch(frame, batch_id):\n    pass\n")
    objects = [{"location": "s3://bucket/part", "rows": 3, "bytes": 100}]
    with Child(tmp_path, textwrap.dedent(code)) as child:
        child.open()
        head = {"type": "published", "batch_id": 60, "epoch": 7, "objects": objects}
        child.send(head | {"name": "after"})
        answer = child.answer()
        assert answer.end["type"] == "done", answer.end
        assert answer.log == [("info", "7 s3://bucket/part 60 sales")]
        child.send(head | {"name": "wrong"})
        assert "def wrong(epoch, objects)" in child.answer().end["message"]
        child.send(head | {"name": "absent"})
        assert child.answer().end["kind"] == "NameError"


def test_the_text_of_the_runner_runs_without_its_package(tmp_path: Path) -> None:
    from peer import RUNNER

    copy = tmp_path / "elsewhere" / "runner.py"
    copy.parent.mkdir()
    copy.write_text(RUNNER.read_text())
    (copy.parent / "decoy.py").write_text("raise RuntimeError('of the folder of the runner')\n")
    code = "try:\n    import decoy\nexcept ImportError:\n    pass\n" + IDENTITY["pyarrow"].replace(
        "from __future__ import annotations\n", ""
    )
    for flags in (("-I", "-B"), ("-s", "-B")):
        with Child(tmp_path, code, flags=flags, runner=copy) as child:
            assert child.open()["type"] == "ready"
            assert child.call(ROWS).result == ROWS


OPEN = b"open"
BROKEN = {
    "unknown type": [(b'{"type":"hello"}', b"")],
    "not JSON": [(b"{", b"")],
    "not an object": [(b"[]", b"")],
    "call before open": [(b'{"type":"call","batch_id":1}', b"")],
    "a message without its name": [(OPEN, b""), (b'{"type":"lookup","version":"v"}', stream(ROWS))],
    "a call without its batch": [(OPEN, b""), (b'{"type":"call"}', b"")],
    "an end without rows": [
        (OPEN, b""),
        (b'{"type":"call","batch_id":1}', b""),
        (b'{"type":"end"}', b""),
    ],
    "rows outside of a call": [(b'{"type":"rows"}', b"x")],
}


@pytest.mark.parametrize("which", BROKEN)
def test_a_broken_message_ends_the_runner_with_its_reason(tmp_path: Path, which: str) -> None:
    with Child(tmp_path, IDENTITY["pyarrow"]) as child:
        for head, body in BROKEN[which]:
            if head is OPEN:
                child.open()
            else:
                child.send(head, body)
        assert child.receive()[0]["kind"] == "ProtocolError"
        assert child.process.wait(60) == 2


@pytest.mark.parametrize("lengths", [(1 << 21, 0), (10, 1 << 62), (4 << 30, 10)][:2])
def test_a_length_beyond_the_limits_is_refused_before_anything_is_allocated(
    tmp_path: Path, lengths: tuple[int, int]
) -> None:
    with Child(tmp_path, IDENTITY["pyarrow"]) as child:
        child.socket.sendall(struct.pack(">IQ", *lengths))
        answer = child.receive()[0]
        assert "are allowed" in answer["message"], answer
        assert child.process.wait(60) == 2


def test_a_body_beyond_the_memory_limit_of_the_job_is_refused(tmp_path: Path) -> None:
    with Child(tmp_path, IDENTITY["pyarrow"]) as child:
        child.open(memory_bytes=100)
        child.send({"type": "call", "batch_id": 1})
        child.send({"type": "rows"}, stream(ROWS))
        assert "100 are allowed" in child.receive()[0]["message"]


def test_rows_beyond_the_memory_of_the_process_are_an_error_of_memory(tmp_path: Path) -> None:
    with Child(tmp_path, IDENTITY["pyarrow"]) as child:
        child.open()
        resource.prlimit(child.process.pid, resource.RLIMIT_AS, (1 << 30, 1 << 30))
        child.send({"type": "call", "batch_id": 1})
        child.socket.sendall(struct.pack(">IQ", 15, 8 << 30) + b'{"type":"rows"}')
        assert child.receive()[0]["kind"] == "MemoryError"
        assert child.process.wait(60) == 2


def test_a_body_that_is_no_arrow_stream_is_refused(tmp_path: Path) -> None:
    with Child(tmp_path, IDENTITY["pyarrow"]) as child:
        child.open()
        child.send({"type": "call", "batch_id": 1})
        child.send({"type": "rows"}, b"\xff" * 64)
        assert "not an Arrow stream" in child.receive()[0]["message"]


def test_a_lookup_version_that_was_not_sent_is_refused(tmp_path: Path) -> None:
    with Child(tmp_path, IDENTITY["pyarrow"]) as child:
        child.open()
        answer = child.call(ROWS, lookups={"countries": "v1"})
        assert answer.end["kind"] == "ProtocolError", answer.end

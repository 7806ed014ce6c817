"""`streamctl.testing.run`: a batch function in a test."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import streamctl
from streamctl import testing

RECORDS = [{"uuid": "a", "units": 1}, {"uuid": "b", "units": 2, "note": "late"}]
UTC = timezone.utc

JOB = """
name = "orders"
[source]
type = "kinesis"
stream = "orders"
[source.schema]
uuid = "string"
units = "int"
price = "decimal(10,2)"
country = "string"
[window]
size = "60s"
[[lookup]]
name = "countries"
path = "countries/"
[transform]
sql = '''
SELECT s.uuid, s.units, s.price, c.code FROM source s JOIN countries c ON s.country = c.name
'''
[function]
file = "transform.py"
frame = "polars"
[sink]
path = "s3://bucket/out/"
partition_by = ["code"]
[checkpoint]
location = "s3://bucket/checkpoint/"
"""


def doubled(frame: pd.DataFrame, batch_id: int, context: streamctl.Context) -> pd.DataFrame:
    context.log(f"{len(frame)} rows")
    for at in frame.index[frame["units"] > 5]:
        context.dead_letter(at, "too many")
    frame = frame[frame["units"] <= 5]
    return frame.assign(units=frame["units"] * 2, batch=batch_id)


def test_the_answer_is_a_frame_dead_letters_and_a_log() -> None:
    rows = [*RECORDS, {"uuid": "c", "units": 9}]
    result = testing.run(doubled, rows, batch_id=7)
    assert isinstance(result.frame, pd.DataFrame)
    assert result.frame[["uuid", "units", "batch"]].to_dict("records") == [
        {"uuid": "a", "units": 2, "batch": 7},
        {"uuid": "b", "units": 4, "batch": 7},
    ]
    assert result.table is not None
    assert result.table.schema.field("units").type == pa.int64()
    refused = {"uuid": "c", "units": 9, "note": None}
    assert result.dead_letters == [testing.DeadLetter(refused, "too many")]
    assert result.log == [testing.LogLine("info", "3 rows")]


@pytest.mark.parametrize("form", ["lines", "list", "pandas", "polars", "pyarrow", "parquet", "csv"])
def test_records_come_in_many_forms(tmp_path: Path, form: str) -> None:
    rows = [{"uuid": "a", "units": 1}, {"uuid": "b", "units": 2}]
    table = pa.Table.from_pylist(rows)
    records: Any = {"pandas": pd.DataFrame(rows), "polars": pl.DataFrame(rows), "pyarrow": table}
    records = records.get(form, tmp_path / f"records.{form}")
    if form in ("lines", "list"):
        records = str(tmp_path / "records.json")
        text = json.dumps(rows) if form == "list" else "\n".join(map(json.dumps, rows))
        Path(records).write_text(text + "\n")
    elif form == "parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, records)
    elif form == "csv":
        records.write_text("uuid,units\na,1\nb,2\n")
    result = testing.run(lambda frame, batch_id: frame, records, frame="pyarrow")
    assert result.table == table


def test_the_window_and_the_batch_belong_together() -> None:
    seen = []

    def process_batch(frame: pa.Table, batch_id: int, context: streamctl.Context) -> None:
        assert isinstance(context, streamctl.Context)
        seen.append((batch_id, context.window_start, context.window_end, context.attempt))

    start = datetime(2026, 11, 24, 1, tzinfo=UTC)
    hour = timedelta(hours=1)
    result = testing.run(process_batch, RECORDS, window=(start, start + hour), attempt=2)
    assert (result.frame, result.table) == (None, None)
    testing.run(process_batch, RECORDS, batch_id=60, empty_call=False)
    number = int(start.timestamp()) // 3600
    first = datetime(1970, 1, 1, 1, tzinfo=UTC)
    call = (number, start, start + hour, 2)
    assert seen == [call, call, (60, first, first + timedelta(minutes=1), 1)]
    with pytest.raises(streamctl.StreamctlError, match="both with a time zone"):
        testing.run(process_batch, RECORDS, window=(datetime(2026, 1, 1), start))


def test_lookups_are_frames_of_the_same_kind() -> None:
    def process_batch(frame: pl.DataFrame, batch_id: int, context: streamctl.Context) -> object:
        return frame.join(context.lookups["names"], on="uuid")

    result = testing.run(process_batch, RECORDS, lookups={"names": [{"uuid": "b", "name": "B"}]})
    assert isinstance(result.frame, pl.DataFrame)
    assert result.frame.select("uuid", "name").rows() == [("b", "B")]


def test_an_exception_keeps_its_line_and_its_cause() -> None:
    def process_batch(frame: pd.DataFrame, batch_id: int) -> object:
        if len(frame):
            raise ValueError("not today")
        return frame

    with pytest.raises(streamctl.FunctionError) as caught:
        testing.run(process_batch, RECORDS)
    error = caught.value
    assert (error.code, error.file) == ("ValueError", "test_testing.py")
    assert str(error) == f"ValueError: not today (test_testing.py, line {error.line})"
    assert isinstance(error.__cause__, ValueError)
    assert "in process_batch" in error.traceback


def test_what_only_the_call_without_rows_shows_is_found() -> None:
    def first_row(frame: pd.DataFrame, batch_id: int) -> object:
        frame["first"] = frame["uuid"].iloc[0]
        return frame

    with pytest.raises(streamctl.FunctionError, match="call without rows, which `submit` makes"):
        testing.run(first_row, RECORDS)
    assert testing.run(first_row, RECORDS, empty_call=False).frame["first"].tolist() == ["a", "a"]


DIFFERENT = {
    "frame if len(frame) else None": "would learn no columns",
    "frame.assign(n=1 if len(frame) else 1.5)": "column 'n' is int64, and was double for no rows",
    "frame if len(frame) else frame.assign(n=1)": "returned no column 'n', which it returned for",
    "frame.assign(n=1) if len(frame) else frame": "returned the column 'n', which it did not for",
}


@pytest.mark.parametrize("value", DIFFERENT)
def test_columns_that_depend_on_the_rows_are_named(value: str) -> None:
    function = eval(f"lambda frame, batch_id: {value}")
    with pytest.raises(streamctl.FunctionError) as caught:
        testing.run(function, RECORDS)
    assert DIFFERENT[value] in str(caught.value)


def test_a_file_is_imported_as_a_worker_does_it(tmp_path: Path) -> None:
    (tmp_path / "rates.txt").write_text("3")
    file = tmp_path / "spark_code.py"
    file.write_text(
        "from pyspark.sql import functions as F\n"
        "def double(frame, batch_id):\n"
        "    rate = int(open('rates.txt').read())\n"
        "    return frame.select('uuid', (F.col('units') * rate).alias('units'))\n"
    )
    before = os.getcwd()
    result = testing.run(file, RECORDS, frame="pyspark", name="double")
    assert isinstance(result.frame, pd.DataFrame)
    assert result.frame["units"].tolist() == [3, 6]
    assert os.getcwd() == before
    others = testing.run(lambda frame, _: frame, [{"other": 1}], frame="pyspark")
    assert others.frame["other"].tolist() == [1], "another run has other columns"
    with pytest.raises(streamctl.FunctionError, match="its functions are double"):
        testing.run(str(file), RECORDS, frame="pyspark")
    (tmp_path / "broken.py").write_text("import json\nimport no_such_package\n")
    with pytest.raises(streamctl.FunctionError, match=r"\(broken\.py, line 2\)"):
        testing.run(tmp_path / "broken.py", RECORDS)
    with pytest.raises(streamctl.StreamctlError, match=r"absent\.py is not a file"):
        testing.run(tmp_path / "absent.py", RECORDS)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(streamctl.FunctionError, match="takes 1 parameter"):
        testing.run(lambda frame: frame, RECORDS)


def test_records_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"a":1}\n{"a":\n')
    cases = [
        ([], "there are no records"),
        ([{"a": 1}, {"a": "x"}], "values of different types in 'a'"),
        ([1, 2], "records are JSON objects"),
        ("no-such-file.json", "no-such-file.json"),
        (broken, "broken.json, line 2"),
    ]
    for records, words in cases:
        with pytest.raises(streamctl.StreamctlError, match=words):
            testing.run(doubled, records)


def test_a_job_file_is_the_same_after_it_was_written() -> None:
    from streamctl import _job

    document = _job.load(JOB, "job") | {
        "retry": {"max": 5, "share": 0.5, "on": True, "at": datetime(2026, 1, 1, tzinfo=UTC)},
        "quotes": 'a "b" \\ \n c',
        "list": ["a", 1],
        "nested": {"catalog": {"database": "d", "dots.in": [{"a": 1}]}},
    }
    assert _job.load(_job.to_toml(document), "job") == document


def test_a_job_applies_its_columns_and_its_query(tmp_path: Path, program: str) -> None:
    (tmp_path / "countries").mkdir()
    (tmp_path / "countries" / "list.csv").write_text("name,code\nGermany,DE\nNamibia,NA\n")
    (tmp_path / "job.toml").write_text(JOB)
    lines = [
        {"uuid": "a", "units": "3", "price": "1.20", "country": "Germany"},
        {"uuid": "b", "units": "4", "price": "7", "country": "Atlantis"},
    ]
    file = tmp_path / "records.json"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"uuid":\n')

    def process_batch(frame: Any, batch_id: int, context: streamctl.Context) -> Any:
        assert isinstance(frame, pl.DataFrame), "the job's file decides"
        context.log(context.job)
        return frame

    result = testing.run(process_batch, file, job=tmp_path / "job.toml")
    assert result.table is not None
    assert str(result.table.schema.field("price").type) == "decimal128(10, 2)"
    assert result.frame.select("uuid", "units", "code").rows() == [("a", 3, "DE")]
    assert result.log[0].text == "orders"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "countries",
        "job.toml",
        "records.json",
    ]
    with pytest.raises(streamctl.StreamctlError, match="makes no rows of 1 records"):
        testing.run(process_batch, [{"country": "Atlantis"}], job=tmp_path / "job.toml")
    (tmp_path / "job.toml").write_text(JOB.replace("s.uuid", "s.nothing"))
    with pytest.raises(streamctl.StreamctlError, match="nothing"):
        testing.run(process_batch, file, job=tmp_path / "job.toml")

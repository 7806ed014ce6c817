"""Frames of pyspark: casts give what Spark gives."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from streamctl import _runner

pytest.importorskip("sqlframe")

#: Values and what Spark 3.5.3 gives for `CAST(... AS INT)`.
WHOLE: list[tuple[list[Any], list[int | None]]] = [
    (
        ["7", " 17 ", "-5", "+3", "3.9", "-3.9", ".5", "", "12x", "1e2", "2147483648", None],
        [7, 17, -5, 3, 3, -3, 0, None, None, None, None, None],
    ),
    ([3.9, -3.9, 2.5, None], [3, -3, 2, None]),
    ([Decimal("3.90"), Decimal("-2.50")], [3, -2]),
    ([7, None], [7, None]),
    ([True, False], [1, 0]),
]


@pytest.mark.parametrize(("values", "expected"), WHOLE)
def test_a_cast_to_a_whole_number_is_that_of_spark(
    values: list[Any], expected: list[int | None]
) -> None:
    frames = _runner.frames_of("pyspark")
    frame = frames.make(pa.table({"x": values}))
    found = _runner.table_of(frame.select(frame["x"].cast("int").alias("x")))
    assert found is not None
    assert found.column("x").to_pylist() == expected
    frames.release()


def test_what_is_no_such_value_becomes_null_in_other_types_too() -> None:
    frames = _runner.frames_of("pyspark")
    frame = frames.make(pa.table({"x": ["1.5", "abc", "", "2026-01-02"]}))
    columns = [frame["x"].cast(kind).alias(kind) for kind in ("double", "date", "string")]
    found = _runner.table_of(frame.select(*columns))
    assert found is not None
    assert found.column("double").to_pylist() == [1.5, None, None, None]
    dates = [None if day is None else day.isoformat()[:10] for day in found["date"].to_pylist()]
    assert dates == [None, None, None, "2026-01-02"]
    assert found.column("string").to_pylist() == ["1.5", "abc", "", "2026-01-02"]
    frames.release()

"""One call per key: which rows are a key's, their order, and what its results become."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from peer import Child

from streamctl import FunctionError, _runner, testing

ROWS = pa.table(
    {
        "customer": ["b", None, "a", "b", "a", None],
        "day": [1, 1, 2, 1, 1, 1],
        "n": [0, 1, 2, 3, 4, 5],
    }
)


def groups(rows: pa.Table, *by: str) -> list[tuple[Any, ...]]:
    """Each key's values, and the numbers of its rows."""
    found = _runner.key_groups(rows, by)
    return [(*key.values(), group.column("n").to_pylist()) for key, group in found]


def test_keys_come_in_their_order_and_rows_of_a_key_in_theirs() -> None:
    by_customer = [("a", [2, 4]), ("b", [0, 3]), (None, [1, 5])]
    assert groups(ROWS, "customer") == by_customer
    chunked = pa.concat_tables([ROWS.slice(0, 2), ROWS.slice(2, 1), ROWS.slice(3)])
    assert groups(chunked, "customer") == by_customer
    by_both = [("a", 1, [4]), ("a", 2, [2]), ("b", 1, [0, 3]), (None, 1, [1, 5])]
    assert groups(ROWS, "customer", "day") == by_both
    assert groups(ROWS.slice(0, 0), "customer") == []


@pytest.mark.parametrize(
    "values",
    [
        [True, False, True, None],
        [2, 1, 2, None],
        [b"b", b"a", b"b", None],
        [date(2026, 1, 2), date(2026, 1, 1), date(2026, 1, 2), None],
        [
            datetime(2026, 1, 2, tzinfo=timezone.utc),
            datetime(2026, 1, 1, tzinfo=timezone.utc),
            datetime(2026, 1, 2, tzinfo=timezone.utc),
            None,
        ],
        [Decimal("2.50"), Decimal("1.25"), Decimal("2.50"), None],
    ],
)
def test_values_of_every_type_of_a_key_are_grouped(values: list[Any]) -> None:
    rows = pa.table({"key": values, "n": [0, 1, 2, 3]})
    assert groups(rows, "key") == [(values[1], [1]), (values[0], [0, 2]), (None, [3])]


def test_more_keys_than_a_window_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runner, "KEYS_PER_CALL_MAX", 2)
    with pytest.raises(_runner.Refusal, match="the window has 3 keys of customer, 2 are possible"):
        list(_runner.key_groups(ROWS, ["customer"]))


CODE = """
def process_batch(frame, batch_id, context):
    key = context.key['customer']
    if key is None:
        context.dead_letter(0, 'no customer')
        return None
    assert (frame['customer'] == key).all()
    return frame.groupby('customer', as_index=False).agg(n=('n', 'sum'))
"""


def test_a_call_per_key_has_one_answer_for_all_of_them(tmp_path: Path) -> None:
    with Child(tmp_path, CODE) as child:
        assert child.open()["type"] == "ready"
        answer = child.call(ROWS, by=["customer"])
        assert answer.end["keys"] == 3
        assert answer.result.to_pydict() == {"customer": ["a", "b"], "n": [6, 3]}
        assert [(reason, row["n"]) for reason, row in answer.dead] == [("no customer", 1)]
        assert len(answer.rows) == 1, "results of keys travel together"
        # The call that learns the columns is one call without a key.
        empty = child.call(ROWS.slice(0, 0), by=["customer"], empty=True)
        assert (empty.end["type"], empty.end.get("kind")) == ("error", "KeyError")


def test_an_error_names_the_key_and_the_next_call_is_served(tmp_path: Path) -> None:
    code = "def process_batch(frame, batch_id):\n"
    code += "    return frame if frame['n'].sum() != 3 else 1 / 0\n"
    with Child(tmp_path, code) as child:
        child.open()
        end = child.call(ROWS, by=["customer"]).end
        assert end["message"] == "division by zero (key: customer = 'b')"
        assert (end["file"], end["line"]) == ("transform.py", 2)
        assert child.call(ROWS.slice(2), by=["day"]).end["keys"] == 2
        end = child.call(ROWS, by=["none"]).end
        assert "by = ['none']: the rows have no such column" in end["message"]


def test_results_of_keys_may_differ_in_their_types_as_far_as_they_fit() -> None:
    def process_batch(frame: Any, batch_id: int) -> Any:
        share = None if len(frame) == 1 else frame["n"].sum() / 2
        return frame.head(1)[["day"]].assign(share=share)

    rows = {"customer": ["a", "b", "b"], "day": [1, 1, 1], "n": [1, 2, 3]}
    result = testing.run(process_batch, pa.table(rows), by=["customer"], empty_call=False)
    assert result.table is not None
    assert result.table.to_pydict() == {"day": [1, 1], "share": [None, 2.5]}


def test_frames_of_pyspark_are_refused_per_key(tmp_path: Path) -> None:
    code = "def process_batch(frame, batch_id):\n    return frame\n"
    (tmp_path / "transform.py").write_text(code)
    with pytest.raises(FunctionError, match="applyInPandas"):
        testing.run(
            tmp_path / "transform.py", ROWS, frame="pyspark", by=["customer"], empty_call=False
        )


def test_code_without_on_published_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    code = "# def note(epoch, objects): a name in a comment is none\nother = 'note'\n"
    code += "def process_batch(frame, batch_id):\n    return frame\n"
    with Child(tmp_path, code) as child:
        answer = child.open(on_published="note")
        assert answer["type"] == "error"
        assert "on_published: transform has no function 'note'" in answer["message"]
    with Child(tmp_path, code + "def note(epoch):\n    pass\n") as child:
        answer = child.open(on_published="note")
        assert "write def note(epoch, objects)" in answer["message"]
    with Child(tmp_path, code + "def note(epoch, objects):\n    pass\n") as child:
        assert child.open(on_published="note")["type"] == "ready"

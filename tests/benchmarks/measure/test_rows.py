import csv
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxsight.benchmarks.measure import rows
from maxsight.benchmarks.measure.rows import Row


def test_rows_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    saved = [
        Row("latency", "100k x 512", 'a "quoted", name', "latency", 1.25, "ms", 1.0, 2.0, 30),
        Row("recall", "openmoji, unseen concepts", "maxsight", "recall@10", 0.5),
    ]
    path = tmp_path / "new" / "rows.csv"
    rows.save(saved, path)
    assert rows.load(path) == saved


def test_saving_again_appends_and_the_later_figure_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    first = Row("latency", "1k x 512", "maxsight", "latency", 3.0, "ms")
    other = Row("latency", "1k x 512", "faiss flat", "latency", 1.0, "ms")
    again = Row("latency", "1k x 512", "maxsight", "latency", 2.0, "ms")
    rows.save([first, other], path)
    rows.save([again], path)
    assert rows.load(path) == [again, other]
    with path.open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == 3
    for record in records:
        assert "core" in record["device"]
        assert "maxsight " in record["versions"]
        assert record["when"].startswith("20")
        assert float(record["load"]) >= 0
    runs = rows.circumstances(path)
    assert 1 <= len(runs) <= 2
    assert runs[-1].device == records[-1]["device"]


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40))
def test_a_fifth_of_the_values_lies_below_and_above_the_spread(values: list[float]) -> None:
    low, median, high = rows.spread(values)
    slack = 1 + 1e-4  # five figures
    assert median == pytest.approx(statistics.median(values), rel=1e-4)
    assert low <= median * slack
    assert median <= high * slack
    assert sum(value < low / slack for value in values) <= len(values) / 5
    assert sum(value > high * slack for value in values) <= len(values) / 5


def test_seconds_become_milliseconds() -> None:
    row = rows.timed([0.001, 0.002, 0.003], benchmark="b", case="c", contender="d")
    assert (row.low, row.value, row.high, row.unit, row.runs) == (1.0, 2.0, 3.0, "ms", 3)

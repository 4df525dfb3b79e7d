from pathlib import Path

import pytest

from maxsight.benchmarks.measure import rows, tables
from maxsight.benchmarks.measure.rows import Row
from maxsight.errors import DatasetError


def test_figures_are_written_between_the_comments(tmp_path: Path) -> None:
    rows.save(
        [
            Row("b", "1k", "maxsight", "latency", 1.2345, "ms", 1.0, 1234.5, 9),
            Row("b", "1k", "maxsight", "recall@10", 0.5),
            Row("b", "1k", "flat", "latency", 2, "ms", runs=3),
            *(Row("b", f"{size}k", "flat", "latency", 3, "ms") for size in (2, 3, 4, 5)),
        ],
        tmp_path / "x.csv",
    )
    document = "before\n<!-- figures of x.csv -->\nold\n<!-- end -->\nafter"
    filled = tables.filled(document, tmp_path)
    assert "| case | contender | latency | besides |" in filled
    assert "| 1k | maxsight | 1.23 ms (1–1,234, n 9) | recall@10 0.5 |" in filled
    assert "|  | flat | 2 ms (n 3) |  |" in filled
    assert "| 5k | flat | 3 ms |  |" in filled
    assert "core" in filled
    assert "old" not in filled
    assert filled.startswith("before\n<!-- figures of x.csv -->\n|")
    assert filled.endswith("<!-- end -->\nafter")
    assert tables.filled(filled, tmp_path) == filled
    with pytest.raises(DatasetError, match=r"y\.csv is missing"):
        tables.filled(document.replace("x.csv", "y.csv"), tmp_path)


def test_the_documentation_says_what_the_results_say() -> None:
    document = tables.DOCUMENT.read_text(encoding="utf-8")
    assert tables.filled(document, tables.RESULTS) == document

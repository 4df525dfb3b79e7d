from pathlib import Path

import pytest

from maxsight.benchmarks.measure import plots, rows
from maxsight.benchmarks.measure.rows import Row
from maxsight.errors import DatasetError

pytest.importorskip("matplotlib")

ROWS = [
    Row("latency", "1k x 512", "maxsight", "latency", 0.3, "ms", 0.2, 0.4, 9),
    Row("latency", "100k x 512", "maxsight", "latency", 9.0, "ms", 8.0, 10.0, 9),
    Row("latency", "1k x 512", "faiss flat", "latency", 0.1, "ms", 0.1, 0.1, 9),
    Row("latency", "100k x 512", "maxsight", "latency / faiss flat", 1.1, "x", 1.0, 1.2, 9),
    Row("startup", "demo", 'python -c "import torch"', "time", 2e3, "ms", 1.9e3, 2.2e3, 9),
]


def test_plots_are_drawn_for_the_rows_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.save(ROWS, tmp_path / "results" / "some.csv")
    written = plots.write(tmp_path / "results", tmp_path / "plots")
    assert {path.name for path in written} == {
        f"{name}.{suffix}"
        for name in ("latency", "startup", "targets")
        for suffix in ("svg", "png")
    }
    assert "left out: ingestion" in capsys.readouterr().err
    assert all(path.stat().st_size > 1_000 for path in written)
    svg = (tmp_path / "plots" / "latency.svg").read_bytes()
    plots.write(tmp_path / "results", tmp_path / "again")
    assert (tmp_path / "again" / "latency.svg").read_bytes() == svg


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="--save"):
        plots.write(tmp_path, tmp_path / "plots")

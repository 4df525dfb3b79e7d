"""Figures in the documentation, out of the rows: ``python -m maxsight.benchmarks.tables``.

docs/benchmarks.md holds pairs of comments, ``<!-- figures of NAME.csv -->`` and ``<!-- end -->``;
what stands between them is written from ``benchmarks/results/NAME.csv``, never by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

from maxsight.benchmarks import rows as row_files
from maxsight.errors import DatasetError

_ROOT = Path(__file__).resolve().parents[1]
RESULTS, DOCUMENT = _ROOT / "benchmarks" / "results", _ROOT / "docs" / "benchmarks.md"
_PLACE = re.compile(r"(<!-- figures of ([\w-]+\.csv) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(document: str, results: Path) -> str:
    """A document with its figures as ``results`` has them.

    Raises:
        DatasetError: it names a file that is not there.
    """
    return _PLACE.sub(lambda place: place[1] + table(results / place[2]) + place[3], document)


def table(path: Path) -> str:
    """The rows of one CSV file as Markdown, and below it where and when they were measured.

    Raises:
        DatasetError: there is no such file.
    """
    if not path.exists():
        raise DatasetError(f"{path} is missing; write it with: maxsight bench NAME --save {path}")
    lines = [
        "| case | contender | metric | median | 20–80 % | n |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in row_files.load(path):
        spread = "" if row.low is None else f"{figure(row.low)}–{figure(row.high or 0)}"
        value = f"{figure(row.value)} {row.unit}".strip()
        cells = (row.case, row.contender, row.metric, value, spread, str(row.runs))
        lines.append("| " + " | ".join(cells) + " |")
    measured = [
        f"{run.device}; load {run.load}; {run.versions}; {run.when}.\n"
        for run in row_files.circumstances(path)
    ]
    return "\n".join([*lines, "", *measured])


def figure(value: float) -> str:
    """Three figures, and whole numbers whole."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")

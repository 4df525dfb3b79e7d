"""Figures in the documentation, out of the rows: ``python -m maxsight.benchmarks.measure.tables``.

docs/benchmarks.md holds pairs of comments, ``<!-- figures of NAME.csv -->`` and ``<!-- end -->``;
what stands between them is written from ``NAME.csv`` in a folder of ``benchmarks/results``, never
by hand.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from maxsight.benchmarks.measure import rows as row_files
from maxsight.errors import DatasetError

_ROOT = Path(__file__).resolve().parents[2]
RESULTS, DOCUMENT = _ROOT / "benchmarks" / "results", _ROOT / "docs" / "benchmarks.md"
# A metric that fewer of the lines have gets no column of its own.
_COLUMN_SHARE = 0.25
_GAP = re.compile(r"(<!-- figures of ([\w-]+\.csv) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(document: str, results: Path) -> str:
    """A document with its figures as ``results`` has them, in whichever folder below it.

    Raises:
        DatasetError: it names a file that is not there.
    """

    def figures(gap: re.Match[str]) -> str:
        path = next(results.rglob(gap[2]), results / gap[2])
        return gap[1] + table(path) + gap[3]

    return _GAP.sub(figures, document)


def table(path: Path) -> str:
    """The rows of one CSV file as Markdown, and below it where and when they were measured.

    A line is a contender in a case, a column a metric that many of them have.

    Raises:
        DatasetError: there is no such file.
    """
    if not path.exists():
        raise DatasetError(f"{path} is missing; write it with: maxsight bench NAME --save {path}")
    found = row_files.load(path)
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in found:
        cells.setdefault((row.case, row.contender), {})[row.metric] = cell(row)
    counts = Counter(row.metric for row in found)
    metrics = [metric for metric, count in counts.items() if count >= _COLUMN_SHARE * len(cells)]
    others = ["besides"] if len(metrics) < len(counts) else []
    lines = [
        _line(["case", "contender", *metrics, *others]),
        _line(["---", "---", *["---:" for _ in metrics], *["---" for _ in others]]),
    ]
    before = ""
    for (case, contender), figures in cells.items():
        own = [figures.pop(metric, "") for metric in metrics]
        rest = ["; ".join(f"{metric} {value}" for metric, value in figures.items()) for _ in others]
        lines.append(_line(["" if case == before else case, contender, *own, *rest]))
        before = case
    measured = [
        f"{run.device}; load {run.load}; {run.versions}; {run.when}.\n"
        for run in row_files.circumstances(path)
    ]
    return "\n".join([*lines, "", *measured])


def cell(row: row_files.Row) -> str:
    """A median with its unit; in brackets the percentiles, and the runs if there were several."""
    brackets = [] if row.low is None else [f"{figure(row.low)}–{figure(row.high or 0)}"]
    brackets += [f"n {row.runs:,}"] if row.runs > 1 else []
    value = f"{figure(row.value)} {row.unit}".strip()
    return f"{value} ({', '.join(brackets)})" if brackets else value


def figure(value: float) -> str:
    """Three figures, and whole numbers whole."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")

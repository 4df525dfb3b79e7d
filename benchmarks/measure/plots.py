"""Pictures of the rows: ``python -m maxsight.benchmarks.measure.plots RESULTS FOLDER``.

RESULTS is a folder with CSV files as ``maxsight bench --save`` writes them, in folders or not. Each
plot is written as SVG and PNG; one whose rows are not there is left out by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxsight.benchmarks.measure import rows as row_files
from maxsight.benchmarks.measure.rows import Row
from maxsight.errors import DatasetError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS, _OTHERS = "#c2410c", ("#334155", "#94a3b8", "#0f766e", "#6d28d9", "#a16207", "#be185d")
_STYLE: dict[Any, object] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e8f0",
    "axes.edgecolor": "#64748b",
    "legend.frameon": False,
    "svg.hashsalt": "maxsight",  # the same rows give the same file
    "savefig.bbox": "tight",
}
_UNITS = {"k": 1_000, "M": 1_000_000}


def write(results: Path, folder: Path) -> list[Path]:
    """Draw everything that ``results`` has rows for.

    Returns:
        The files written.

    Raises:
        DatasetError: there is not one CSV file.
    """
    import matplotlib as mpl

    files = sorted(results.rglob("*.csv"))
    if not files:
        raise DatasetError(
            f"no CSV files in {results}; write some with: maxsight bench NAME --save"
        )
    rows = [row for file in files for row in row_files.load(file)]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(_STYLE):
        for name, draw in _PLOTS.items():
            figure = draw(rows)
            if figure is None:
                print(f"left out: {name}: no rows", file=sys.stderr)
                continue
            for suffix in ("svg", "png"):
                path = folder / f"{name}.{suffix}"
                figure.savefig(path, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
                written.append(path)
    return written


def latency(rows: Sequence[Row]) -> Figure | None:
    """Latency over the number of vectors, both logarithmic, one line a contender."""
    chosen = [r for r in rows if (r.benchmark, r.metric) == ("latency", "latency")]
    widths = sorted({_size(row.case)[1] for row in chosen})
    if not widths:
        return None
    figure, panels = _panels(len(widths), width=6.4, height=4.6)
    for axes, width in zip(panels, widths):
        lines: dict[str, list[Row]] = {}
        for row in chosen:
            if _size(row.case)[1] == width:
                lines.setdefault(row.contender, []).append(row)
        others = iter(_OTHERS * 2)
        for contender, line in sorted(lines.items(), key=lambda entry: -entry[1][-1].value):
            line.sort(key=lambda row: _size(row.case)[0])
            counts = [_size(row.case)[0] for row in line]
            whole = contender == "maxsight"
            colour = _OURS if contender.startswith("maxsight") else next(others)
            axes.plot(
                counts,
                [row.value for row in line],
                "-" if whole or not contender.startswith("maxsight") else "--",
                marker="o",
                markersize=4,
                color=colour,
                linewidth=2.2 if whole else 1.4,
                label=contender,
                zorder=3 if whole else 2,
            )
            low = [row.value if row.low is None else row.low for row in line]
            high = [row.value if row.high is None else row.high for row in line]
            axes.fill_between(counts, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="vectors",
            ylabel="one query, milliseconds",
            title=f"Warm search, {width} dimensions, 10 hits",
        )
        axes.legend(fontsize=8)
    return figure


def startup(rows: Sequence[Row]) -> Figure | None:
    """Wall time of whole commands, and of importing torch as the measure."""
    chosen = [r for r in rows if (r.benchmark, r.metric) == ("startup", "time")]
    if not chosen:
        return None
    figure, (axes,) = _panels(1, width=7.5, height=0.45 * len(chosen) + 1.2)
    chosen.sort(key=lambda row: -row.value)
    _bars(axes, chosen, ours=lambda row: row.contender.startswith("maxsight"), unit="ms")
    for row in chosen:
        if "import torch" in row.contender:
            axes.axvline(row.value, color=_OTHERS[0], linewidth=1, linestyle=":")
    axes.set(xlabel="milliseconds, process start to end", title="Cold commands")
    return figure


def ingestion(rows: Sequence[Row]) -> Figure | None:
    """Pictures a second beside the encoder's own rate, a panel a set of pictures."""
    chosen = [r for r in rows if (r.benchmark, r.metric) == ("ingestion", "rate")]
    cases = list(dict.fromkeys(row.case for row in chosen))
    if not cases:
        return None
    figure, panels = _panels(len(cases), width=5.2, height=2.2)
    for axes, case in zip(panels, cases):
        bars = [row for row in chosen if row.case == case][::-1]
        _bars(axes, bars, ours=lambda row: row.contender.startswith("ingestion"), unit="")
        axes.set(xlabel="images a second", title=case)
    return figure


def ratios(rows: Sequence[Row]) -> Figure | None:
    """What the project holds itself to, each as a multiple of the measure it is held against."""
    targets = (
        ("latency", "100k x 512", "maxsight", "latency / faiss flat", "≤", 1.2),
        ("ingestion", None, "ingestion", "rate / encoder alone, batches of 32", "≥", 0.9),
        ("startup", None, "maxsight search TEXT, new", "time / import torch", "≤", 2.5),
        ("startup", None, "maxsight search TEXT, asked before", "time / import torch", "≤", 2.5),
        ("incremental", None, "second run, nothing changed", "time / first run", "≤", 0.05),
    )
    found = []
    for benchmark, case, contender, metric, sign, target in targets:
        for row in rows:
            if (row.benchmark, row.contender, row.metric) != (benchmark, contender, metric):
                continue
            if case is None or row.case == case:
                found.append((row, sign, target))
    if not found:
        return None
    figure, (axes,) = _panels(1, width=7.5, height=0.55 * len(found) + 1.2)
    for place, (row, sign, target) in enumerate(reversed(found)):
        met = row.value <= target if sign == "≤" else row.value >= target
        axes.barh(place, row.value / target, color=_OURS if met else _OTHERS[1], height=0.55)
        axes.text(
            row.value / target + 0.02,
            place,
            f"{row.value:.3g} ({sign} {target:g})",
            va="center",
            fontsize=8,
        )
    labels = [f"{row.contender}: {row.metric}\n{row.case}" for row, _, _ in reversed(found)]
    axes.set_yticks(range(len(found)), labels, fontsize=8)
    axes.axvline(1, color=_OTHERS[0], linewidth=1)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.2)
    axes.set(xlabel="measured / target", title="Targets: orange where they are met")
    return figure


_PLOTS: dict[str, Callable[[Sequence[Row]], Figure | None]] = {
    "latency": latency,
    "startup": startup,
    "ingestion": ingestion,
    "targets": ratios,
}


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure that no window toolkit knows of, with ``count`` axes, two in a row."""
    from matplotlib.figure import Figure

    across = min(count, 2)
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for empty in panels[count:]:
        empty.remove()
    return figure, panels[:count]


def _bars(axes: Axes, rows: Sequence[Row], *, ours: Callable[[Row], bool], unit: str) -> None:
    for place, row in enumerate(rows):
        low = row.value if row.low is None else row.low
        high = row.value if row.high is None else row.high
        axes.barh(
            place,
            row.value,
            xerr=[[row.value - low], [high - row.value]],
            color=_OURS if ours(row) else _OTHERS[0],
            ecolor="#1e293b",
            height=0.55,
            error_kw={"linewidth": 1},
        )
        axes.text(high, place, f"  {row.value:,.0f} {unit}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row.contender for row in rows])
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.15)


def _size(case: str) -> tuple[int, int]:
    """``100k x 512`` -> (100000, 512)."""
    count, _, width = case.partition(" x ")
    scale = _UNITS.get(count[-1], 1)
    return int(count.rstrip("kM")) * scale, int(width)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m maxsight.benchmarks.measure.plots RESULTS FOLDER")
    for written_file in write(Path(sys.argv[1]), Path(sys.argv[2])):
        print(written_file)

"""Making a library's vector index, bringing it up to date, and measuring it.

Each function here is for the one process that writes: it holds the library's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maxsight import settings
from maxsight.errors import BackendError, BudgetError, UsageError
from maxsight.index.ann import auto, saved, searcher
from maxsight.index.ann.contract import Built, Effort, VectorIndex
from maxsight.index.ann.devices import DeviceLike
from maxsight.index.ann.indexed_vectors import IndexedVectors
from maxsight.index.array_types import Floats, Mask, Rows
from maxsight.index.building import questions, token_index, tuning
from maxsight.index.building.dimensionality import OrderEffect, order_effect
from maxsight.index.building.progress import OnProgress, silent
from maxsight.index.building.tuning import OperatingPoint, Questions
from maxsight.index.derived import generations, vector_folder
from maxsight.index.exact.disk import DiskVectors, chunks
from maxsight.index.exact.memory import ExactIndex
from maxsight.index.snapshot import Snapshot
from maxsight.index.tables.schema import UNITS

_log = logging.getLogger("maxsight.index")

RECALL = 0.95
# Rows unknown to an index are searched exactly; beyond this share of all they are added to it.
_TAIL_SHARE = 0.05
_ORDER_SAMPLE = 10_000

# Vectors of texts, (m, D) float32: what people ask. Called only where an index is made or measured.
Texts = Callable[[], Floats]


@dataclass(frozen=True)
class IndexReport:
    """What was done, and what it came to.

    Attributes:
        index: of the library now, as ``--index`` takes it; ``exact`` where there is none.
        why: it was chosen.
        action: ``built``, ``extended``, ``kept``, ``tuned`` or ``none``.
        rows: it knows.
        bytes: of memory it takes.
        target: the recall that was asked for.
        point: the operating point it searches with; None without an index.
        points: every one that was tried.
        order: intrinsic dimensionality and its effect; None if it was not asked for.
        device: that made the index just now: ``cpu``, or ``cuda:N`` for what a GPU can do of it.
    """

    index: str
    why: str
    action: str
    rows: int
    bytes: int
    target: float
    point: OperatingPoint | None = None
    points: list[OperatingPoint] = field(default_factory=list)
    order: OrderEffect | None = None
    device: str = "cpu"


def bring_up_to_date(
    snapshot: Snapshot,
    spec: str | None = None,
    *,
    texts: Texts | None = None,
    progress: OnProgress = silent,
    device: DeviceLike = "auto",
) -> IndexReport:
    """What ``maxsight index`` does at its end: make, extend or leave the indexes.

    Args:
        spec: of the index from now on; None: as it was asked for before, or chosen by size.
        texts: to learn from and to be measured by; without, pictures are the only queries.
        progress: called as the work goes on.
        device: where an index is made: ``auto`` is a GPU, if FAISS can compute on one.
    """
    token_index.bring_up_to_date(snapshot, recall=RECALL, progress=progress)
    library, built = snapshot.state.library, snapshot.state.built
    before = generations.wanted(library) or auto.AUTO
    asked = spec or before
    if built is not None and asked == before and asked in (auto.AUTO, built.details["spec"]):
        live = snapshot.state.unit_ids[snapshot.live_rows]
        missing = int(np.count_nonzero(live > built.newest))
        known = len(live) - missing
        is_grown = len(live) >= token_index.GROWTH * int(built.details["trained_rows"])
        is_hollow = len(built.unit_ids) >= token_index.GROWTH * known
        if not (is_grown or is_hollow):
            if missing <= _TAIL_SHARE * known:
                return _kept(built, "kept")
            return _kept(_extended(snapshot, built, progress), "extended")
    try:
        report = build(snapshot, asked, texts=texts, progress=progress, device=device)
    except UsageError as error:
        if spec is not None:
            raise
        # What was asked for once cannot be made of the few rows that are left.
        _log.warning("%s is searched exactly: %s", library, error)
        generations.remove(library, vector_folder.NAME)
        return IndexReport("exact", str(error), "none", snapshot.unit_count, 0, RECALL)
    if spec is not None:
        remember(library, spec)
    return report


def remember(library: Path, spec: str) -> None:
    """Keep to an index that was asked for by name; ``auto``: to none."""
    generations.want(library, None if spec == auto.AUTO else spec)


def build(
    snapshot: Snapshot,
    spec: str = "auto",
    *,
    recall: float = RECALL,
    texts: Texts | None = None,
    progress: OnProgress = silent,
    device: DeviceLike = "auto",
    thorough: bool = False,
) -> IndexReport:
    """Make the index anew, choose its operating point and put it in the old one's place.

    Args:
        spec: ``auto``, ``exact``, or what ``maxsight.index.ann.auto.make`` takes.
        recall: to reach on every kind of query, if it can be.
        texts: to learn from and to be measured by; without, pictures are the only queries.
        progress, device: as in :func:`bring_up_to_date`. What a GPU refuses, the processor makes;
            it also does the measuring, as most searches are its.
        thorough: try every setting, and report on the order of insertion, as :func:`tune` does; not
            only until a setting finds enough.

    Raises:
        BudgetError: making it needs more memory than it may take.
        UsageError: no such index.
    """
    library, dim, rows = snapshot.state.library, snapshot.dim, snapshot.unit_count
    budget = settings.memory()
    choice = auto.choose(
        rows, dim, spec=spec, budget=budget, texts=texts is not None, device=device
    )
    if choice.spec == "exact" or not rows:
        generations.remove(library, vector_folder.NAME)
        order = _order(_live(snapshot)[1]) if thorough else None
        return IndexReport("exact", choice.why, "none", rows, 0, recall, order=order)
    if choice.footprint.build > budget:
        raise BudgetError(
            f"making the index {choice.spec} of {rows:,} vectors needs "
            f"{choice.footprint.build / 2**20:,.0f} MiB and MAXSIGHT_MEMORY allows "
            f"{budget / 2**20:,.0f} MiB: allow more, or name a smaller index (docs/indexes.md)"
        )
    learned, asked = (None, None) if texts is None else questions.apart(texts())
    unit_ids, stored = _live(snapshot)
    gpu = auto.device_for(choice, rows, dim, device=device, budget=budget)
    try:
        index, efforts = _made(choice, stored, learned, progress, gpu or "cpu")
    except BackendError as error:
        if gpu is None:
            raise
        _log.warning("%s is made on the processor: %s", choice.spec, error)
        gpu = None
        index, efforts = _made(choice, stored, learned, progress, "cpu")
    points, point = tuning.settle(
        lambda queries, effort: searcher.search(
            index, stored, queries, tuning.DEPTH, effort=effort
        ),
        efforts,
        _asked(stored, stored, asked, progress),
        recall=recall,
        enough=tuning.ENOUGH if thorough else recall,
        progress=progress,
    )
    index.effort = point.effort
    details = {"spec": choice.spec, "trained_rows": rows, **_measured(point, recall)}
    vector_folder.save(snapshot.state.library, snapshot.manifest, index, unit_ids, details)
    return IndexReport(
        choice.spec,
        choice.why,
        "built",
        rows,
        index.bytes(),
        recall,
        point,
        points,
        _order(stored) if thorough else None,
        device="cpu" if gpu is None else gpu.name,
    )


def tune(
    snapshot: Snapshot,
    *,
    recall: float = RECALL,
    texts: Texts | None = None,
    progress: OnProgress = silent,
) -> IndexReport:
    """Try every setting of the library's index and keep the fastest that reaches ``recall``.

    The processor does, as most searches are its.

    Args:
        texts: to be measured by; without, pictures are the only queries.
    """
    _, stored = _live(snapshot)
    order = _order(stored)
    built, vectors = snapshot.state.built, snapshot.state.vectors
    if built is None or not isinstance(vectors, IndexedVectors):
        why = "no index has been made: every search is exact"
        return IndexReport("exact", why, "none", len(stored), 0, recall, order=order)
    if built.index.innermost.device != "cpu":
        vectors = vectors.searched_by(saved.load(built.folder, device="cpu")[0])
    live = snapshot.allowed()
    asked = None if texts is None else questions.apart(texts())[1]
    points, point = tuning.settle(
        lambda queries, effort: vectors.search(queries, tuning.DEPTH, allowed=live, effort=effort),
        built.index.efforts(tuning.DEPTH),
        _asked(vectors.stored, stored, asked, progress, live),
        recall=recall,
        enough=tuning.ENOUGH,
        progress=progress,
    )
    built.index.effort = point.effort
    details = {**built.details, **_measured(point, recall)}
    tuned = vector_folder.save(
        snapshot.state.library, snapshot.manifest, built.index, built.unit_ids, details
    )
    return IndexReport(
        str(tuned.details["spec"]),
        "it was made before; its settings are new",
        "tuned",
        len(tuned.unit_ids),
        tuned.index.bytes(),
        recall,
        point,
        points,
        order,
    )


def _made(
    choice: auto.Choice,
    stored: DiskVectors,
    learned: Floats | None,
    progress: OnProgress,
    device: DeviceLike,
) -> tuple[VectorIndex, list[Effort]]:
    """An index over all rows, and the settings it can be searched with."""
    index = auto.make(choice.spec, stored.dim, device=device)
    rows = len(stored)
    draw = np.random.default_rng(0)
    sampled = np.sort(draw.choice(rows, min(rows, choice.footprint.sample_rows), replace=False))
    progress("train", 0, 1)
    index.train(stored.take(sampled).astype(np.float32), learned)
    progress("train", 1, 1)
    _add(index, stored, np.arange(rows), progress)
    # To be asked for them, it comes back from the GPU that made it, which may refuse.
    return index, index.efforts(tuning.DEPTH)


def _extended(snapshot: Snapshot, built: Built, progress: OnProgress) -> Built:
    """The index with the rows it lacks, saved in the old one's place."""
    unit_ids, stored = _live(snapshot)
    new = np.flatnonzero(unit_ids > built.newest)
    # A copy of its own: readers in this process go on searching the old one.
    index, _ = saved.load(built.folder, device="cpu")
    _add(index, stored, new, progress)
    known = np.concatenate([built.unit_ids, unit_ids[new]])
    return vector_folder.save(
        snapshot.state.library, snapshot.manifest, index, known, built.details
    )


def _order(stored: DiskVectors) -> OrderEffect | None:
    """Judged by the first rows; None where they are too few."""
    sample = stored.take(np.arange(min(_ORDER_SAMPLE, len(stored)))).astype(np.float32)
    return order_effect(sample) if len(sample) > 2 * tuning.DEPTH else None


def _kept(built: Built, action: str) -> IndexReport:
    return IndexReport(
        str(built.details["spec"]),
        "it was made before",
        action,
        len(built.unit_ids),
        built.index.bytes(),
        float(built.details["target"]),
    )


def _live(snapshot: Snapshot) -> tuple[Rows, DiskVectors]:
    """Ids and vectors of the units that can be found."""
    state, unit_ids = snapshot.state, snapshot.state.unit_ids[snapshot.live_rows]
    return unit_ids, DiskVectors.of(state.units, unit_ids, snapshot.dim, state.library / UNITS)


def _add(index: VectorIndex, stored: DiskVectors, rows: Rows, progress: OnProgress) -> None:
    done = 0
    for part in chunks(rows, stored.dim):
        progress("fill", done, len(rows))
        index.add(stored.take(part))
        done += len(part)
    progress("fill", done, len(rows))


def _asked(
    searched: ExactIndex | DiskVectors,
    stored: DiskVectors,
    texts: Floats | None,
    progress: OnProgress,
    allowed: Mask | None = None,
) -> Questions:
    progress("truth", 0, 1)
    asked = questions.sampled(searched, stored, texts, allowed=allowed)
    progress("truth", 1, 1)
    return asked


def _measured(point: OperatingPoint, target: float) -> dict[str, object]:
    return {
        "recall": dict(point.recall),
        "margin": dict(point.margin),
        "first": dict(point.first),
        "target": target,
        "queries_per_second": round(point.queries_per_second, 1),
    }

"""Is the right span of a film found, and how sharp are its ends?

Films of photographs that the encoder was not trained on (Tux Paint's stamps, held-out concepts),
indexed and searched as anyone would; the query is the caption of one shot.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import maxsight
from maxsight.benchmarks.measure.rows import Row
from maxsight.demo.films import KnownMoment, make_films
from maxsight.index.records import Film
from maxsight.index.store import Store
from maxsight.models.builtin.training import corpus

_SIDE = 480  # of a rendered photograph, in pixels

Span = tuple[float, float]


def run(
    data: Path,
    *,
    films: int = 16,
    seed: int = 0,
    encoder: str = "builtin",
    tuning: bool = False,
) -> list[Row]:
    """Measure.

    Args:
        data: folder for fetched material.
        films: how many films of six shots are made, at most.
        seed: of their making.
        encoder: URI.
        tuning: use the photographs on which the constants of
            ``maxsight.pipelines.moments.windows`` were chosen instead of the held-out ones.

    Returns:
        For films sampled at 1 and 2 frames a second: how often the right span comes first in a
        known film and over all films, and how far off the ends are that lie at hard cuts.
    """
    photographs = _photographs(data, held_out=not tuning)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="maxsight-moments-") as scratch:
        moments = make_films(photographs, Path(scratch) / "films", films=films, seed=seed)
        count = len({moment.film for moment in moments})
        for fps in (1.0, 2.0):
            case = f"{count} films{' for tuning' if tuning else ''}, {fps:g} fps"
            with maxsight.open(Path(scratch) / f"{fps:g}.maxsight", encoder=encoder) as library:
                report = library.add([Path(scratch) / "films"], fps=fps)
                if report.failures:
                    raise AssertionError(f"films made here were not read: {report.failures}")
                rows += _measured(library, moments, case)
    return rows


def _measured(library: maxsight.Library, moments: Sequence[KnownMoment], case: str) -> list[Row]:
    captions = [moment.caption for moment in moments]
    alone = [library.moments(m.caption, k=1, within=m.film)[0] for m in moments]
    rows = _spans(case, "maxsight", moments, [(found.start, found.end) for found in alone])

    first = [library.moments(caption, k=1)[0] for caption in captions]
    films = [Path(found.path) == m.film for found, m in zip(first, moments, strict=True)]
    spans = [_overlap((found.start, found.end), m) for found, m in zip(first, moments, strict=True)]
    both = np.array(films) & (np.array(spans) >= 0.5)
    rows.append(_share(case, "maxsight", "right film of all", films))
    rows.append(_share(case, "maxsight", "right film of all, IoU ≥ .5", both))

    queries = library.encoder.encode_text(captions).vectors.cpu().numpy()
    with Store.open(library.path) as store:
        snapshot = store.snapshot()
        by_path = {Path(film.path): film for film in snapshot.films()}

        def baseline(
            choose: Callable[[Film, NDArray[np.float32], KnownMoment], Span],
        ) -> list[Span]:
            chosen = []
            for query, moment in zip(queries, moments, strict=True):
                film = by_path[moment.film]
                chosen.append(choose(film, snapshot.scores(query, film.rows), moment))
            return chosen

        run_of_sums = baseline(lambda film, scores, _: _maximum_sum(film, scores))
        known_shots = baseline(lambda film, scores, m: _best_shot(film, scores, m, moments))
    rows += _spans(case, "maximum-sum run", moments, run_of_sums)
    rows += _spans(case, "if the shots were known", moments, known_shots)
    shots = len(moments) / len({moment.film for moment in moments})
    rows.append(
        Row("moments", case, "a random shot", "R@1, IoU ≥ .5", 100 / shots, "%", runs=len(moments))
    )
    return rows


def _spans(
    case: str, contender: str, moments: Sequence[KnownMoment], found: Sequence[Span]
) -> list[Row]:
    """Rows for the span found first in each moment's own film."""
    overlaps = np.array([_overlap(span, m) for span, m in zip(found, moments, strict=True)])
    rows = [
        _share(case, contender, f"R@1, IoU ≥ {level:.1f}".replace("0.", "."), overlaps >= level)
        for level in (0.5, 0.7)
    ]
    errors = [
        error
        for span, m, overlap in zip(found, moments, overlaps, strict=True)
        if overlap >= 0.5
        for error, is_cut in ((span[0] - m.start, m.cut_in), (span[1] - m.end, m.cut_out))
        if is_cut
    ]
    if errors:
        low, median, high = np.percentile(np.abs(errors), (20, 50, 80)).tolist()
        rows.append(
            Row(
                "moments",
                case,
                contender,
                "error at hard cuts",
                median,
                "s",
                low,
                high,
                runs=len(errors),
            )
        )
    return rows


def _share(case: str, contender: str, metric: str, hits: Sequence[bool] | np.ndarray) -> Row:
    return Row("moments", case, contender, metric, 100 * float(np.mean(hits)), "%", runs=len(hits))


def _overlap(span: Span, moment: KnownMoment) -> float:
    """Intersection over union of two spans."""
    both = min(span[1], moment.end) - max(span[0], moment.start)
    return max(0.0, both) / (max(span[1], moment.end) - min(span[0], moment.start))


def _maximum_sum(film: Film, scores: NDArray[np.float32]) -> Span:
    """The run whose scores over mean and half a standard deviation have the largest sum."""
    above = scores.astype(np.float64) - scores.mean() - 0.5 * scores.std()
    best, total, first = (-np.inf, 0, 0), 0.0, 0
    for number, value in enumerate(above):
        if total <= 0:
            total, first = 0.0, number
        total += value
        best = max(best, (total, first, number))
    return float(film.spans[best[1], 0]), float(film.spans[best[2], 1])


def _best_shot(
    film: Film, scores: NDArray[np.float32], moment: KnownMoment, moments: Sequence[KnownMoment]
) -> Span:
    """Of the film's true shots the one with the highest mean score: what the encoder allows."""
    starts = film.spans[:, 0]
    shots = [m for m in moments if m.film == moment.film]
    means = [scores[(starts >= m.start - 1e-6) & (starts < m.end - 0.05)].mean() for m in shots]
    best = shots[int(np.argmax(means))]
    return best.start, best.end


def _photographs(data: Path, *, held_out: bool) -> list[tuple[str, Image.Image]]:
    """Caption and picture of the stamps that are photographs."""
    chosen = []
    for stamp in corpus.stamps(data):
        # Drawings are no photographs, and take long to render.
        is_drawn = stamp.path is None or stamp.path.with_suffix(".svg").exists()
        if is_drawn or (stamp.split == "test") != held_out:
            continue
        image = corpus.render(stamp, _SIDE)
        if corpus.is_photograph(stamp, image):
            chosen.append((stamp.caption, image))
    return chosen

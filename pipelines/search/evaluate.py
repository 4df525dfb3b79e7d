"""How well a library answers queries whose right answers are known."""

from __future__ import annotations

import csv
import itertools
import math
import os
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maxsight.errors import UsageError
from maxsight.index.tables.table_rows import encode_path
from maxsight.pipelines.query.language import Query, Rerank, Term
from maxsight.pipelines.search.search import search_many

if TYPE_CHECKING:
    from maxsight.index.snapshot import Snapshot
    from maxsight.pipelines.query.encoder import QueryEncoder
    from maxsight.pipelines.query.expansion import Expansion

_AT = (1, 5, 10)
# So many queries are answered at once, between two steps of progress.
_TOGETHER = 256


@dataclass(frozen=True)
class Judged:
    """A query with its right answers.

    Attributes:
        text: what is asked.
        paths: of the files that answer it, at least one.
        group: texts of one group ask for the same thing in other words or languages.
    """

    text: str
    paths: frozenset[str]
    group: str


@dataclass(frozen=True)
class Ranked:
    """A query and the rank of its first right answer, from 1; None if that is beyond the depth.

    Where answers have equal scores it is the mean over the orders in which they may stand.
    """

    text: str
    rank: float | None


@dataclass(frozen=True)
class Evaluation:
    """Figures over a set of queries, as ``ir-measures`` defines them, by name.

    Answers of equal scores (copies, mostly) may stand in any order, which would otherwise be that
    of indexing: every figure is its mean over all of these orders.

    Attributes:
        queries: how many.
        depth: how many answers were looked at; a rank beyond it counts as ``depth + 1``.
        success: k -> Success@k, the share of queries with a right answer among the first k.
        recall_at: k -> R@k, the mean share of a query's right answers that are among the first k.
            With one right answer each it is Success@k.
        ndcg: k -> nDCG@k, the sum of 1 / log2(1 + rank) over right answers among the first k,
            divided by the largest that as many right answers can give; mean over queries.
        mrr: mean reciprocal rank of the first right answer (RR), 0 where it is beyond the depth.
        median_rank: of the first right answer.
        mrv: mean rank variance: how much the rank varies among the texts of a group, averaged over
            the groups of two texts or more; None if there is none. 0 is consistent.
        groups: how many groups that is.
        ranks: of every query, in the order given.
    """

    queries: int
    depth: int
    success: dict[int, float]
    recall_at: dict[int, float]
    ndcg: dict[int, float]
    mrr: float
    median_rank: float
    mrv: float | None
    groups: int
    ranks: list[Ranked]


def read_queries(path: Path) -> list[Judged]:
    """Read queries from a table.

    Args:
        path: CSV in UTF-8 with the columns ``text`` and ``path``, and ``group`` if there are
            paraphrases. Paths are absolute or relative to the table's folder. Several rows with one
            text and group give it several right answers. Without ``group``, texts with the same
            right answers are paraphrases.

    Raises:
        UsageError: no such file, a column is missing, or a row lacks a value.
    """
    folder = Path(os.path.abspath(path)).parent
    answers: dict[tuple[str, str], set[str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream)
            missing = {"text", "path"} - set(table.fieldnames or ())
            if missing:
                raise UsageError(
                    f"{path} has no column {' or '.join(sorted(missing))}: its first line must "
                    "name the columns text and path, and may name group"
                )
            for row in table:
                text, file = (row["text"] or "").strip(), (row["path"] or "").strip()
                if not text or not file:
                    raise UsageError(
                        f"{path}, line {table.line_num}: text and path must both be given"
                    )
                key = (text, (row.get("group") or "").strip())
                answer = encode_path(os.path.normpath(folder / file))[0]
                answers.setdefault(key, set()).add(answer)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read queries from {path}: {error}") from error
    if not answers:
        raise UsageError(f"{path} holds no queries: give a line with text and path for each")
    return [
        Judged(text, frozenset(paths), group or "\0".join(sorted(paths)))
        for (text, group), paths in answers.items()
    ]


def require_known(queries: Iterable[Judged], known: Collection[str]) -> None:
    """Refuse queries that cannot be answered.

    Raises:
        UsageError: none of a query's right answers is in the library.
    """
    lost = [query for query in queries if query.paths.isdisjoint(known)]
    if lost:
        raise UsageError(
            f"{len(lost)} queries have no right answer in the library, the first is "
            f"{lost[0].text!r} with {min(lost[0].paths)}: index the files, or correct the paths"
        )


def evaluate(
    queries: Sequence[Judged],
    answers: Iterable[Sequence[tuple[str, float]]],
    *,
    depth: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """See where the right answers of every query stand.

    Args:
        queries: at least one.
        answers: of each query, path and score of at most ``depth`` files, best first.
        depth: how many answers were asked for, at least 10.
        progress: called after every query with how many are done, and how many there are.

    Source of the mean rank variance: Nie et al., "Improving the Consistency in Cross-Lingual
    Cross-Modal Retrieval with 1-to-K Contrastive Learning", 2024, arXiv:2406.18254.
    """
    if depth < max(_AT):
        raise UsageError(f"the depth must be at least {max(_AT)}, got {depth}")
    figures = []
    for number, (query, found) in enumerate(zip(queries, answers, strict=True), start=1):
        figures.append(_Figures.of(query.paths, found))
        if progress is not None:
            progress(number, len(queries))
    counted = [depth + 1 if own.rank is None else own.rank for own in figures]
    by_group: dict[str, list[float]] = {}
    for query, rank in zip(queries, counted):
        by_group.setdefault(query.group, []).append(rank)
    variances = [statistics.pvariance(group) for group in by_group.values() if len(group) > 1]
    return Evaluation(
        queries=len(queries),
        depth=depth,
        success={k: statistics.fmean(own.success[k] for own in figures) for k in _AT},
        recall_at={k: statistics.fmean(own.recall[k] for own in figures) for k in _AT},
        ndcg={k: statistics.fmean(own.ndcg[k] for own in figures) for k in _AT},
        mrr=statistics.fmean(own.reciprocal for own in figures),
        median_rank=statistics.median(counted),
        mrv=statistics.fmean(variances) if variances else None,
        groups=len(variances),
        ranks=[Ranked(query.text, own.rank) for query, own in zip(queries, figures)],
    )


@dataclass(frozen=True)
class _Figures:
    """Of one query; see :class:`Evaluation`."""

    rank: float | None
    reciprocal: float
    success: dict[int, float]
    recall: dict[int, float]
    ndcg: dict[int, float]

    @staticmethod
    def of(right: frozenset[str], found: Sequence[tuple[str, float]]) -> _Figures:
        rank, reciprocal = None, 0.0
        success = dict.fromkeys(_AT, 0.0)
        recall, gain = dict(success), dict(success)
        before = 0
        for _, tied in itertools.groupby(found, key=lambda answer: answer[1]):
            paths = [path for path, _ in tied]
            count, held = len(paths), sum(path in right for path in paths)
            if held and rank is None:
                rank = before + (count + 1) / (held + 1)
                reciprocal = _first_reciprocal(before, count, held)
                for k in _AT:
                    inside = min(max(k - before, 0), count)
                    lost = math.comb(count - held, inside) / math.comb(count, inside)
                    success[k] = 1 - lost
            for k in _AT if held else ():
                inside = min(max(k - before, 0), count)
                recall[k] += held * inside / count / len(right)
                gain[k] += held / count * _gain(before, before + inside)
            before += count
        ndcg = {k: gain[k] / _gain(0, min(k, len(right))) for k in _AT}
        return _Figures(rank, reciprocal, success, recall, ndcg)


def _first_reciprocal(before: int, count: int, held: int) -> float:
    """The mean of 1 / rank of the first of ``held`` right answers among ``count`` of any order."""
    return sum(
        math.comb(count - position, held - 1) / math.comb(count, held) / (before + position)
        for position in range(1, count - held + 2)
    )


def _gain(start: int, stop: int) -> float:
    """Of right answers at all ranks after ``start``, up to ``stop``."""
    return sum(1 / math.log2(rank + 1) for rank in range(start + 1, stop + 1))


def evaluate_search(
    snapshot: Snapshot,
    queries: Sequence[Judged],
    encoder: QueryEncoder,
    *,
    rerank: Rerank,
    expansion: Expansion | None,
    depth: int,
    progress: Callable[[int, int], None] | None,
) -> Evaluation:
    """:func:`evaluate` of the search over one state of a library.

    Args:
        snapshot, encoder: as :func:`maxsight.pipelines.search.search.search` takes them.
        rerank: as in :class:`maxsight.pipelines.query.language.Query`.
        expansion: other words for the texts.
        queries, depth, progress: as for :func:`evaluate`.

    Raises:
        UsageError: as :func:`require_known`.
    """
    require_known(queries, set(snapshot.state.item_table["path"].to_pylist()))
    terms = [Term(text=query.text) for query in queries]
    said = dict(
        zip((query.text for query in queries), expansion.apply(terms) if expansion else terms)
    )
    # All texts together: what a search gives does not depend on where the queries are divided.
    encoder.encode(snapshot, list(said.values()), rerank=rerank)

    def answers() -> Iterator[list[tuple[str, float]]]:
        for start in range(0, len(queries), _TOGETHER):
            asked = [
                Query((said[query.text],), k=depth, rerank=rerank)
                for query in queries[start : start + _TOGETHER]
            ]
            for found in search_many(snapshot, asked, encoder):
                yield [(encode_path(hit.path)[0], hit.score) for hit in found.hits]

    return evaluate(queries, answers(), depth=depth, progress=progress)

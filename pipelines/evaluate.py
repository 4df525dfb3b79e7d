"""How well a library answers queries whose right answers are known."""

from __future__ import annotations

import csv
import os
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maxsight.errors import UsageError
from maxsight.pipelines.search import Query, Rerank, Term, encode_query, search

if TYPE_CHECKING:
    from maxsight.index.snapshot import Snapshot
    from maxsight.models.encoder import Encoder
    from maxsight.pipelines.expansion import Expansion
    from maxsight.pipelines.text_cache import TextCache

_RECALL_AT = (1, 5, 10)


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
    """A query and the rank of its first right answer, from 1; None if that is beyond the depth."""

    text: str
    rank: int | None


@dataclass(frozen=True)
class Evaluation:
    """Figures over a set of queries.

    Attributes:
        queries: how many.
        depth: how many answers were looked at; a rank beyond it counts as ``depth + 1``.
        recall: k -> share of the queries with a right answer among the first k.
        mrr: mean reciprocal rank of the first right answer, 0 where it is beyond the depth.
        median_rank: of the first right answer.
        mrv: mean rank variance: how much the rank varies among the texts of a group, averaged over
            the groups of two texts or more; None if there is none. 0 is consistent.
        groups: how many groups that is.
        ranks: of every query, in the order given.
    """

    queries: int
    depth: int
    recall: dict[int, float]
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
                answers.setdefault(key, set()).add(os.path.normpath(folder / file))
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
    find: Callable[[str, int], Sequence[str]],
    *,
    depth: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask every query and see where its first right answer stands.

    Args:
        queries: at least one.
        find: (text, k) -> paths of at most k files, best first.
        depth: how many answers to look at, at least 10.
        progress: called after every query with how many are done, and how many there are.

    Source of the mean rank variance: Nie et al., "Improving the Consistency in Cross-Lingual
    Cross-Modal Retrieval with 1-to-K Contrastive Learning", 2024, arXiv:2406.18254.
    """
    if depth < max(_RECALL_AT):
        raise UsageError(f"the depth must be at least {max(_RECALL_AT)}, got {depth}")
    ranks = []
    for number, query in enumerate(queries, start=1):
        ranks.append(_rank(query.paths, find(query.text, depth)))
        if progress is not None:
            progress(number, len(queries))
    counted = [rank or depth + 1 for rank in ranks]
    by_group: dict[str, list[int]] = {}
    for query, rank in zip(queries, counted):
        by_group.setdefault(query.group, []).append(rank)
    variances = [statistics.pvariance(group) for group in by_group.values() if len(group) > 1]
    return Evaluation(
        queries=len(queries),
        depth=depth,
        recall={k: sum(rank <= k for rank in counted) / len(counted) for k in _RECALL_AT},
        mrr=sum(1 / rank for rank in ranks if rank) / len(ranks),
        median_rank=statistics.median(counted),
        mrv=statistics.fmean(variances) if variances else None,
        groups=len(variances),
        ranks=[Ranked(query.text, rank) for query, rank in zip(queries, ranks)],
    )


def evaluate_search(
    snapshot: Snapshot,
    queries: Sequence[Judged],
    *,
    fingerprint: str,
    encoder: Callable[[], Encoder],
    cache: TextCache,
    rerank: Rerank,
    expansion: Expansion | None,
    depth: int,
    progress: Callable[[int, int], None] | None,
) -> Evaluation:
    """:func:`evaluate` of the search over one state of a library.

    Args:
        snapshot, fingerprint, encoder, cache: as ``search.search`` takes them.
        rerank: as in ``search.Query``.
        expansion: other words for the texts.
        queries, depth, progress: as for :func:`evaluate`.
    """
    terms = [Term(text=query.text) for query in queries]
    said = dict(
        zip((query.text for query in queries), expansion.apply(terms) if expansion else terms)
    )
    # In one batch, many times as fast as one by one; each search finds its own in the cache.
    encode_query(
        snapshot,
        list(said.values()),
        fingerprint=fingerprint,
        encoder=encoder,
        cache=cache,
        late=rerank != "off" and snapshot.manifest.token_dim is not None,
    )

    def find(text: str, k: int) -> list[str]:
        query = Query((said[text],), k=k, rerank=rerank)
        found = search(snapshot, query, fingerprint=fingerprint, encoder=encoder, cache=cache)
        return [hit.path for hit in found.hits]

    return evaluate(queries, find, depth=depth, progress=progress)


def _rank(right: frozenset[str], found: Sequence[str]) -> int | None:
    return next((place for place, path in enumerate(found, start=1) if path in right), None)

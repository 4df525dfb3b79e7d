"""Figures over judged queries, against ranks that were worked out by hand."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from maxsight.errors import UsageError
from maxsight.pipelines.search.evaluate import (
    Evaluation,
    Judged,
    evaluate,
    read_queries,
    require_known,
)

ORDER = [f"/p/{number}" for number in range(1, 21)]


def always(queries: Sequence[Judged], depth: int) -> list[list[tuple[str, float]]]:
    """The same answer, whatever is asked."""
    return [[(path, -float(place)) for place, path in enumerate(ORDER[:depth])] for _ in queries]


def judged(text: str, *right: int, group: str | None = None) -> Judged:
    paths = frozenset(f"/p/{number}" for number in right)
    return Judged(text, paths, group or "-".join(map(str, right)))


def test_ranks_recall_and_their_means() -> None:
    queries = [judged("a", 1), judged("b", 4, 9), judged("c", 12), judged("d", 19)]
    told: list[tuple[int, int]] = []
    found = evaluate(
        queries, always(queries, 15), depth=15, progress=lambda *step: told.append(step)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [query.rank for query in found.ranks] == [1, 4, 12, None]
    assert found.success == {1: 0.25, 5: 0.5, 10: 0.5}
    # Of two right answers, one is among the first five.
    assert found.recall_at == {1: 0.25, 5: 0.375, 10: 0.5}
    assert found.mrr == pytest.approx((1 + 1 / 4 + 1 / 12) / 4)
    assert found.median_rank == 8
    assert (found.mrv, found.groups) == (None, 0)


def test_figures_are_those_of_ir_measures() -> None:
    """Worked out by its definitions: Success@k, R@k, nDCG@k, RR."""
    queries = [judged("a", 2, 3, 7, 30)]
    found = evaluate(queries, always(queries, 20), depth=20)
    assert found.success == {1: 0, 5: 1, 10: 1}
    assert found.recall_at == {1: 0, 5: 0.5, 10: 0.75}
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    gain = 1 / math.log2(3) + 1 / math.log2(4)
    assert found.ndcg == {
        1: 0,
        5: pytest.approx(gain / ideal),
        10: pytest.approx((gain + 1 / math.log2(8)) / ideal),
    }
    assert found.mrr == 0.5


def test_equal_scores_count_as_the_mean_over_their_orders() -> None:
    scores = [9.0, 8, 8, 8, 8, 7, 7, 6, 5, 4, 3]
    paths = ORDER[: len(scores)]
    right = frozenset({paths[2], paths[4], paths[5], "/p/absent"})

    def ordered(places: Sequence[int]) -> Evaluation:
        answers = [(paths[place], -float(rank)) for rank, place in enumerate(places)]
        return evaluate([Judged("a", right, "a")], [answers], depth=11)

    orders = [
        ordered([0, *four, *two, 7, 8, 9, 10])
        for four in itertools.permutations([1, 2, 3, 4])
        for two in itertools.permutations([5, 6])
    ]
    tied = list(zip(paths, scores))
    found = evaluate([Judged("a", right, "a")], [tied], depth=11)
    for name in "success", "recall_at", "ndcg":
        for k in 1, 5, 10:
            mean = statistics.fmean(getattr(order, name)[k] for order in orders)
            assert getattr(found, name)[k] == pytest.approx(mean), (name, k)
    assert found.mrr == pytest.approx(statistics.fmean(order.mrr for order in orders))
    assert found.median_rank == pytest.approx(
        statistics.fmean(order.median_rank for order in orders)
    )
    # A copy that was indexed later is no worse an answer.
    copies = [("/p/1", 1.0), ("/p/2", 1.0)]
    for path in "/p/1", "/p/2":
        asked = [Judged("a", frozenset({path}), "a")]
        assert evaluate(asked, [copies], depth=10).success[1] == 0.5


def test_mean_rank_variance_is_taken_over_paraphrases() -> None:
    queries = [
        judged("a red bus", 2, group="bus"),
        judged("ein roter Bus", 6, group="bus"),  # mean 4, variance 4
        judged("cat", 3, group="cat"),
        judged("kitten", 3, group="cat"),  # consistent
        judged("alone", 20),
    ]
    found = evaluate(queries, always(queries, 20), depth=20)
    assert (found.mrv, found.groups) == (2.0, 2)
    # Beyond the depth counts as just beyond it.
    queries = [judged("a", 1, group="g"), judged("b", 20, group="g")]
    found = evaluate(queries, always(queries, 10), depth=10)
    assert found.mrv == 25.0


def test_a_depth_below_what_is_reported() -> None:
    with pytest.raises(UsageError, match="at least 10"):
        evaluate([judged("a", 1)], [], depth=5)


def test_tables_of_queries(tmp_path: Path) -> None:
    table = tmp_path / "queries.csv"
    table.write_text(
        '\ufefftext,path\n"a bus, red",pictures/bus.jpg\nred coach,./pictures/bus.jpg\n'
        'two cats,/abs/one.jpg\ntwo cats,"/abs/two, three.jpg"\n',
        encoding="utf-8",
    )
    bus, coach, cats = read_queries(table)
    assert bus.text == "a bus, red"
    assert bus.paths == {str(tmp_path / "pictures/bus.jpg")}
    assert bus.group == coach.group != cats.group
    assert cats.paths == {"/abs/one.jpg", "/abs/two, three.jpg"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "no column path or text"),
        ("text,file\na,b\n", "no column path"),
        ("text,path\n", "holds no queries"),
        ("text,path\na,b\n,c\n", "line 3"),
        ("text,path\na\n", "line 2"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: str, complaint: str) -> None:
    table = tmp_path / "queries.csv"
    table.write_text(content)
    with pytest.raises(UsageError, match=complaint):
        read_queries(table)
    with pytest.raises(UsageError, match="cannot read"):
        read_queries(tmp_path / "nothing.csv")


def test_answers_that_the_library_does_not_hold() -> None:
    require_known([judged("a", 1, 99)], {"/p/1"})
    with pytest.raises(UsageError, match=r"1 queries.*'b'"):
        require_known([judged("a", 1), judged("b", 2)], {"/p/1"})

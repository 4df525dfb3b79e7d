"""Figures over judged queries, against ranks that were worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxsight.errors import UsageError
from maxsight.pipelines.evaluate import Judged, evaluate, read_queries, require_known

ORDER = [f"/p/{number}" for number in range(1, 21)]


def always(text: str, k: int) -> list[str]:
    """The same answer, whatever is asked."""
    return ORDER[:k]


def judged(text: str, *right: int, group: str | None = None) -> Judged:
    paths = frozenset(f"/p/{number}" for number in right)
    return Judged(text, paths, group or "-".join(map(str, right)))


def test_ranks_recall_and_their_means() -> None:
    queries = [judged("a", 1), judged("b", 4, 9), judged("c", 12), judged("d", 19)]
    told: list[tuple[int, int]] = []
    found = evaluate(queries, always, depth=15, progress=lambda *step: told.append(step))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [query.rank for query in found.ranks] == [1, 4, 12, None]
    assert found.recall == {1: 0.25, 5: 0.5, 10: 0.5}
    assert found.mrr == pytest.approx((1 + 1 / 4 + 1 / 12) / 4)
    assert found.median_rank == 8
    assert (found.mrv, found.groups) == (None, 0)


def test_mean_rank_variance_is_taken_over_paraphrases() -> None:
    queries = [
        judged("a red bus", 2, group="bus"),
        judged("ein roter Bus", 6, group="bus"),  # mean 4, variance 4
        judged("cat", 3, group="cat"),
        judged("kitten", 3, group="cat"),  # consistent
        judged("alone", 20),
    ]
    found = evaluate(queries, always, depth=20)
    assert (found.mrv, found.groups) == (2.0, 2)
    # Beyond the depth counts as just beyond it.
    found = evaluate([judged("a", 1, group="g"), judged("b", 20, group="g")], always, depth=10)
    assert found.mrv == 25.0


def test_a_depth_below_what_is_reported() -> None:
    with pytest.raises(UsageError, match="at least 10"):
        evaluate([judged("a", 1)], always, depth=5)


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

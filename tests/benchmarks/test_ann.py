"""The benchmarks of approximate indexes, small: every contender reaches what its rows say."""

from __future__ import annotations

from pathlib import Path

from maxsight.benchmarks import ann, leanvec_effect


def test_contenders_are_compared_at_a_recall_they_reach(tmp_path: Path) -> None:
    rows = ann.run(tmp_path, size=3_000, dim=64, queries=40, rounds=1, graphs=False)
    recalls = [row for row in rows if row.metric.startswith("recall@10:")]
    names = {row.contender for row in recalls if "0.90" in row.case}
    assert {"maxsight", ann.BASELINE, "FAISS IVF-SQ8"} <= names
    for row in recalls:
        assert row.value >= float(row.case[-4:])
    ratios = {row.metric for row in rows if row.unit == "x"}
    assert f"batch: processor time / {ann.BASELINE}" in ratios
    memory = {row.contender: row.value for row in rows if row.metric == "memory"}
    assert all(value > 64 for value in memory.values())


def test_leanvec_keeps_more_than_components_where_queries_are_far_away(tmp_path: Path) -> None:
    rows = leanvec_effect.run(tmp_path, size=3_000, dim=[64], queries=100, known=2_000, real=False)
    kept = {(row.case, row.contender): row.value for row in rows}
    for what in ("numbers", "codes"):
        case = "3,000 x 64, gap strong"
        assert kept[case, f"{what}, LeanVec"] > kept[case, f"{what}, principal components"] + 0.02
    shares = [row.value for row in rows if row.unit == "%"]
    assert len(shares) == 6
    assert all(0 < share < 60 for share in shares)

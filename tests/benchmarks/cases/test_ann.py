"""The benchmarks of approximate indexes, small: every contender reaches what its rows say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from maxsight.benchmarks.cases import ann, leanvec_effect
from maxsight.benchmarks.measure.parity import ParityError

# hnswlib cannot be counted on here. This has its face, scores every row, and takes ``off`` from
# the scores.
_EXACT = """
import numpy as np

class Index:
    def __init__(self, space, dim):
        assert space == "ip"
    def init_index(self, max_elements, M, ef_construction):
        self.ef = 0
    def add_items(self, vectors, num_threads):
        self.vectors = vectors
    def set_ef(self, ef):
        self.ef = ef
    def knn_query(self, queries, k, num_threads):
        assert self.ef >= k and num_threads == 1
        scores = queries @ self.vectors.T
        rows = np.argsort(-scores, axis=1)[:, :k]
        return rows.astype(np.uint64), 1 - (np.take_along_axis(scores, rows, 1) - OFF)
    def save_index(self, path):
        np.save(path, self.vectors)
"""


def _peers(folder: Path, off: float) -> Path:
    """A directory of environments in which of all peers hnswlib can be imported."""
    packages = folder / "packages"
    (packages / "hnswlib-0.8.dist-info").mkdir(parents=True)
    (packages / "hnswlib-0.8.dist-info" / "METADATA").write_text("Name: hnswlib\nVersion: 0.8\n")
    (packages / "hnswlib.py").write_text(_EXACT.replace("OFF", str(off)))
    for name in ("hnswlib", "usearch"):
        python = folder / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
    return folder


def test_contenders_are_compared_at_a_recall_they_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peers = _peers(tmp_path / "peers", off=0)
    rows = ann.run(tmp_path, size=3_000, dim=64, queries=40, rounds=1, graphs=False, peers=peers)
    recalls = [row for row in rows if row.metric.startswith("recall@10:")]
    names = {row.contender for row in recalls if "0.90" in row.case}
    assert {"maxsight", ann.BASELINE, "FAISS IVF-SQ8", "hnswlib"} <= names
    for row in recalls:
        assert row.value >= float(row.case[-4:])
        assert row.value == 1 or row.contender != "hnswlib"
    ratios = {row.metric for row in rows if row.unit == "x"}
    assert {f"batch: processor time / {ann.BASELINE}", "one query: processor time / hnswlib"} <= (
        ratios
    )
    memory = {row.contender: row.value for row in rows if row.metric == "memory"}
    assert all(value > 64 for value in memory.values())
    exact = next(value for name, value in memory.items() if name.startswith("hnswlib: 0.8 M=32"))
    assert 256 < exact < 257
    reached = {(row.case[-4:], row.contender) for row in recalls}
    short = {(row.case[-4:], row.contender) for row in rows if "at most" in row.metric}
    assert reached.isdisjoint(short)
    assert {(f"{recall:.2f}", name) for recall in ann.RECALLS for name in names} <= reached | short
    said = capsys.readouterr().err
    assert "No module named 'usearch'" in said
    assert "ScaNN: ScaNN is not installed" in said
    assert "hnswlib" not in said


def test_a_peer_whose_scores_are_not_of_its_rows_ends_the_benchmark(tmp_path: Path) -> None:
    peers = _peers(tmp_path / "peers", off=0.02)
    with pytest.raises(ParityError, match=r"hnswlib: a score is 0\.020 from that of its row"):
        ann.run(tmp_path, size=3_000, dim=64, queries=40, rounds=1, graphs=False, peers=peers)


def test_leanvec_keeps_more_than_components_where_queries_are_far_away(tmp_path: Path) -> None:
    rows = leanvec_effect.run(tmp_path, size=3_000, dim=[64], queries=100, known=2_000, real=False)
    kept = {(row.case, row.contender): row.value for row in rows}
    for what in ("numbers", "codes"):
        case = "3,000 x 64, gap strong"
        assert kept[case, f"{what}, LeanVec"] > kept[case, f"{what}, principal components"] + 0.02
    shares = [row.value for row in rows if row.unit == "%"]
    assert len(shares) == 6
    assert all(0 < share < 60 for share in shares)

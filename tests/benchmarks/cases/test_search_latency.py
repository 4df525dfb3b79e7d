from contextlib import AbstractContextManager

import numpy as np
import pytest

from maxsight.benchmarks.cases import search_latency
from maxsight.benchmarks.material.vectors import Cloud, cloud
from maxsight.benchmarks.measure.parity import ParityError
from maxsight.library import Library


def test_rows_of_every_contender_in_this_process() -> None:
    rows = search_latency.measure(cloud(400, 48, queries=4), rounds=3)
    latencies = {row.contender: row for row in rows if row.metric == "latency"}
    assert set(latencies) == {
        "faiss flat, all cores",
        "faiss flat, one core",
        "maxsight",
        "maxsight, index alone",
    }
    assert all(0 < row.value < 1_000 and row.runs == 3 for row in latencies.values())
    assert {row.case for row in rows} == {"400 x 48"}
    assert {row.metric for row in rows} == {
        "latency",
        "latency / faiss flat",
        "processor time / faiss flat",
    }


def test_the_synthetic_library_answers_as_a_matrix_product_does() -> None:
    made = cloud(300, 32, queries=3)
    with search_latency.synthetic_library(made) as library:
        for number, query in enumerate(made.queries):
            scores = made.vectors @ query
            hits = library.search(f"query {number}", k=5)
            best = np.argsort(-scores)[:5]
            assert [hit.path for hit in hits] == [f"/pictures/{i:08}.jpg" for i in best]
            np.testing.assert_allclose([hit.score for hit in hits], scores[best], atol=1e-5)


def test_nothing_is_timed_when_a_library_holds_other_vectors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One picture in the library is another than FAISS holds: the only one that is right.
    made = cloud(300, 32, queries=3)
    original = search_latency.synthetic_library

    def damaged(vectors: Cloud) -> AbstractContextManager[Library]:
        wrong = vectors.vectors.copy()
        wrong[np.argmax(wrong @ vectors.queries[1])] *= -1
        return original(Cloud(wrong, vectors.queries))

    monkeypatch.setattr(search_latency, "synthetic_library", damaged)
    with pytest.raises(ParityError, match="maxsight"):
        search_latency.measure(made, rounds=3)


def test_peers_are_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    search_latency.measure(cloud(50, 16, queries=2), rounds=1)
    assert "left out at 50 x 16: rclip: no --peers directory" in capsys.readouterr().err

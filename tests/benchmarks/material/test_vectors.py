import numpy as np

from maxsight.benchmarks.material.vectors import cloud


def test_vectors_are_unit_rows_that_float16_holds() -> None:
    made = cloud(3_000, 48, queries=9)
    assert made.vectors.shape == (3_000, 48)
    assert made.queries.shape == (9, 48)
    assert made.vectors.dtype == made.queries.dtype == np.float32
    np.testing.assert_array_equal(made.vectors, made.vectors.astype(np.float16))
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(made.queries, axis=1), 1, atol=1e-5)


def test_the_same_seed_gives_the_same_vectors() -> None:
    np.testing.assert_array_equal(cloud(500, 16).vectors, cloud(500, 16, queries=3).vectors)
    assert not np.array_equal(cloud(500, 16).vectors, cloud(500, 16, seed=1).vectors)


def test_they_are_shaped_like_an_encoders() -> None:
    made = cloud(5_000, 512)
    pairs = made.vectors[:2_500], made.vectors[2_500:]
    assert 0.4 < (pairs[0] * pairs[1]).sum(1).mean() < 0.6
    scores = made.queries @ made.vectors.T
    assert 0.2 < scores.max(1).mean() < 0.4
    # Clusters: the tenth neighbour is far nearer than the crowd.
    tenth = np.sort(scores, axis=1)[:, -10]
    assert (tenth - np.median(scores, axis=1)).mean() > 2 * scores.std(axis=1).mean()

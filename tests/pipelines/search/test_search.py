"""Search against a brute force over the same vectors, on a real library without an encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from maxsight.errors import FilterError, UsageError
from maxsight.index.records import Changes, EncodedItem, FileState
from maxsight.index.store import Store
from maxsight.models.embeddings import Embeddings
from maxsight.models.encoder import Encoder
from maxsight.pipelines.query.encoder import QueryEncoder
from maxsight.pipelines.query.language import Query, Term
from maxsight.pipelines.query.text_cache import TextCache
from maxsight.pipelines.search.search import SearchResult, search, search_many

DIM = 48
RNG = np.random.default_rng(3)


def unit(shape: tuple[int, ...]) -> np.ndarray:
    vectors = RNG.normal(size=shape).astype(np.float32)
    normalised: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return normalised


def item(path: str, vectors: np.ndarray, *, width: int = 100) -> EncodedItem:
    film = len(vectors) > 1
    starts = np.arange(len(vectors), dtype=np.float64)
    return EncodedItem(
        state=FileState(path, 1, 1),
        kind="video" if film else "image",
        content_hash=hashlib.sha256(path.encode()).hexdigest(),
        width=width,
        height=100,
        vectors=vectors,
        spans=np.stack([starts, starts + 1], axis=1) if film else None,
        duration_s=float(len(vectors)) if film else None,
    )


@pytest.fixture(scope="module")
def items() -> list[EncodedItem]:
    pictures = [item(f"/p/{n}.jpg", unit((1, DIM)), width=n) for n in range(60)]
    films = [item(f"/f/{n}.mp4", unit((200, DIM))) for n in range(5)]
    return pictures + films


@pytest.fixture(scope="module")
def store(items: list[EncodedItem], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("search") / "s.maxsight"
    with Store.create(path, encoder_uri="none", fingerprint="f", dim=DIM) as store:
        store.apply(Changes(added=items))
        yield store


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[TextCache]:
    cache = TextCache(tmp_path / "texts.sqlite")
    yield cache
    cache.close()


def no_encoder() -> Encoder:
    raise AssertionError("nothing here needs an encoder")


def ask(store: Store, cache: TextCache, *terms: Term, **options: object) -> SearchResult:
    query = Query(terms, **options)  # type: ignore[arg-type]
    return search(
        store.snapshot(),
        query,
        QueryEncoder("f", no_encoder, cache),
    )


def truth(items: Sequence[EncodedItem], query: np.ndarray) -> list[tuple[float, str, int]]:
    """(score, path, best unit), best first, by brute force over what is stored."""
    scored = []
    for candidate in items:
        scores = candidate.vectors.astype(np.float16).astype(np.float32) @ query
        scored.append((float(scores.max()), candidate.state.path, int(scores.argmax())))
    return sorted(scored, reverse=True)


@pytest.mark.parametrize("k", [1, 3, 10, 64, 65, 200])
def test_each_file_once_at_its_best_unit(
    store: Store, cache: TextCache, items: list[EncodedItem], k: int
) -> None:
    query = unit((DIM,))
    hits = ask(store, cache, Term(vector=query), k=k).hits
    expected = truth(items, query)[:k]
    assert [hit.path for hit in hits] == [path for _, path, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [s for s, _, _ in expected], atol=1e-5)
    for hit, (_, _, best) in zip(hits, expected):
        assert (hit.start, hit.end) == ((best, best + 1) if hit.kind == "video" else (None, None))
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_one_film_that_fills_all_first_places_hides_nobody(
    cache: TextCache, tmp_path: Path
) -> None:
    query = unit((DIM,))
    noise = 0.01 * unit((3000, DIM))
    film = query + noise
    film /= np.linalg.norm(film, axis=1, keepdims=True)
    crowd = [item(f"/p/{n}.jpg", unit((1, DIM))) for n in range(30)]
    everything = [*crowd, item("/f/long.mp4", film)]
    with Store.create(tmp_path / "s", encoder_uri="none", fingerprint="f", dim=DIM) as store:
        store.apply(Changes(added=everything))
        hits = ask(store, cache, Term(vector=query), k=5).hits
    assert [hit.path for hit in hits] == [path for _, path, _ in truth(everything, query)[:5]]


def test_where_and_kinds_restrict(store: Store, cache: TextCache, items: list[EncodedItem]) -> None:
    query = unit((DIM,))
    hits = ask(store, cache, Term(vector=query), where="width >= 50", kinds=frozenset({"image"}))
    wide = [i for i in items if i.kind == "image" and i.width >= 50]
    assert [hit.path for hit in hits.hits] == [path for _, path, _ in truth(wide, query)[:10]]
    with pytest.raises(FilterError, match="width"):
        ask(store, cache, Term(vector=query), where="widht > 1")


def test_signed_weights_mix(store: Store, cache: TextCache, items: list[EncodedItem]) -> None:
    wanted, unwanted = unit((DIM,)), unit((DIM,))
    hits = ask(store, cache, Term(vector=wanted), Term(vector=unwanted, weight=-0.5), k=3).hits
    mixed = wanted - 0.5 * unwanted
    expected = truth(items, mixed / np.linalg.norm(mixed))[:3]
    assert [hit.path for hit in hits] == [path for _, path, _ in expected]


def test_a_cached_text_needs_no_encoder(
    store: Store, cache: TextCache, items: list[EncodedItem]
) -> None:
    cache.put("f", {"seen before": items[7].vectors[0]})
    assert ask(store, cache, Term(text="seen before"), k=1).hits[0].path == "/p/7.jpg"


def test_many_queries_are_answered_as_one_by_one(
    store: Store, cache: TextCache, items: list[EncodedItem], tmp_path: Path
) -> None:
    """Of several filters and lengths, with films that fill the first places, in their order."""
    film = next(item for item in items if item.kind == "video")
    cache.put("f", {f"text {n}": unit((DIM,)) for n in range(20)})
    vectors = [unit((DIM,)), film.vectors[3], film.vectors.mean(0)]
    reference = tmp_path / "reference.jpg"
    reference.write_bytes(b"/p/3.jpg")  # items' hashes are of their paths
    terms = [
        *((Term(text=f"text {n}"),) for n in range(20)),
        *((Term(vector=vector),) for vector in vectors),
        (Term(image=reference), Term(text="text 1", weight=-0.5)),
        (Term(image=reference),),
    ]
    rest: list[dict[str, Any]] = [
        {},
        {"k": 70},
        {"where": "width > 20"},
        {"where": "width > 20", "kinds": frozenset({"video"})},
        {"include_references": True, "k": 1},
    ]
    queries = [Query(own, **options) for own in terms for options in rest]
    encoder = QueryEncoder("f", no_encoder, cache)
    together = search_many(store.snapshot(), queries, encoder)
    alone = [search(store.snapshot(), query, encoder) for query in queries]
    assert [result.hits for result in together] == [result.hits for result in alone]
    assert "/p/3.jpg" not in {hit.path for hit in together[-len(rest)].hits}
    assert together[-1].hits[0].path == "/p/3.jpg"
    assert search_many(store.snapshot(), [], encoder) == []


def test_many_new_texts_are_encoded_at_once(store: Store, cache: TextCache) -> None:
    asked: list[list[str]] = []

    class Recording:
        def encode_text(self, texts: list[str], *, tokens: bool) -> Any:
            asked.append(texts)
            return Embeddings(torch.from_numpy(unit((len(texts), DIM))))

    encoder = QueryEncoder("f", lambda: cast(Encoder, Recording()), cache)
    queries = [Query((Term(text=text),)) for text in ("a", "b", "a", "c")]
    search_many(store.snapshot(), queries, encoder)
    assert asked == [["a", "b", "c"]]


def test_the_reference_itself_is_left_out_unless_asked_for(
    cache: TextCache, tmp_path: Path
) -> None:
    reference = tmp_path / "reference.jpg"
    reference.write_bytes(b"only its bytes matter: its vector is stored")
    vector = unit((1, DIM))
    stored = EncodedItem(
        FileState("/elsewhere/copy.jpg", 1, 1),
        "image",
        hashlib.sha256(reference.read_bytes()).hexdigest(),
        1,
        1,
        vector,
    )
    with Store.create(tmp_path / "s", encoder_uri="none", fingerprint="f", dim=DIM) as store:
        store.apply(Changes(added=[stored, item("/p/other.jpg", unit((1, DIM)))]))
        left_out = ask(store, cache, Term(image=reference)).hits
        kept = ask(store, cache, Term(image=reference), include_references=True).hits
    assert [hit.path for hit in left_out] == ["/p/other.jpg"]
    assert kept[0].path == "/elsewhere/copy.jpg"
    assert kept[0].score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Query(()),
        lambda: Query((Term(text="a"),), k=0),
        lambda: Query((Term(text="a", weight=-1),)),
        lambda: Term(),
        lambda: Term(text="  "),
        lambda: Term(text="a", image=Path("b")),
        lambda: Term(text="a", weight=0),
        lambda: Term(text="a", weight=float("nan")),
    ],
)
def test_queries_that_make_no_sense(make: object) -> None:
    with pytest.raises(UsageError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "vector", [np.zeros(DIM), np.full(DIM, np.nan), np.ones(DIM + 1), np.ones((1, DIM))]
)
def test_vectors_that_make_no_sense(store: Store, cache: TextCache, vector: np.ndarray) -> None:
    with pytest.raises(UsageError):
        ask(store, cache, Term(vector=vector))

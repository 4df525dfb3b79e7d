"""Search by tokens, against a brute force over what is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from maxsight.errors import UsageError
from maxsight.index.records import Changes, EncodedItem, FileState, TokenTable
from maxsight.index.store import Store
from maxsight.models import compose
from maxsight.models.encoder import Encoder
from maxsight.models.mix import TOKENS_ALONE, Mix
from maxsight.pipelines import rescore
from maxsight.pipelines.search import Hit, Query, Rerank, Term, search
from maxsight.pipelines.text_cache import TextCache

DIM, TOKEN_DIM = 24, 16
RNG = np.random.default_rng(5)
# Of these tokens' unity both ends and the middle occur.
MIX = Mix(alike=2.0, unlike=0.25, low=0.65, high=0.9)


def unit(*shape: int) -> np.ndarray:
    vectors = RNG.normal(size=shape).astype(np.float32)
    normalised: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return normalised


def coded(groups: Sequence[np.ndarray], sizes: np.ndarray) -> TokenTable:
    packed = np.concatenate(groups)
    scales = np.abs(packed).max(axis=1).clip(1e-9) / 127
    return TokenTable(
        tokens=np.round(packed / scales[:, None]).astype(np.int8),
        scales=scales.astype(np.float32),
        sizes=sizes,
        offsets=np.cumsum([0, *map(len, groups)]).astype(np.int64),
    )


def item(path: str, units: int, *, lengths: Sequence[int]) -> EncodedItem:
    film = units > 1
    starts = np.arange(units, dtype=np.float64)
    groups = []
    for length in lengths:
        spread = RNG.uniform(0.1, 3.0)
        group = unit(1, TOKEN_DIM) + spread * unit(length, TOKEN_DIM)
        groups.append(group / np.linalg.norm(group, axis=1, keepdims=True))
    sizes = RNG.integers(1, 5, sum(lengths)).astype(np.float32)
    return EncodedItem(
        FileState(path, 1, 1),
        "video" if film else "image",
        hashlib.sha256(path.encode()).hexdigest(),
        100,
        100,
        unit(units, DIM),
        spans=np.stack([starts, starts + 1], axis=1) if film else None,
        tokens=coded(groups, sizes),
    )


@pytest.fixture(scope="module")
def items() -> list[EncodedItem]:
    pictures = [item(f"/p/{n}.jpg", 1, lengths=[n % 7]) for n in range(60)]  # some have none
    films = [item(f"/f/{n}.mp4", 12, lengths=[4] * 12) for n in range(3)]
    return pictures + films


def make(path: Path, items: list[EncodedItem], mix: Mix | None) -> Store:
    store = Store.create(
        path,
        encoder_uri="none",
        fingerprint="f",
        dim=DIM,
        token_dim=TOKEN_DIM,
        mix=None if mix is None else asdict(mix),
    )
    store.apply(Changes(added=items))
    return store


@pytest.fixture(scope="module")
def store(items: list[EncodedItem], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with make(tmp_path_factory.mktemp("late") / "s", items, MIX) as store:
        yield store


WORDS = {"bus": (unit(DIM), unit(1, TOKEN_DIM)), "dog and cat": (unit(DIM), unit(2, TOKEN_DIM))}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[TextCache]:
    cache = TextCache(tmp_path / "texts.sqlite")
    cache.put("f", {text: vector for text, (vector, _) in WORDS.items()})
    cache.put_tokens("f", {text: tokens for text, (_, tokens) in WORDS.items()})
    yield cache
    cache.close()


def no_encoder() -> Encoder:
    raise AssertionError("vectors and tokens of these texts are in the cache")


def ask(
    store: Store,
    cache: TextCache,
    *terms: Term,
    k: int = 10,
    rerank: Rerank = "auto",
    where: str | None = None,
) -> list[Hit]:
    return search(
        store.snapshot(),
        Query(terms, k=k, rerank=rerank, where=where),
        fingerprint="f",
        encoder=no_encoder,
        cache=cache,
    ).hits


def part_score(
    vector: np.ndarray, tokens: np.ndarray | None, item: EncodedItem, unit: int, mix: Mix | None
) -> float:
    """One part of a query with one unit, written out."""
    cosine = float(item.vectors[unit].astype(np.float16).astype(np.float64) @ vector)
    assert item.tokens is not None
    table = item.tokens
    own = slice(table.offsets[unit], table.offsets[unit + 1])
    stored = table.tokens[own].astype(np.float64) * table.scales[own, None]
    if tokens is None or not len(stored):
        return cosine
    late = [max(float(token @ patch) for patch in stored) for token in tokens]
    if mix is None:
        return 0.5 * cosine + 0.5 * sum(late) / len(late)
    sizes = table.sizes[own]
    unity = float(np.linalg.norm((sizes[:, None] * stored).sum(0) / sizes.sum()))
    if mix.alike == mix.unlike or unity <= mix.low:
        weight = mix.unlike
    elif unity >= mix.high:
        weight = mix.alike
    else:
        place = (unity - mix.low) / (mix.high - mix.low)
        weight = mix.unlike ** (1 - place) * mix.alike**place
    return (weight * cosine + sum(late)) / (weight + len(late))


def truth(
    items: Sequence[EncodedItem],
    parts: Sequence[tuple[float, np.ndarray, np.ndarray | None]],
    mix: Mix | None = MIX,
) -> list[tuple[float, str]]:
    """(score, path), best first; parts are (share, vector, tokens)."""
    found = []
    for candidate in items:
        scores = [
            sum(
                share * part_score(vector, tokens, candidate, unit, mix)
                for share, vector, tokens in parts
            )
            for unit in range(len(candidate.vectors))
        ]
        found.append((max(scores), candidate.state.path))
    return sorted(found, reverse=True)


def check(hits: list[Hit], expected: list[tuple[float, str]]) -> None:
    # The query is rounded to int8, so that two of nearly one score may change places.
    by_path = {path: score for score, path in expected}
    np.testing.assert_allclose(
        [hit.score for hit in hits], [by_path[hit.path] for hit in hits], atol=5e-3
    )
    np.testing.assert_allclose(
        [hit.score for hit in hits], [score for score, _ in expected[: len(hits)]], atol=5e-3
    )
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("k", [1, 10, 100])
def test_a_text_is_scored_by_vector_and_tokens(
    store: Store, cache: TextCache, items: list[EncodedItem], text: str, k: int
) -> None:
    hits = ask(store, cache, Term(text=text), k=k)
    assert len(hits) == min(k, len(items))
    check(hits, truth(items, [(1.0, *WORDS[text])]))
    pooled = ask(store, cache, Term(text=text), k=k, rerank="off")
    assert k == 1 or [hit.path for hit in hits] != [hit.path for hit in pooled]


def test_unities_of_all_kinds_occur(items: list[EncodedItem]) -> None:
    unity = np.concatenate([i.tokens.unity for i in items if i.tokens is not None])
    assert (unity == 0).any()
    for low, high in ((0, MIX.low), (MIX.low, MIX.high), (MIX.high, 1)):
        assert ((low < unity) & (unity < high)).sum() > 3


@pytest.mark.parametrize("mix", [None, TOKENS_ALONE])
def test_other_mixes(
    tmp_path: Path, cache: TextCache, items: list[EncodedItem], mix: Mix | None
) -> None:
    text = "dog and cat"
    with make(tmp_path / "s", items, mix) as store:
        pooled = ask(store, cache, Term(text=text), rerank="off")
        # What nobody has measured is used only when asked for.
        assert (ask(store, cache, Term(text=text)) == pooled) == (mix is None)
        check(
            ask(store, cache, Term(text=text), rerank="on"),
            truth(items, [(1.0, *WORDS[text])], mix),
        )


def test_a_mixed_query(store: Store, cache: TextCache, items: list[EncodedItem]) -> None:
    """Texts are scored by their tokens, a vector by itself, each with its share of the query."""
    given = unit(DIM)
    hits = ask(
        store,
        cache,
        Term(vector=given),
        Term(text="dog and cat"),
        Term(text="bus", weight=-0.5),
        k=100,
    )
    weights = [1.0, compose.TEXT_WEIGHT, -0.5 * compose.TEXT_WEIGHT]
    vectors = [given, WORDS["dog and cat"][0], WORDS["bus"][0]]
    norm = np.linalg.norm(sum(w * v for w, v in zip(weights, vectors)))
    tokens = [None, WORDS["dog and cat"][1], WORDS["bus"][1]]
    parts = [(float(w / norm), v, t) for w, v, t in zip(weights, vectors, tokens)]
    check(hits, truth(items, parts))


def test_a_filter_restricts(store: Store, cache: TextCache, items: list[EncodedItem]) -> None:
    hits = ask(store, cache, Term(text="bus"), k=100, where="path LIKE '/f/%'")
    films = [i for i in items if i.kind == "video"]
    check(hits, truth(films, [(1.0, *WORDS["bus"])]))
    assert all(hit.start is not None for hit in hits)


def test_too_large_for_memory_the_best_by_vector_are_scored(
    store: Store, cache: TextCache, items: list[EncodedItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = ask(store, cache, Term(text="dog and cat"), k=3)
    monkeypatch.setattr(rescore, "HELD_BYTES", 0)
    assert ask(store, cache, Term(text="dog and cat"), k=3) == everything  # 1,000 are all
    monkeypatch.setattr(rescore, "CANDIDATES", 1)
    hits = ask(store, cache, Term(text="dog and cat"), k=1)
    rows = store.snapshot().nearest(WORDS["dog and cat"][0], 10)
    assert len(rows) == 10
    near = {hit.path for hit in store.snapshot().best_of_each(rows, np.zeros(10, np.float32), 10)}
    best = [path for _, path in truth(items, [(1.0, *WORDS["dog and cat"])]) if path in near]
    assert [hit.path for hit in hits] == best[:1]


def test_pictures_alone_are_searched_by_vector(store: Store, cache: TextCache) -> None:
    given = unit(DIM)
    assert ask(store, cache, Term(vector=given)) == ask(
        store, cache, Term(vector=given), rerank="off"
    )


def test_reranking_that_cannot_be(tmp_path: Path, store: Store, cache: TextCache) -> None:
    with pytest.raises(UsageError, match="add a text"):
        Query((Term(vector=unit(DIM)),), rerank="on")
    with pytest.raises(UsageError, match="auto, on or off"):
        Query((Term(text="bus"),), rerank="maybe")  # type: ignore[arg-type]
    with Store.create(tmp_path / "s", encoder_uri="none", fingerprint="f", dim=DIM) as bare:
        bare.apply(Changes(added=[]))
        with pytest.raises(UsageError, match="--tokens"):
            ask(bare, cache, Term(text="bus"), rerank="on")
        assert ask(bare, cache, Term(text="bus")) == []
    with make(tmp_path / "empty", [], MIX) as empty:
        assert ask(empty, cache, Term(text="bus")) == []

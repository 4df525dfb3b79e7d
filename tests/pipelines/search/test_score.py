"""Search by tokens, against a brute force over what is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maxsight.errors import UsageError
from maxsight.index import snapshot_tokens
from maxsight.index.building import token_index
from maxsight.index.records import Changes, EncodedItem, FileState, TokenTable
from maxsight.index.store import Store
from maxsight.mix import ALONE, TOKENS_ALONE, Mix
from maxsight.models import compose
from maxsight.models.encoder import Encoder
from maxsight.pipelines.query.encoder import QueryEncoder
from maxsight.pipelines.query.language import Query, Rerank, Term
from maxsight.pipelines.query.late_query import late_query
from maxsight.pipelines.query.text_cache import TextCache
from maxsight.pipelines.search import propose, score
from maxsight.pipelines.search.search import Hit, search, search_many

DIM, TOKEN_DIM = 24, 16
RNG = np.random.default_rng(5)
# Of the pictures that the words below find a share between the last two is below the third.
MIX = Mix(alike=5.0, unlike=0.25, low=0.5, high=0.9, louder=4.0, several=0.7, few=0.1, many=0.9)


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
        mix=mix,
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
        QueryEncoder("f", no_encoder, cache),
    ).hits


@dataclass(frozen=True)
class Matched:
    """One part of a query with one unit: its cosine, and its MaxSim and unity if it has tokens."""

    cosine: float
    late: float | None
    unity: float


def match(vector: np.ndarray, tokens: np.ndarray | None, item: EncodedItem, unit: int) -> Matched:
    cosine = float(item.vectors[unit].astype(np.float16).astype(np.float64) @ vector)
    assert item.tokens is not None
    table = item.tokens
    own = slice(table.offsets[unit], table.offsets[unit + 1])
    stored = table.tokens[own].astype(np.float64) * table.scales[own, None]
    if tokens is None or not len(stored):
        return Matched(cosine, None, 0.0)
    scales = np.abs(tokens).max(axis=1, keepdims=True) / 127  # the query is rounded, too
    asked = np.round(tokens / scales) * scales
    late = np.mean([max(float(token @ patch) for patch in stored) for token in asked])
    sizes = table.sizes[own]
    unity = np.linalg.norm((sizes[:, None] * stored).sum(0) / sizes.sum())
    return Matched(cosine, float(late), float(unity))


def several_found(matched: Sequence[Matched], mix: Mix) -> float:
    """Which share of the units with the highest MaxSim show several things."""
    best = sorted((m for m in matched if m.late is not None), key=lambda m: -(m.late or 0))
    return float(np.mean([m.unity < mix.several for m in best[: score.FOUND]]))


def between(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0)


def part_scores(matched: Sequence[Matched], tokens: int, mix: Mix | None) -> list[float]:
    """One part of a query with all units, written out."""
    scores = []
    opened = 0.0
    if mix is not None and any(m.late is not None for m in matched):
        opened = between(several_found(matched, mix), mix.few, mix.many)
    for m in matched:
        share = 0.5
        if mix is not None:
            place = between(m.unity, mix.low, mix.high)
            own = (1 - place) * tokens / (tokens + mix.unlike)
            own += place * tokens / (tokens + mix.unlike * mix.louder)
            share = (1 - opened) * tokens / (tokens + mix.alike) + opened * own
        scores.append(m.cosine if m.late is None else (1 - share) * m.cosine + share * m.late)
    return scores


def truth(
    items: Sequence[EncodedItem],
    parts: Sequence[tuple[float, np.ndarray, np.ndarray | None]],
    mix: Mix | None = MIX,
) -> list[tuple[float, str]]:
    """(score, path), best first; parts are (share, vector, tokens)."""
    units = [(item, unit) for item in items for unit in range(len(item.vectors))]
    scores = np.zeros(len(units))
    for share, vector, tokens in parts:
        matched = [match(vector, tokens, *unit) for unit in units]
        scores += share * np.array(part_scores(matched, 0 if tokens is None else len(tokens), mix))
    found: dict[str, float] = {}
    for (item, _), own in zip(units, scores.tolist()):
        found[item.state.path] = max(own, found.get(item.state.path, -np.inf))
    return sorted(((score, path) for path, score in found.items()), reverse=True)


def check(hits: list[Hit], expected: list[tuple[float, str]]) -> None:
    # Two of nearly one score may change places.
    by_path = {path: score for score, path in expected}
    np.testing.assert_allclose(
        [hit.score for hit in hits], [by_path[hit.path] for hit in hits], atol=1e-5
    )
    np.testing.assert_allclose(
        [hit.score for hit in hits], [score for score, _ in expected[: len(hits)]], atol=1e-5
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


def found(items: Sequence[EncodedItem], text: str, mix: Mix) -> float:
    units = [(item, unit) for item in items for unit in range(len(item.vectors))]
    return several_found([match(*WORDS[text], *unit) for unit in units], mix)


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("several", [0.0, 1.0])
def test_the_pictures_found_decide(
    tmp_path: Path, cache: TextCache, items: list[EncodedItem], text: str, several: float
) -> None:
    assert MIX.few < found(items, text, MIX) < MIX.many
    mix = Mix(alike=ALONE, unlike=0.1, low=0.5, high=0.9, louder=5.0, several=several)
    with make(tmp_path / "s", items, mix) as store:
        hits = ask(store, cache, Term(text=text), k=100)
        check(hits, truth(items, [(1.0, *WORDS[text])], mix))
        pooled = ask(store, cache, Term(text=text), k=100, rerank="off")
        # Where all show one thing nothing changes, whatever the tokens say.
        assert (hits == pooled) == (several == 0)


@pytest.mark.parametrize("text", WORDS)
def test_only_the_best_by_tokens_decide(
    store: Store,
    cache: TextCache,
    items: list[EncodedItem],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    all_of_them = found(items, text, MIX)
    monkeypatch.setattr(score, "FOUND", 10)
    assert found(items, text, MIX) != all_of_them
    hits = ask(store, cache, Term(text=text), k=100)
    check(hits, truth(items, [(1.0, *WORDS[text])]))


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


def test_many_queries_are_answered_as_one_by_one(store: Store, cache: TextCache) -> None:
    """Scored by tokens or not, behind a filter or not."""
    terms: list[tuple[Term, ...]] = [(Term(text=text),) for text in WORDS]
    terms.append((Term(vector=unit(DIM)),))
    terms.append((Term(text="dog and cat"), Term(text="bus", weight=-0.5)))
    rest: list[dict[str, Any]] = [{}, {"rerank": "off"}, {"k": 100, "where": "path LIKE '/f/%'"}]
    queries = [Query(own, **options) for own in terms for options in rest]
    encoder = QueryEncoder("f", no_encoder, cache)
    together = search_many(store.snapshot(), queries, encoder)
    alone = [search(store.snapshot(), query, encoder) for query in queries]
    assert [result.hits for result in together] == [result.hits for result in alone]


def test_a_filter_restricts(store: Store, cache: TextCache, items: list[EncodedItem]) -> None:
    hits = ask(store, cache, Term(text="bus"), k=100, where="path LIKE '/f/%'")
    films = [i for i in items if i.kind == "video"]
    check(hits, truth(films, [(1.0, *WORDS["bus"])]))
    assert all(hit.start is not None for hit in hits)


def test_too_large_for_memory_the_best_by_vector_are_scored(
    tmp_path: Path, cache: TextCache, items: list[EncodedItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "dog and cat"
    same = Mix(alike=0.5, unlike=0.5)  # whatever is found, so that candidates score what all do
    with make(tmp_path / "s", items, same) as store:
        everything = ask(store, cache, Term(text=text), k=3)
        monkeypatch.setattr(snapshot_tokens, "HELD_TOKEN_BYTES", 0)
        assert ask(store, cache, Term(text=text), k=3) == everything  # 1,000 are all
        monkeypatch.setattr(propose, "CANDIDATES", 1)
        hits = ask(store, cache, Term(text=text), k=1)
        now = store.snapshot()
        rows = now.nearest(WORDS[text][0], 10)
        assert len(rows) == 10
        near = {hit.path for hit in now.best_of_each(rows, np.zeros(10, np.float32), 10)}
        best = [path for _, path in truth(items, [(1.0, *WORDS[text])], same) if path in near]
        assert [hit.path for hit in hits] == best[:1]
        # An index of tokens brings those that the pooled vector does not.
        assert token_index.bring_up_to_date(store.snapshot(), recall=0.95) == "built"
    with Store.open(tmp_path / "s") as reader:
        assert ask(reader, cache, Term(text=text), k=3) == everything


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


def test_a_unit_without_tokens_is_left_to_its_vector() -> None:
    table = TokenTable(
        tokens=np.array([[-127, 0]], np.int8),
        scales=np.array([1 / 127], np.float32),
        sizes=np.ones(1, np.float32),
        offsets=np.array([0, 0, 1]),
    )
    asked = np.array([[1.0, 0.0]], np.float32)
    query = late_query(asked, [asked], MIX, weights=[1.0], is_text=[True])
    assert query is not None
    # Its MaxSim is below that of every unit with tokens, but no part of its score.
    assert snapshot_tokens.mean_maxsim([asked], table, np.arange(2)).tolist() == [[-np.inf, -1.0]]
    pooled, rest = np.array([[0.25, 0.25]], np.float32), np.zeros(2, np.float32)
    late = snapshot_tokens.score_units([asked], table, np.arange(2))
    scores = score.combine(query, late, pooled=pooled, rest=rest)
    assert scores[0] == np.float32(0.25)
    assert -1 < scores[1] < 0.25

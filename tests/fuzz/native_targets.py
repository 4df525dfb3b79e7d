"""Numbers handed to compiled code. Run by test_apart.py in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzed import edited
from hypothesis import given
from hypothesis import strategies as st
from token_tables import token_table

from maxsight.errors import MaxsightError
from maxsight.index.files import sealed_json
from maxsight.index.late.late_index import LateIndex
from maxsight.index.late.manifest import FILE
from maxsight.kernels import maxsim, native
from maxsight.kernels.coded_tokens import CodedTokens
from maxsight.kernels.resample import resize

pytestmark = pytest.mark.skipif(native.available() is None, reason="not compiled")

NUMBERS = st.integers(-3, 12) | st.sampled_from([2**31, 2**62, -(2**62), 255, 256])
OFFSETS = st.lists(NUMBERS, min_size=0, max_size=5) | st.just([0, 2, 5]) | st.just([0, 5, 5])
OUTSIDE = (ValueError, TypeError, MemoryError)


@given(offsets=OFFSETS, bits=st.sampled_from([8, 5, 4, 2, 3]), data=st.data())
def test_coded_tokens(offsets: list[int], bits: int, data: st.DataObject) -> None:
    count, centroids, dim = 5, data.draw(st.integers(0, 3)), data.draw(st.sampled_from([8, 16, 12]))
    ids = data.draw(st.lists(st.integers(0, 4), min_size=0, max_size=6))
    levels = None if data.draw(st.booleans()) else np.arange(2**bits, dtype=np.int8)
    scale = None if data.draw(st.booleans()) else np.ones(count, np.float32)
    wide = data.draw(st.sampled_from([np.uint8, np.uint16]))
    try:
        tokens = CodedTokens(
            np.array(ids, wide),
            np.ones((centroids, dim), np.int8),
            np.ones((count, dim * bits // 8), np.uint8),
            bits,
            levels,
            scale,
            np.array(offsets, np.int64),
        )
        queries, edges = np.ones((3, dim), np.float32), np.array(data.draw(OFFSETS), np.int64)
        drawn = data.draw(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4))
        pairs = np.array(drawn, np.int64).reshape(-1, 2)
        rows = np.array(data.draw(st.lists(NUMBERS, max_size=4)), np.int64)
        scores = native.score_pairs(queries, edges, tokens, pairs, fine=True)
        assert scores.shape == (len(pairs),)
        kept = native.interact(
            queries, edges, tokens, data.draw(st.integers(-1, 9)), rows=rows[None]
        )
        assert (kept < tokens.documents).all()
    except OUTSIDE:
        return


@given(data=st.data())
def test_maxsim(data: st.DataObject) -> None:
    dim = data.draw(st.sampled_from([1, 7, 8, 33]))
    sides: list[Any] = []
    for _ in range(2):
        values = torch.ones(5, dim)
        match data.draw(st.sampled_from(["plain", "int8", "bfloat16", "coded"])):
            case "int8":
                values = maxsim.Int8Tokens.of(values)  # type: ignore[assignment]
            case "bfloat16":
                values = values.to(torch.bfloat16)
            case "coded" if dim == 8 and sides:
                values = maxsim.CodedTokens(  # type: ignore[assignment]
                    np.zeros(5, np.uint8),
                    np.ones((1, 8), np.int8),
                    np.ones((5, 5), np.uint8),
                    5,
                    np.arange(32, dtype=np.int8),
                    None,
                    np.array([0, 5]),
                )
        sides += [values, torch.tensor(data.draw(OFFSETS), dtype=torch.int64)]
    pairs = torch.tensor(data.draw(st.lists(NUMBERS, min_size=4, max_size=4))).view(2, 2)
    k = data.draw(st.integers(-1, 9))
    queries, query_offsets, documents, offsets = sides
    for call in (
        lambda: maxsim.score(*sides),
        lambda: maxsim.score_pairs(*sides, pairs=pairs),
        lambda: maxsim.topk(queries, query_offsets, documents, offsets, k),
    ):
        try:
            call()
        except OUTSIDE:
            continue


@given(
    width=st.integers(-1, 70),
    height=st.integers(-1, 70),
    window=st.tuples(*[st.integers(-2, 70)] * 4),
)
def test_resampling(width: int, height: int, window: tuple[int, int, int, int]) -> None:
    pixels = np.full((5, 9, 3), 7, np.uint8)
    for part in None, window:
        try:
            found = resize(pixels, width, height, "bicubic", window=part)
        except ValueError:
            continue
        assert (found == 7).all()


@given(
    rows=st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=4),
    k=st.integers(-1, 9),
    shapes=st.lists(st.integers(0, 5), min_size=3, max_size=3),
)
def test_shortlists(rows: list[list[int]], k: int, shapes: list[int]) -> None:
    held, dim, scales = shapes
    candidates = np.array(rows, np.int64)
    try:
        scores, found = native.rescore_rows(
            np.ones((len(rows), dim), np.float32),
            np.ones((held, dim), np.int8),
            np.ones(scales, np.float32),
            candidates,
            k,
        )
    except OUTSIDE:
        return
    assert ((found >= -1) & (found < held)).all()
    assert (np.isfinite(scores) == (found >= 0)).all()


DIMS = st.sampled_from([1, 7, 8, 33])
COUNTS = st.sampled_from([0, 1, 5, 5, 5, 70])
# Of numbers that callers must give finite: no result is asked for, but nothing is read outside.
VALUES = st.sampled_from([1.0, 1.0, 0.0, -3e38, 1e-42, float("inf"), float("nan")])


def length(draw: Any, right: int) -> int:
    """The right one, mostly."""
    return int(draw(st.sampled_from([right] * 6 + [right + 1, max(0, right - 1), 0])))


@given(data=st.data())
def test_scans(data: st.DataObject) -> None:
    draw = data.draw
    count, held, dim, k = draw(COUNTS), draw(COUNTS), draw(DIMS), draw(st.integers(1, 80))
    kinds = [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8]
    queries = torch.full((count, dim), draw(VALUES))
    rows = torch.ones(held, length(draw, dim), dtype=draw(st.sampled_from(kinds)))
    scale = torch.full((length(draw, held),), draw(VALUES)) if draw(st.booleans()) else None
    allowed = None
    if draw(st.booleans()):
        wide = length(draw, -(-held // 8))
        shape = (wide,) if draw(st.booleans()) else (length(draw, count), wide)
        allowed = torch.full(shape, draw(st.integers(0, 255)), dtype=torch.uint8)
    try:
        _, found = native.topk(queries, rows, k, allowed=allowed, scale=scale)
    except OUTSIDE:
        return
    assert ((found >= -1) & (found < held)).all()


@given(data=st.data())
def test_scans_of_arrays(data: st.DataObject) -> None:
    draw = data.draw
    count, held, dim = draw(COUNTS), draw(COUNTS), draw(DIMS)
    try:
        _, found = native.topk_rows(
            np.full((count, length(draw, dim)), draw(VALUES), np.float32),
            np.ones((held, dim), draw(st.sampled_from([np.int8, np.float16, np.float32]))),
            None if draw(st.booleans()) else np.ones(length(draw, held), np.float32),
            draw(st.integers(-1, 80) | st.just(2**62)),
            allowed=None if draw(st.booleans()) else np.ones(length(draw, held), np.bool_),
            threads=draw(st.integers(1, 4)),
        )
    except OUTSIDE:
        return
    assert ((found >= -1) & (found < held)).all()


@given(data=st.data())
def test_segments(data: st.DataObject) -> None:
    draw = data.draw
    count, dim, value = 5, draw(DIMS), draw(VALUES)
    kind = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int8]))
    if kind == torch.int8:
        value = 1
    rows = torch.full((count, dim), value, dtype=kind)
    queries = torch.full((draw(COUNTS), length(draw, dim)), value, dtype=kind)
    offsets, groups = (torch.tensor(draw(OFFSETS), dtype=torch.int64) for _ in range(2))
    scale = torch.ones(length(draw, count)) if draw(st.booleans()) else None
    chosen = st.lists(NUMBERS, max_size=4) | st.lists(st.integers(0, 1), max_size=3)
    segments = torch.tensor(draw(chosen), dtype=torch.int64) if draw(st.booleans()) else None
    listed = len(offsets) - 1 if segments is None else len(segments)
    places = torch.zeros(len(queries), length(draw, max(0, listed)), dtype=torch.int32)
    weight = torch.ones(length(draw, len(queries))) if draw(st.booleans()) else None
    try:
        native.segment_max_sum(
            rows,
            offsets,
            queries,
            groups,
            query_weight=weight,
            row_scale=scale,
            segments=segments,
            places=places if draw(st.booleans()) else None,
        )
    except OUTSIDE:
        return
    assert ((places >= -1) & (places < count)).all()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("late") / "index"
    table = token_table(documents=12, queries=1, dim=16)
    LateIndex.build(folder, [table.part(0, 12)], codes="4bit", centroids=8)
    return folder


@given(data=st.data())
def test_token_indexes_of_a_stranger(built: Path, data: st.DataObject) -> None:
    """Damaged files and a manifest that was sealed again."""
    import shutil
    import tempfile
    import zlib

    from maxsight import strict_json

    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "index"
        shutil.copytree(built, folder)
        fields = strict_json.read(folder / FILE)
        name = data.draw(st.sampled_from(sorted(fields["extents"])))
        content = data.draw(edited((folder / name).read_bytes()))
        (folder / name).write_bytes(content)
        fields["extents"][name] = {"bytes": len(content), "crc32": zlib.crc32(content)}
        if data.draw(st.booleans()):
            fields[data.draw(st.sampled_from(["dim", "documents"]))] = data.draw(NUMBERS)
        (folder / FILE).write_bytes(strict(sealed_json.seal(fields)))
        try:
            index = LateIndex.open(folder)
            for rows, _ in index.search([np.ones((3, index.manifest.dim), np.float32)], 4):
                assert ((rows >= 0) & (rows < len(index))).all()
        except (MaxsightError, ValueError):
            return


def strict(fields: dict[str, Any]) -> bytes:
    import json

    return json.dumps(fields).encode()

"""Rows of the two tables from values, and values from rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maxsight.errors import LibraryError
from maxsight.index.array_types import Mask
from maxsight.index.records import EncodedItem, Failure, FileState, TokenTable
from maxsight.index.tables import lance_tables
from maxsight.index.tables.manifest import Manifest
from maxsight.index.tables.schema import CONTENT_COLUMNS, ITEM_SCHEMA, ITEMS, UNITS, unit_schema

# float16 keeps 11 bits: the norm of a unit vector survives to about 3e-4, and encoders that
# compute in bfloat16 normalise to about 4e-3.
_NORM_TOLERANCE = 1e-2


def encode_path(path: str) -> tuple[str, bytes | None]:
    """``(display, raw)``: text that is valid UTF-8, and the name's bytes where that loses some."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raw = os.fsencode(path)
        return raw.decode("utf-8", "backslashreplace"), raw
    return path, None


def decode_path(display: pa.StringScalar, raw: pa.BinaryScalar) -> str:
    """One path as ``os.fsdecode`` gives it."""
    return os.fsdecode(raw.as_py()) if raw.is_valid else str(display.as_py())


def decode_paths(table: pa.Table) -> list[str]:
    """The paths of item rows as ``os.fsdecode`` gives them."""
    paths: list[str] = table.column("path").to_pylist()
    raw = table.column("path_bytes")
    if raw.null_count < len(raw):
        for row, name in enumerate(raw.to_pylist()):
            if name is not None:
                paths[row] = os.fsdecode(name)
    return paths


def state_columns(states: Sequence[FileState]) -> dict[str, pa.Array]:
    """The columns of item rows that say which version of which file they hold."""
    paths = [encode_path(state.path) for state in states]
    # A file system may hold dates beyond 64-bit nanoseconds (the year 2262); such a file merely
    # looks touched on every run.
    limit = 2**63 - 1
    times = [max(-limit, min(limit, state.mtime_ns)) for state in states]
    return {
        "path": pa.array([display for display, _ in paths], pa.string()),
        "path_bytes": pa.array([raw for _, raw in paths], pa.binary()),
        "bytes": pa.array([state.bytes for state in states], pa.int64()),
        "mtime": pa.array([ns // 1000 for ns in times], ITEM_SCHEMA.field("mtime").type),
        "mtime_ns": pa.array(times, pa.int64()),
    }


def content_columns(items: Sequence[EncodedItem], first_units: np.ndarray) -> dict[str, pa.Array]:
    """The columns of item rows that come from a file's content."""
    columns = state_columns([item.state for item in items])
    columns |= {
        name: pa.array([getattr(item, name) for item in items], ITEM_SCHEMA.field(name).type)
        for name in CONTENT_COLUMNS
        if name != "remark"
    }
    columns["remark"] = pa.array([_utf8(item.remark) for item in items], pa.string())
    columns["first_unit"] = pa.array(first_units, pa.int64())
    columns["unit_count"] = pa.array([len(item.vectors) for item in items], pa.int64())
    return columns


def failure_columns(failures: Sequence[Failure]) -> dict[str, pa.Array]:
    """The columns of item rows that record a file nobody could read."""
    columns = state_columns([failure.state for failure in failures])
    columns["error"] = pa.array([_utf8(failure.reason) for failure in failures], pa.string())
    columns["settings"] = pa.array([failure.settings for failure in failures], pa.string())
    return columns


def _utf8(text: str | None) -> str | None:
    """What quotes whatever a decoder said, which need not be text that UTF-8 can hold."""
    return text and text.encode("utf-8", "backslashreplace").decode("utf-8")


def item_rows(ids: Sequence[int], status: str, columns: dict[str, pa.Array]) -> pa.Table:
    """New item rows; columns that are not given are null, or zero where null is not allowed."""
    count = len(ids)
    zeros = pa.array(np.zeros(count, dtype=np.int64))
    given = {
        "item_id": pa.array(ids, pa.int64()),
        "status": pa.array([status] * count, pa.string()),
        "first_unit": zeros,
        "unit_count": zeros,
    } | columns
    return pa.table(
        [given.get(field.name, pa.nulls(count, field.type)) for field in ITEM_SCHEMA],
        schema=ITEM_SCHEMA,
    )


def rows_by_id(library: Path, ids: Sequence[int]) -> pa.Table:
    """Item rows in the order of ``ids``, all of which the table holds."""
    items = lance_tables.open_table(library, ITEMS)
    few = f"item_id IN ({', '.join(map(str, ids))})" if len(ids) <= 1000 else None
    with lance_tables.storage_errors(library):
        rows = items.to_table(filter=few)
    positions = pc.index_in(pa.array(ids, pa.int64()), rows["item_id"].combine_chunks())
    return rows.take(positions)


def changed_rows(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """``rows`` with some columns replaced, the others (a user's own among them) kept."""
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    return rows


def unit_rows(
    items: Sequence[EncodedItem], item_ids: Sequence[int], first_unit: int, manifest: Manifest
) -> pa.Table:
    """The units of ``items``, numbered from ``first_unit`` on, as rows of ``units.lance``."""
    counts = [len(item.vectors) for item in items]
    total = sum(counts)
    vectors = np.concatenate([item.vectors.astype(np.float16, copy=False) for item in items])
    spans = [
        np.full((count, 2), np.nan) if item.spans is None else item.spans.astype(np.float64)
        for item, count in zip(items, counts, strict=True)
    ]
    times = np.concatenate(spans)
    columns = [
        pa.array(np.arange(first_unit, first_unit + total)),
        pa.array(np.repeat(np.asarray(item_ids, dtype=np.int64), counts)),
        pa.array(times[:, 0], from_pandas=True),
        pa.array(times[:, 1], from_pandas=True),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), manifest.dim),
    ]
    if manifest.token_dim is not None:
        tables = [item.tokens for item in items if item.tokens is not None]
        blobs: list[bytes] = []
        for table in tables:
            ends = zip(table.offsets[:-1], table.offsets[1:], strict=True)
            blobs += [table.tokens[start:end].tobytes() for start, end in ends]
        lengths = np.concatenate([np.diff(table.offsets) for table in tables])
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        for values in ([t.scales for t in tables], [t.sizes for t in tables]):
            flat = pa.array(np.concatenate(values).astype(np.float32, copy=False))
            columns.append(pa.ListArray.from_arrays(offsets, flat))
        columns.insert(-2, pa.array(blobs, pa.large_binary()))
    return pa.table(columns, schema=unit_schema(manifest))


def vectors_of(column: pa.FixedSizeListArray, dim: int) -> np.ndarray:
    """(n, D) float16 of the column ``vector``, without a copy."""
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=True)
    return flat.reshape(-1, dim)


def token_table(rows: pa.Table, width: int) -> TokenTable:
    """The tokens of unit rows, in their order; ``width`` is d.

    Raises:
        LibraryError: a row has not as many bytes and sizes as scales, which compiled code follows.
    """
    scales, sizes = rows["token_scales"], rows["token_sizes"]
    if scales.null_count or sizes.null_count or rows["tokens"].null_count:
        raise LibraryError(
            f"{UNITS} is damaged: a unit has no tokens; `maxsight verify` tells more"
        )
    lengths = pc.list_value_length(scales).to_numpy().astype(np.int64)
    held = pc.binary_length(rows["tokens"]).to_numpy()
    counted = pc.list_value_length(sizes).to_numpy()
    if (held != width * lengths).any() or (counted != lengths).any():
        raise LibraryError(
            f"{UNITS} is damaged: a unit has tokens that do not fit their scales and sizes; "
            "`maxsight verify` tells more"
        )
    flat = [pc.list_flatten(rows[name]).to_numpy() for name in ("token_scales", "token_sizes")]
    # A copy, because what wraps the bytes cannot be written to, which torch asks of memory.
    tokens = np.frombuffer(bytearray().join(rows["tokens"].to_pylist()), np.int8)
    return TokenTable(
        tokens=tokens.reshape(-1, width),
        scales=flat[0].astype(np.float32),
        sizes=flat[1].astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def is_one(norms: np.ndarray) -> Mask:
    """Which norms are those of L2-normalised vectors; NaN is not."""
    return np.asarray(np.abs(norms - 1) <= _NORM_TOLERANCE)


def check_item(item: EncodedItem, manifest: Manifest) -> None:
    """Refuse what could not be found again.

    Raises:
        ValueError: a shape, a number or a combination that cannot be stored; names the file.
    """
    name = encode_path(item.state.path)[0]
    vectors = item.vectors
    if vectors.ndim != 2 or vectors.shape[1] != manifest.dim or not len(vectors):
        raise ValueError(
            f"{name}: vectors must be (U, {manifest.dim}) with U of at least 1 in this library, "
            f"got {tuple(vectors.shape)}"
        )
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not is_one(norms).all():
        worst = int(np.argmax(np.where(np.isfinite(norms), np.abs(norms - 1), np.inf)))
        raise ValueError(
            f"{name}: vector {worst} has norm {norms[worst]:.4g}; vectors must be finite and "
            "L2-normalised"
        )
    if item.kind not in ("image", "video"):
        raise ValueError(f"{name}: kind must be 'image' or 'video', got {item.kind!r}")
    if (item.spans is None) != (item.kind == "image"):
        raise ValueError(f"{name}: a video needs spans and a picture has none")
    if item.spans is not None:
        _check_spans(name, item.spans, len(vectors))
    if (item.tokens is None) != (manifest.token_dim is None):
        has = "no tokens" if manifest.token_dim is None else f"{manifest.token_dim}-wide tokens"
        raise ValueError(f"{name}: this library stores {has} a unit and the item does not match")
    if item.tokens is not None:
        table = item.tokens
        shape = (len(table.tokens), manifest.token_dim)
        count = (shape[0],)
        whole = (
            table.tokens.shape == shape
            and table.tokens.dtype == np.int8
            and table.scales.shape == count
            and table.sizes.shape == count
            and table.offsets.shape == (len(vectors) + 1,)
            and table.offsets[0] == 0
            and table.offsets[-1] == shape[0]
            and bool(np.all(np.diff(table.offsets) >= 0))
            and bool(np.all(np.isfinite(table.scales)))
        )
        if not whole:
            raise ValueError(
                f"{name}: tokens must be (sum L, {manifest.token_dim}) int8 with finite scales and "
                f"sizes a token and {len(vectors) + 1} rising offsets that end at sum L"
            )


def _check_spans(name: str, spans: np.ndarray, count: int) -> None:
    if spans.shape != (count, 2):
        raise ValueError(f"{name}: spans must be ({count}, 2), got {tuple(spans.shape)}")
    starts, ends = spans[:, 0], spans[:, 1]
    ordered = np.all(ends >= starts) and np.all(starts[1:] >= starts[:-1])
    if not (bool(ordered) and bool(np.all(np.isfinite(spans)))):
        raise ValueError(f"{name}: spans must be finite [start, end) seconds in time order")

"""Files of ours that are no JSON: damaged by a disk, or written by a stranger."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from fuzzed import VALUES, as_json, edited, wrong_fields
from hypothesis import example, given
from hypothesis import strategies as st

from maxsight.errors import LibraryError, MaxsightError
from maxsight.index.files import checksum
from maxsight.index.files.checksum import Checksum
from maxsight.index.records import TokenTable
from maxsight.index.tables import table_rows, version_lists
from maxsight.index.tables.manifest import Manifest
from maxsight.index.writing import partial
from maxsight.index.writing.partial import Keeper, PartialFilm, Stretch
from maxsight.kernels import configs
from maxsight.library import known_encoders
from maxsight.models import model_folder
from maxsight.pipelines.ingestion.ignore_rules import FILE_NAME as IGNORE
from maxsight.pipelines.ingestion.ignore_rules import read_rules
from maxsight.pipelines.media.files import NotNow
from maxsight.pipelines.query.text_cache import TextCache


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


LINES = st.sampled_from(
    ["*.png", "!a", "/a/**/b", "**", "[a-", "[]-a]", "\\", "\\!x", "#", "/", "//", "a/", "!"]
    + ["[^\\]]", "***/", "?", "**/**/**", " ", "a\\ ", "[[:alpha:]]", "\u2028", "[z-a]"]
) | st.text(max_size=8)


@given(
    lines=st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))
    | st.binary(max_size=60),
    path=st.text(alphabet="ab./\u00e9 ", min_size=1, max_size=12),
)
def test_ignore_files(folder: Path, lines: bytes, path: str) -> None:
    (folder / IGNORE).write_bytes(lines)
    try:
        rules = read_rules(os.fspath(folder))
    except NotNow:
        assert b"\x00" in lines
        return
    for is_folder in False, True:
        assert rules.verdict(f"{folder}/{path}", is_folder=is_folder) in (None, False, True)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The list of a version as Lance writes it."""
    table = tmp_path_factory.mktemp("lance") / "items.lance"
    lance.write_dataset(pa.table({"a": [1, 2], "path": ["x", "y"]}), os.fspath(table))
    return next((table / "_versions").glob("*.manifest")).read_bytes()


@given(data=st.data())
def test_lists_of_versions(folder: Path, version: bytes, data: st.DataObject) -> None:
    content = bytearray(data.draw(edited(version) | st.binary(max_size=80)))
    if len(content) >= 16 and data.draw(st.booleans()):  # a footer that points anywhere
        begin = data.draw(st.integers(0, len(content)) | st.sampled_from([2**63, 2**64 - 1]))
        content[-16:] = struct.pack("<QHH4s", begin, 0, 1, b"LANC")
    versions = folder / "items.lance" / "_versions"
    versions.mkdir(parents=True, exist_ok=True)
    (versions / "1.manifest").write_bytes(content)
    try:
        version_lists.look(folder, "items.lance", versions / "1.manifest")
    except LibraryError as error:
        assert len(str(error)) < 2_000


LEDGER = b"".join(
    checksum.line(name, Checksum(3, "ab" * 16)) for name in ("items.lance/a", "units.lance/b/c")
)


@given(content=edited(LEDGER) | st.binary(max_size=80), forged=st.binary(max_size=20))
@example(content=b"", forged=b"items.lance/../x")
@example(content=b"", forged=b"items.lance/\n/x")
def test_ledgers(folder: Path, content: bytes, forged: bytes) -> None:
    """Damaged, or with a line of a stranger who knows how to write one."""
    line = checksum.line(os.fsdecode(forged), Checksum(2**70, "ff"))
    (folder / checksum.FILE_NAME).write_bytes(content + line)
    found = checksum.read(folder)
    # Of a line that is damaged further down it has none.
    assert checksum.lines_of(folder, found.files).items() <= found.files.items()
    for name, entry in found.files.items():
        inside = os.path.normpath(folder / name)
        assert inside.startswith(f"{folder}/")
        assert os.fsencode(inside) == os.fsencode(folder / name)
        assert entry.bytes >= 0


FILM = PartialFilm("ab" * 32, "fps=1", "f", 2, 2, "/film.mp4", 100)
TOKENS = TokenTable(
    tokens=np.ones((3, 2), np.int8),
    scales=np.ones(3, np.float32),
    sizes=np.ones(3, np.float32),
    offsets=np.array([0, 1, 3]),
)
KEPT = Stretch(np.array([[0.0, 1], [1, 2]]), np.eye(2, dtype=np.float32), TOKENS, "mark")


@given(data=st.data())
def test_films_that_are_not_done(folder: Path, data: st.DataObject) -> None:
    """Bytes changed; and records with right checksums that say anything."""
    shutil.rmtree(folder / partial.FOLDER, ignore_errors=True)
    keeper = Keeper(folder)
    keeper.append(FILM, KEPT)
    [place] = (folder / partial.FOLDER).iterdir()
    content = place.read_bytes()
    if data.draw(st.booleans()):
        header = wrong_fields(asdict(FILM)) if data.draw(st.booleans()) else st.just(asdict(FILM))
        second = wrong_fields({"units": 2, "tokens": 3, "mark": "m"}) | VALUES
        numbers = np.array(data.draw(st.lists(st.integers(-2, 5), min_size=3, max_size=3)), "<i8")
        body = KEPT.spans.tobytes() + KEPT.vectors.tobytes() + numbers.tobytes()
        body += bytes(6) + TOKENS.scales.tobytes() * 2 + data.draw(st.binary(max_size=2))
        content = record(data.draw(header), b"") + record(data.draw(second), body)
    place.write_bytes(data.draw(st.just(content) | edited(content)))
    for stretch in partial.load(folder, FILM):
        assert len(stretch.spans) == len(stretch.vectors)
        assert np.isfinite(stretch.vectors).all()
        if stretch.tokens is not None:
            assert stretch.tokens.offsets[-1] == len(stretch.tokens.tokens)
    partial.found(folder)
    for _, reason in partial.problems(folder):
        assert len(reason) < 1_000
    partial.clear(folder, [])
    keeper.append(FILM, KEPT)  # the next run goes on, or begins anew


def record(header: Any, body: bytes) -> bytes:
    text = as_json(header)
    return (
        struct.pack("<III", len(text), len(body), zlib.crc32(body, zlib.crc32(text))) + text + body
    )


def test_a_cache_whose_damage_is_quoted_as_no_text(tmp_path: Path) -> None:
    place = tmp_path / "texts.sqlite"
    cache = TextCache(place)
    cache.put("f", {"a bus": np.ones(4, np.float32)})
    cache.close()
    content = place.read_bytes()
    at = content.index(b"CREATE TABLE")
    place.write_bytes(content[:at] + b"CREATE \xce\x00" + content[at + 9 :])
    cache = TextCache(place)
    assert cache.get("f", ["a bus"]) == {}
    cache.close()


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("cache") / "texts.sqlite"
    cache = TextCache(file)
    cache.put("f", {"a bus": np.ones(4, np.float32), "a dog": np.zeros(4, np.float32)})
    cache.close()
    return file.read_bytes()


@given(data=st.data())
def test_caches_of_texts(folder: Path, cached: bytes, data: st.DataObject) -> None:
    """Damage finds nothing, or what was stored; the same cache then takes new texts, or none."""
    place = folder / "texts.sqlite"
    for beside in place, place.with_name("texts.sqlite-wal"), place.with_name("texts.sqlite-shm"):
        beside.unlink(missing_ok=True)
    place.write_bytes(data.draw(st.just(cached) | edited(cached)))
    if data.draw(st.booleans()):
        row = data.draw(st.binary(max_size=17) | st.integers() | st.none() | st.text(max_size=4))
        # UnicodeError: SQLite quotes bytes of a damaged file that are no text.
        with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeError):
            connection = sqlite3.connect(place)
            with contextlib.closing(connection), connection:
                connection.execute("UPDATE texts SET vector = ? WHERE text = 'a bus'", (row,))
    cache = TextCache(place)
    for vector in cache.get("f", ["a bus", "a dog", "\udce9"], dim=4).values():
        assert vector.shape == (4,)
        assert np.isfinite(vector).all()
    assert cache.newest("f", 5).ndim == 2
    cache.get_tokens("f", ["a bus"], width=3)
    cache.put("f", {"new": np.ones(4, np.float32)})
    cache.close()


MODEL = {
    "auto_map": {"AutoModel": "hub--m.C"},
    "modules": [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}],
    "activation_function": "torch.nn.modules.linear.Identity",
    "tokenizer_config": {"trust_remote_code": False, "tokenizer_class": "CLIPTokenizer"},
    "attn_implementation": "eager",
}
NAMES = ["config.json", "modules.json", "sentence_bert_config.json", "tokenizer_config.json"]


@given(name=st.sampled_from(NAMES), fields=wrong_fields(MODEL) | VALUES, data=st.data())
def test_folders_of_models(
    tmp_path_factory: pytest.TempPathFactory, name: str, fields: Any, data: st.DataObject
) -> None:
    place = tmp_path_factory.getbasetemp() / "model"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    (place / name).write_bytes(data.draw(st.just(as_json(fields)) | edited(as_json(fields))))
    with contextlib.suppress(MaxsightError):
        model_folder.inspect(place, encoder="e")
    with contextlib.suppress(MaxsightError):
        assert isinstance(model_folder.read(place / name, encoder="e"), dict)


TILES = {"forward": {"90": {"small": {"blocks": {"M": 64}, "warps": 4, "stages": 2}}}}


@given(fields=wrong_fields(TILES) | VALUES, data=st.data())
def test_tiles(folder: Path, fields: Any, data: st.DataObject) -> None:
    (folder / "tiles.json").write_bytes(
        data.draw(st.just(as_json(fields)) | edited(as_json(fields)))
    )
    with contextlib.suppress(MaxsightError):
        for rows in configs.read(folder / "tiles.json").values():
            for buckets in rows.values():
                assert all(set(row) == {"blocks", "warps", "stages"} for row in buckets.values())


@given(uri=st.text(max_size=12), content=st.data())
def test_remembered_encoders(
    tmp_path_factory: pytest.TempPathFactory, uri: str, content: st.DataObject
) -> None:
    """What stands in the state folder allows what was written there, and nothing else."""
    state = tmp_path_factory.getbasetemp() / "state"
    shutil.rmtree(state, ignore_errors=True)
    manifest = Manifest.new(encoder_uri=f"open_clip:{uri}", fingerprint="f", dim=4, token_dim=None)
    other = Manifest.new(encoder_uri=f"open_clip:{uri}x", fingerprint="f", dim=4, token_dim=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXSIGHT_STATE", os.fspath(state))
        try:
            known_encoders.remember(manifest)
            known_encoders.require_known(manifest, state)
        except MaxsightError:
            return
        with pytest.raises(MaxsightError):
            known_encoders.require_known(other, state)
        [file] = (state / "encoders").iterdir()
        written = file.read_bytes()
        found = content.draw(edited(written))
        file.write_bytes(found)
        if found != written:
            with pytest.raises(MaxsightError):
                known_encoders.require_known(manifest, state)


CELLS = st.none() | st.binary(max_size=9)
FLOATS = st.none() | st.lists(st.sampled_from([1.0, 0.0, 2.0]), max_size=4)


@given(rows=st.lists(st.tuples(CELLS, FLOATS, FLOATS), max_size=3), width=st.integers(1, 3))
def test_tokens_in_rows(rows: list[tuple[Any, Any, Any]], width: int) -> None:
    """Compiled code follows the lengths of these columns."""
    tokens, scales, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    given = pa.table(
        {
            "tokens": pa.array(tokens, pa.large_binary()),
            "token_scales": pa.array(scales, pa.list_(pa.float32())),
            "token_sizes": pa.array(sizes, pa.list_(pa.float32())),
        }
    )
    try:
        table = table_rows.token_table(given, width)
    except LibraryError:
        return
    assert table.offsets[-1] == len(table.tokens) == len(table.scales) == len(table.sizes)
    assert json.dumps(table.offsets.tolist()) == json.dumps(sorted(table.offsets.tolist()))

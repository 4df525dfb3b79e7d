"""Tables and arrays that people hand over: CSV of annotations and of queries, query vectors."""

import io
from pathlib import Path

import numpy as np
import pytest
from fuzzed import edited
from hypothesis import example, given
from hypothesis import strategies as st

from maxsight.cli.search import parse_terms
from maxsight.errors import MaxsightError
from maxsight.index.files.arrays import read_array, read_arrays
from maxsight.index.tables import annotations
from maxsight.pipelines.search.evaluate import read_queries

CELLS = st.sampled_from(
    ["path", "text", "group", "/a.jpg", "1", "007", "-0", "1e999", "9" * 30, "2024-02-30", "nan"]
    + [
        "2024-05-01 12:30",
        "",
        '"',
        "\x00",
        "\udce9".encode("utf-8", "surrogatepass").decode("latin-1"),
    ]
) | st.text(max_size=6)
TABLES = st.lists(st.lists(CELLS, max_size=4), max_size=5).map(
    lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")
)
SAMPLE = b'path,place,stars\n/a.jpg,Rome,5\n/b.jpg,"Bern, old",4\n'


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "given"


@given(content=TABLES | edited(SAMPLE) | st.binary(max_size=64))
def test_annotations(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        table = annotations.read_table(file)
    except MaxsightError:
        return
    assert "path" in table.column_names


@given(content=TABLES | edited(b"text,path\na bus,b.jpg\n") | st.binary(max_size=64))
def test_queries(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        queries = read_queries(file)
    except MaxsightError:
        return
    assert all(query.text and query.paths for query in queries)


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(6, dtype=np.float32))
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.arange(6, dtype=np.int8), b=np.zeros((2, 3)))
    return stream.getvalue()


def header(shape: list[int], kind: str = "<f4", order: str = "False") -> bytes:
    sides = ", ".join(map(str, shape))
    text = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({sides},), }}"
    padded = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A header that promises anything."""
    shape = draw(st.lists(st.sampled_from([0, 1, 6, -1, 2**31, 2**62, 2**70]), max_size=4))
    kind = draw(st.sampled_from(["<f4", "|O", "<U9", "|V4", "<f99", ">i8", "|i1", "<M8[s]"]))
    order = draw(st.sampled_from(["True", "False", "1", "[" * 300]))
    return header(shape, kind, order) + draw(st.binary(max_size=24))


@given(content=edited(npy()) | headers() | st.binary(max_size=64))
@example(header([0, 2**70]))
def test_query_vectors(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        parse_terms(text=None, image=None, vector=file)
    except MaxsightError as error:
        assert len(str(error)) < 4_000


@given(content=edited(npy()) | headers())
@example(header([0, 2**70]))
@example(header([0, 2**62, 2**62]))
def test_arrays(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for mapped in False, True:
        try:
            found = read_array(file, mapped=mapped)
        except MaxsightError:
            continue
        assert found.nbytes <= len(content)


@given(content=edited(npz()))
def test_archives(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        first, _ = read_arrays(file, "a", "b")
    except MaxsightError:
        return
    assert first.nbytes <= 1 << 20

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from token_tables import token_table

from maxsight.errors import LibraryError, SchemaTooNew, UsageError
from maxsight.index.late import manifest
from maxsight.index.late.late_index import LateIndex
from maxsight.index.late.manifest import LateManifest
from maxsight.kernels import native

TOPICS = token_table(documents=600, queries=40, dim=64)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LateIndex]:
    folder = tmp_path_factory.mktemp("late")
    return {
        codes: LateIndex.build(
            folder / codes, [TOPICS.part(0, 250), TOPICS.part(250, 600)], codes=codes
        )
        for codes in ("int8", "5bit", "4bit", "2bit")
    }


def recall(found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]) -> float:
    truth = np.argsort(-TOPICS.scores(), axis=1, kind="stable")[:, :10]
    return float(
        np.mean([len(set(rows) & set(best)) / 10 for (rows, _), best in zip(found, truth)])
    )


def test_all_candidates_are_brute_force(indexes: dict[str, LateIndex]) -> None:
    truth = TOPICS.scores()
    for query, (rows, scores) in enumerate(
        indexes["int8"].search(TOPICS.queries, 10, candidates=600)
    ):
        np.testing.assert_allclose(scores, truth[query, rows], atol=1e-4)
        assert (scores[:-1] >= scores[1:]).all()
        best = np.sort(truth[query])[::-1][:10]
        np.testing.assert_allclose(scores, best, atol=1e-4)


def test_more_bits_find_more(indexes: dict[str, LateIndex]) -> None:
    found = {
        codes: recall(index.search(TOPICS.queries, 10, candidates=600))
        for codes, index in indexes.items()
    }
    assert found["2bit"] < found["4bit"] < found["5bit"] < found["int8"]
    assert found["int8"] > 0.99
    assert found["5bit"] > 0.93
    sizes = {codes: index.bytes_by_part()["tokens.bin"] for codes, index in indexes.items()}
    total = len(TOPICS.table.tokens)
    assert sizes == {"int8": 64 * total, "5bit": 40 * total, "4bit": 32 * total, "2bit": 16 * total}


def test_the_candidates_measured_reach_the_recall(indexes: dict[str, LateIndex]) -> None:
    measured = indexes["int8"].manifest.calibration
    assert measured.shortlist < 600
    assert measured.recall >= 0.95
    assert measured.ceiling > 0.99
    assert not measured.given
    # On queries it was not measured with.
    assert recall(indexes["int8"].search(TOPICS.queries, 10)) > 0.92
    two = indexes["2bit"].manifest.calibration
    assert two.ceiling < 0.95  # no number of candidates makes up for what the codes lose
    assert two.recall == pytest.approx(two.ceiling, abs=0.03)


def test_given_queries_decide_and_a_higher_recall_takes_more(tmp_path: Path) -> None:
    half = LateIndex.build(tmp_path / "a", [TOPICS.table], recall=0.6, queries=TOPICS.queries)
    most = LateIndex.build(tmp_path / "b", [TOPICS.table], recall=0.99, queries=TOPICS.queries)
    assert half.manifest.calibration.given
    assert half.manifest.calibration.queries == 40
    assert half.manifest.calibration.shortlist < most.manifest.calibration.shortlist
    assert most.manifest.calibration.recall >= 0.99
    assert recall(most.search(TOPICS.queries, 10)) == pytest.approx(
        most.manifest.calibration.recall, abs=0.01
    )


@pytest.mark.parametrize("codes", ["int8", "5bit"])
def test_a_filter_is_never_broken(indexes: dict[str, LateIndex], codes: str) -> None:
    draw = np.random.default_rng(3)
    for share in (0.5, 0.05, 0.005, 0.0):
        allowed = draw.random((len(TOPICS.queries), 600)) < share
        found = indexes[codes].search(TOPICS.queries, 10, allowed=allowed)
        for own, (rows, _) in zip(allowed, found):
            assert own[rows].all()
            assert len(rows) == len(set(rows)) == min(10, own.sum())
        one = indexes[codes].search(TOPICS.queries, 10, allowed=allowed[0])
        assert all(allowed[0][rows].all() for rows, _ in one)


def test_a_narrow_filter_is_brute_force(indexes: dict[str, LateIndex]) -> None:
    allowed = np.random.default_rng(4).random(600) < 0.1
    truth = np.where(allowed, TOPICS.scores(), -np.inf)
    found = indexes["int8"].search(TOPICS.queries, 10, allowed=allowed)
    for own, (_, scores) in zip(truth, found):
        np.testing.assert_allclose(scores, np.sort(own)[::-1][:10], atol=1e-4)


def test_documents_and_queries_of_no_or_one_token(indexes: dict[str, LateIndex]) -> None:
    index = indexes["int8"]
    only = np.isin(np.arange(600), [3, 5])
    query = TOPICS.queries[0]
    ((rows, scores),) = index.search([query], 10, allowed=only)
    # One without tokens comes last, though the other may score below zero.
    assert rows.tolist() == [5, 3]
    one = (query @ TOPICS.tokens[5].T).sum()
    assert scores.tolist() == [pytest.approx(one, abs=1e-4), -np.inf]
    ((rows, scores),) = index.search([-query], 10, allowed=only)
    assert rows.tolist() == [5, 3]
    assert scores[0] < 0
    ((rows, scores),) = index.search([query[:0]], 2)
    assert len(rows) == 2
    assert (scores == 0).all()


def test_a_long_query_is_scored_by_all_its_tokens(indexes: dict[str, LateIndex]) -> None:
    long = np.concatenate(TOPICS.queries[:12])
    assert len(long) > 64
    truth = np.array(
        [(long @ own.T).max(axis=1).sum() if len(own) else -np.inf for own in TOPICS.tokens]
    )
    ((rows, scores),) = indexes["int8"].search([long], 10)
    np.testing.assert_allclose(scores, truth[rows], rtol=1e-5)
    assert len(set(rows) & set(np.argsort(-truth)[:10])) >= 8


def test_added_documents_are_found_and_readers_keep_theirs(tmp_path: Path) -> None:
    whole = LateIndex.build(tmp_path / "whole", [TOPICS.part(0, 400)], codes="5bit")
    reader = LateIndex.open(tmp_path / "whole")
    before = reader.search(TOPICS.queries, 10, candidates=400)
    grown = whole.add([TOPICS.part(400, 500), TOPICS.part(500, 600)])
    assert (len(whole), len(reader), len(grown)) == (400, 400, 600)
    assert (grown._tokens.book.levels == whole._tokens.book.levels).all()
    for (rows, _), (same, _) in zip(before, reader.search(TOPICS.queries, 10, candidates=400)):
        assert (rows == same).all()
    opened = LateIndex.open(tmp_path / "whole")
    found = opened.search(TOPICS.queries, 10, candidates=600)
    assert recall(found) > 0.9
    assert max(rows.max() for rows, _ in found) >= 400
    assert manifest.problems(opened.folder, opened.manifest) == []


def test_what_a_dead_writer_left_behind_does_not_count(tmp_path: Path) -> None:
    index = LateIndex.build(tmp_path / "late", [TOPICS.part(0, 100)])
    for name in index.manifest.extents:
        with (tmp_path / "late" / name).open("ab") as stream:
            stream.write(b"unfinished")
    opened = LateIndex.open(tmp_path / "late")
    assert len(opened) == 100
    assert manifest.problems(opened.folder, opened.manifest) == []
    grown = opened.add([TOPICS.part(100, 120)])
    truth = TOPICS.scores()[:, :120]
    for own, (_, scores) in zip(truth, grown.search(TOPICS.queries, 10, candidates=120)):
        np.testing.assert_allclose(scores, np.sort(own)[::-1][:10], atol=1e-4)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_muvera_proposes(tmp_path: Path) -> None:
    index = LateIndex.build(tmp_path / "late", [TOPICS.part(0, 500)], encodings="Flat")
    measured = index.manifest.calibration
    assert 0 < measured.shortlist <= measured.proposed <= 500
    for left in (".encodings-1.partial", "encodings-1", "encodings-7"):  # by writers that died
        (tmp_path / "late" / left).mkdir()
    grown = index.add([TOPICS.part(500, 600)])
    assert [path.name for path in (tmp_path / "late").glob("*encodings*")] == ["encodings-1"]
    found = LateIndex.open(tmp_path / "late").search(TOPICS.queries, 10)
    assert recall(found) > 0.85
    allowed = np.random.default_rng(1).random((40, 600)) < 0.1
    for own, (rows, _) in zip(allowed, grown.search(TOPICS.queries, 10, allowed=allowed)):
        assert own[rows].all()
        assert len(rows) == 10


@pytest.mark.usefixtures("one_thread")
def test_a_reader_between_two_states_takes_the_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read ``late.json``, and then a writer takes away the encodings that this names."""
    folder = tmp_path / "late"
    index = LateIndex.build(folder, [TOPICS.part(0, 80)], encodings="Flat")
    old = index.manifest
    index.add([TOPICS.part(80, 120)])
    with pytest.raises(LibraryError):
        LateIndex(folder, old)
    records = iter([old])
    read = LateManifest.read
    monkeypatch.setattr(
        LateManifest, "read", staticmethod(lambda folder: next(records, None) or read(folder))
    )
    assert len(LateIndex.open(folder)) == 120
    assert manifest.problems(folder, LateManifest.read(folder)) == []
    shutil.rmtree(folder / "encodings-1")
    with pytest.raises(LibraryError, match="encodings-1"):
        LateIndex.open(folder)
    with pytest.raises(LibraryError, match="encodings-1"):
        manifest.problems(folder, LateManifest.read(folder))


def test_documents_keep_their_owners_numbers(tmp_path: Path) -> None:
    labels = np.arange(120) * 7
    index = LateIndex.build(
        tmp_path / "late", [TOPICS.part(0, 80)], labels=labels[:80], details={"owner": "me"}
    )
    reader = LateIndex.open(tmp_path / "late")
    with pytest.raises(ValueError, match=r"labels must be \(40,\), got \(3,\)"):
        index.add([TOPICS.part(80, 120)], labels=labels[:3])
    with pytest.raises(ValueError, match="have labels"):
        index.add([TOPICS.part(80, 120)])
    index.add([TOPICS.part(80, 120)], labels=labels[80:])
    opened = LateIndex.open(tmp_path / "late")
    assert opened.labels is not None
    assert reader.labels is not None
    np.testing.assert_array_equal(opened.labels, labels)
    np.testing.assert_array_equal(reader.labels, labels[:80])
    assert opened.manifest.details == {"owner": "me"}
    unlabelled = LateIndex.build(tmp_path / "none", [TOPICS.part(0, 80)])
    assert unlabelled.labels is None
    with pytest.raises(ValueError, match="have no labels"):
        unlabelled.add([TOPICS.part(80, 120)], labels=labels[80:])


def test_no_documents_at_all(tmp_path: Path) -> None:
    index = LateIndex.build(tmp_path / "late", [TOPICS.part(0, 0)])
    assert len(index) == 0
    assert [len(rows) for rows, _ in index.search(TOPICS.queries[:2], 3)] == [0, 0]
    assert index.search([], 3) == []
    with pytest.raises(UsageError, match="no table"):
        LateIndex.build(tmp_path / "none", [])
    grown = index.add([TOPICS.part(0, 20)])
    assert [len(rows) for rows, _ in grown.search(TOPICS.queries[:2], 3)] == [3, 3]


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    other = token_table(documents=10, queries=1, dim=32).table
    with pytest.raises(UsageError, match="64 dimensions and then 32"):
        LateIndex.build(tmp_path / "late", [TOPICS.part(0, 10), other])
    assert list(tmp_path.iterdir()) == []
    index = LateIndex.build(tmp_path / "late", [TOPICS.part(0, 10)])
    with pytest.raises(LibraryError, match="is there already"):
        LateIndex.build(tmp_path / "late", [TOPICS.part(0, 10)])
    with pytest.raises(UsageError, match="must have 64 dimensions, got 32"):
        index.add([other])
    opened = LateIndex.open(tmp_path / "late")
    assert len(opened) == 10
    assert manifest.problems(opened.folder, opened.manifest) == []


@pytest.mark.parametrize(
    "name", ["tokens.bin", "ids.bin", "lengths.bin", "codebook.npz", "late.json"]
)
def test_a_file_that_is_cut_or_gone_is_named(tmp_path: Path, name: str) -> None:
    LateIndex.build(tmp_path / "late", [TOPICS.part(0, 50)], codes="4bit")
    file = tmp_path / "late" / name
    content = file.read_bytes()
    file.write_bytes(content[:-40])
    with pytest.raises(LibraryError, match=name.replace(".", r"\.")):
        LateIndex.open(tmp_path / "late")
    file.unlink()
    with pytest.raises(LibraryError, match=name.replace(".", r"\.")):
        LateIndex.open(tmp_path / "late")


def flip(file: Path, place: int = 17) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 0x01
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["ids.bin", "lengths.bin", "labels.bin", "codebook.npz"])
def test_opening_finds_a_flipped_byte_in_what_it_reads(tmp_path: Path, name: str) -> None:
    labels = np.arange(50) * 3
    LateIndex.build(tmp_path / "late", [TOPICS.part(0, 50)], codes="4bit", labels=labels)
    flip(tmp_path / "late" / name, -1000 if name == "codebook.npz" else 17)
    with pytest.raises(LibraryError, match=name.replace(".", r"\.")):
        LateIndex.open(tmp_path / "late")


def test_the_codebook_of_another_index_is_refused(tmp_path: Path) -> None:
    """It has fewer centroids than the tokens name."""
    for name, centroids in (("late", 20), ("other", 2)):
        LateIndex.build(tmp_path / name, [TOPICS.part(0, 50)], codes="4bit", centroids=centroids)
    shutil.copy(tmp_path / "other" / "codebook.npz", tmp_path / "late" / "codebook.npz")
    with pytest.raises(LibraryError, match=r"codebook\.npz is not what was written"):
        LateIndex.open(tmp_path / "late")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    index = LateIndex.build(tmp_path / "late", [TOPICS.part(0, 50)], codes="4bit", centroids=20)
    for name in ("tokens.bin", "ids.bin"):
        flip(tmp_path / "late" / name)
    found = manifest.problems(index.folder, index.manifest)
    assert {problem.split("/")[-1] for problem in found} == {
        "ids.bin is not what was written",
        "tokens.bin is not what was written",
    }


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    LateIndex.build(tmp_path / "late", [TOPICS.part(0, 10)])
    file = tmp_path / "late" / "late.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema": 2}))
    with pytest.raises(SchemaTooNew, match="schema 2"):
        LateIndex.open(tmp_path / "late")


def test_what_cannot_be_asked(indexes: dict[str, LateIndex]) -> None:
    index, query = indexes["int8"], TOPICS.queries[0]
    for queries, k, allowed, message in (
        ([query[:, :10]], 1, None, r"\(L, 64\)"),
        ([query], 0, None, "at least 1"),
        ([query * np.nan], 1, None, "finite"),
        ([query], 1, np.ones(9, bool), r"\(600,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            index.search(queries, k, allowed=allowed)


def test_without_compiled_code_the_answer_is_the_same(
    indexes: dict[str, LateIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = indexes["5bit"].search(TOPICS.queries[:3], 10, candidates=80)
    monkeypatch.setattr(native, "is_compiled", lambda: False)
    for (rows, scores), (same, close) in zip(
        compiled, indexes["5bit"].search(TOPICS.queries[:3], 10, candidates=80)
    ):
        assert len(set(rows) & set(same)) >= 9
        np.testing.assert_allclose(scores[0], close[0], rtol=1e-5)


_GROWTH = """
import sys
from pathlib import Path
import numpy as np
from maxsight.index.late.late_index import LateIndex
from maxsight.kernels.maxsim import arrays
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
index = LateIndex.open(Path(sys.argv[1]))
draw = np.random.default_rng(0)
queries = [draw.standard_normal((8, 64)).astype(np.float32) for _ in range(80)]
index.search(queries[:1], 10, candidates=50)
before = resident()
for query in queries:
    index.search([query], 10, candidates=50)
print(resident() - before, "torch" in sys.modules)
"""


def test_searching_keeps_little_of_the_file_resident_and_needs_no_torch(tmp_path: Path) -> None:
    many = TOPICS.table
    index = LateIndex.build(tmp_path / "late", [many])
    index = index.add([many] * 40)
    size = index.bytes_by_part()["tokens.bin"]
    assert size > 24 * 2**20
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH, tmp_path / "late"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MAXSIGHT_MEMORY": str(4 * 2**20)},
    )
    growth, torch = done.stdout.split()
    assert torch == "False"
    # What Linux maps around the pages of one search, and the centroids of all tokens.
    assert int(growth) < size / 2


@pytest.mark.parametrize("codes", ["5bit", "int8"])
def test_files_do_not_depend_on_the_number_of_threads(tmp_path: Path, codes: str) -> None:
    program = (
        "import sys; from pathlib import Path; from token_tables import token_table;"
        "from maxsight.index.late.late_index import LateIndex;"
        "table = token_table(documents=120, queries=1, dim=64);"
        "LateIndex.build(Path(sys.argv[1]), [table.part(0, 120)], codes=sys.argv[2])"
    )
    files = []
    for threads in "1", "2":
        names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"
        environment = os.environ | dict.fromkeys(names, threads)
        environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "support" / "index")
        folder = tmp_path / threads
        subprocess.run(
            [sys.executable, "-c", program, os.fspath(folder), codes], env=environment, check=True
        )
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]

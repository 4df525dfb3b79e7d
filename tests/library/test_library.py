"""The face: what ``maxsight.open`` gives, with the built-in encoder and a few real pictures."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from decoders import child_processes

import maxsight
from maxsight.errors import BudgetError, EncoderMismatch, LibraryNotFound, UsageError

PICTURES = Path(maxsight.__file__).parent / "demo" / "pictures"
NAMES = ("coffee.jpg", "bus.webp", "red-apple.webp", "green-apple.webp", "chelsea.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "pictures").mkdir()
    for name in NAMES:
        shutil.copy(PICTURES / name, folder / "pictures")
    with maxsight.open(folder / "l.maxsight") as library:
        report = library.add([folder / "pictures"], tokens=True)
    assert (report.added, report.failed) == (5, 0)
    return folder


@pytest.fixture
def library(folder: Path) -> maxsight.Library:
    return maxsight.open(folder / "l.maxsight")


def names(hits: list[maxsight.Hit]) -> list[str]:
    return [Path(hit.path).name for hit in hits]


def test_text_picture_and_change(folder: Path, library: maxsight.Library) -> None:
    with library:
        assert names(library.search("a cup of coffee", k=1)) == ["coffee.jpg"]
        red = folder / "pictures" / "red-apple.webp"
        assert names(library.search(image=red, k=1)) == ["green-apple.webp"]
        assert names(library.search("green", image=red, k=1)) == ["green-apple.webp"]
        unlike = library.search("an apple", minus="green", k=2)
        assert names(unlike)[0] == "red-apple.webp"


def test_a_new_index_is_measured_once(folder: Path, tmp_path: Path) -> None:
    """The exact search of all queries, by which it is measured, is most of the time that takes."""
    own = shutil.copytree(folder / "l.maxsight", tmp_path / "own.maxsight")
    seen = []
    with maxsight.open(own) as library:
        report = library.tune_index(
            index="SQ8", progress=lambda now: seen.append((now.stage, now.done))
        )
    assert (report.index, report.action) == ("SQ8", "built")
    assert seen.count(("truth", 0)) == 1


def test_a_picture_outside_the_library(tmp_path: Path, library: maxsight.Library) -> None:
    from PIL import Image

    with Image.open(PICTURES / "coffee.jpg") as picture:
        picture.rotate(3, fillcolor="white").save(tmp_path / "turned.png")
    with library:
        before = child_processes()
        library.search(image=PICTURES / "coffee.jpg", k=1)
        assert child_processes() == before  # its vector is there
        found = library.search(image=tmp_path / "turned.png", k=5)
        (decoder,) = child_processes() - before
        again = library.search("at night", image=tmp_path / "turned.png", k=5)
        assert child_processes() - before == {decoder}
    assert child_processes() == before
    assert names(found)[0] == "coffee.jpg"
    assert len(found) == len(again) == 5


def test_it_can_be_used_again_after_close(library: maxsight.Library) -> None:
    first = library.search("a bus", k=3)
    library.close()
    assert library.search("a bus", k=3) == first
    library.close()


def test_tokens_are_stored_when_asked_for(library: maxsight.Library) -> None:
    from maxsight.index.store import Store

    with library:
        assert library.info().token_dim == library.encoder.token_dim
    with Store.open(library.path) as store:
        table = store.snapshot().tokens.of_units([0, 1])
    assert table.tokens.shape == (2 * 49, library.encoder.token_dim)


def test_fewer_tokens_are_kept_for_good(folder: Path, tmp_path: Path) -> None:
    from maxsight.index.store import Store

    path = tmp_path / "l.maxsight"
    with maxsight.open(path) as library:
        library.add([folder / "pictures" / "bus.webp"], token_limit=5)
        library.add([folder / "pictures"])  # goes on as it began
        assert library.info().token_limit == 5
        for tokens, limit in ((False, None), (None, 6)):
            with pytest.raises(UsageError, match="at most 5 tokens of a picture"):
                library.add([folder / "pictures"], tokens=tokens, token_limit=limit)
        assert library.add([folder / "pictures"], tokens=True, token_limit=5).unchanged == 5
    with Store.open(path) as store:
        table = store.snapshot().tokens.held
    assert np.diff(table.offsets).tolist() == [5] * 5
    assert table.sizes.reshape(5, 5).sum(1).tolist() == [49] * 5
    norms = np.linalg.norm(table.tokens * table.scales[:, None], axis=1)
    np.testing.assert_allclose(norms, 1, atol=0.01)


def test_tokens_asked_of_a_library_without(folder: Path, tmp_path: Path) -> None:
    with maxsight.open(tmp_path / "l.maxsight") as library:
        library.add([folder / "pictures" / "bus.webp"])
        with pytest.raises(UsageError, match="no tokens"):
            library.add([folder / "pictures"], token_limit=16)
        with pytest.raises(UsageError, match="at least 1"):
            library.add([folder / "pictures"], token_limit=0)
        with pytest.raises(UsageError, match="--tokens"):
            library.search("a bus", rerank="on")
        assert library.search("a bus") == library.search("a bus", rerank="off")


def test_two_things_in_one_picture(tmp_path: Path) -> None:
    """A picture of each two of four things: asked for two, search by tokens finds the one."""
    from PIL import Image

    things = {
        "a cup of coffee": "coffee.jpg",
        "a cat": "chelsea.jpg",
        "a bus": "bus.webp",
        "an apple": "red-apple.webp",
    }
    (tmp_path / "pairs").mkdir()
    pairs = list(itertools.combinations(things, 2))
    for first, second in pairs:
        both = Image.new("RGB", (448, 448), "white")
        for place, name in enumerate((first, second)):
            with Image.open(PICTURES / things[name]) as picture:
                part = picture.convert("RGB").resize((224, 224))
            both.paste(part, (224 * place, 112))
        both.save(tmp_path / "pairs" / f"{things[first]} {things[second]}.png")
    with maxsight.open(tmp_path / "l.maxsight") as library:
        library.add([tmp_path / "pairs"], token_limit=16)
        right = {"auto": 0, "off": 0}
        for first, second in pairs:
            expected = f"{things[first]} {things[second]}.png"
            for rerank in right:
                found = library.search(f"{first} and {second}", k=1, rerank=rerank)  # type: ignore[arg-type]
                right[rerank] += names(found) == [expected]
    assert right["auto"] >= max(5, right["off"])


def test_a_cached_text_is_found_without_torch(folder: Path, library: maxsight.Library) -> None:
    """Loading torch takes longer than a search: only scoring by tokens is worth it."""
    library.search("a bus")
    library.close()
    program = (
        "import sys, maxsight; library = maxsight.open(sys.argv[1]);"
        "found = [library.search('a bus', k=1, rerank='off')[0].path, 'torch' in sys.modules];"
        "found += [library.search('a bus', k=1)[0].path, 'torch' in sys.modules];"
        "print(*found, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "l.maxsight")],
        capture_output=True,
        text=True,
        check=True,
    )
    first, without, second, with_tokens = done.stdout.split("\n")[:4]
    assert (without, with_tokens) == ("False", "True")
    assert Path(first).name == Path(second).name == "bus.webp"


def test_what_one_library_adds_another_sees(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "l.maxsight"
    with maxsight.open(path) as writer, maxsight.open(path) as reader:
        writer.add([folder / "pictures" / "bus.webp"])
        assert names(reader.search("a bus")) == ["bus.webp"]
        writer.add([folder / "pictures" / "coffee.jpg"])
        assert set(names(reader.search("a bus"))) == {"bus.webp", "coffee.jpg"}
        assert writer.remove([folder / "pictures"]) == 2
        assert reader.search("a bus") == []
        assert reader.info().images == 0


def test_an_index_that_there_is_not_is_refused_before_the_work(
    folder: Path, tmp_path: Path
) -> None:
    with maxsight.open(tmp_path / "new.maxsight") as library:
        with pytest.raises(UsageError, match="nonsense"):
            library.add([folder / "pictures"], index="nonsense")
        assert not library.exists()
        library.add([folder / "pictures" / "bus.webp"], index="exact")
        with pytest.raises(UsageError, match="leanvec:D/SPEC"):
            library.add([folder / "pictures"], index="leanvec:100000/SQ8")
        assert library.info().images == 1


def test_the_report_says_what_became_of_the_index(folder: Path, tmp_path: Path) -> None:
    with maxsight.open(tmp_path / "new.maxsight", device="cpu") as library:
        made = library.add([folder / "pictures"], index="SQ8").index
        assert made is not None
        assert (made.index, made.action, made.device, made.rows) == ("SQ8", "built", "cpu", 5)
        again = library.add([folder / "pictures"]).index
        assert again is not None
        assert (again.index, again.action) == ("SQ8", "kept")


def test_the_device_is_handed_to_what_makes_the_index(folder: Path, tmp_path: Path) -> None:
    """Nothing is encoded here, so it is not the encoder that refuses."""
    own = shutil.copytree(folder / "l.maxsight", tmp_path / "own.maxsight")
    with maxsight.open(own, device="tpu") as library:
        with pytest.raises(UsageError, match="device='tpu' must be"):
            library.tune_index(index="auto")
        with pytest.raises(UsageError, match="device='tpu' must be"):
            library.add([folder / "pictures"], index="auto")


def test_no_memory_for_an_index_is_a_warning_unless_it_was_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXSIGHT_MEMORY", "1MB")
    with maxsight.open(tmp_path / "new.maxsight") as library:
        report = library.add([folder / "pictures"])
        assert report.added == 5
        (warning,) = report.warnings
        assert warning.startswith("no index was made: ")
        assert "MAXSIGHT_MEMORY" in warning
        with pytest.raises(BudgetError, match="MAXSIGHT_MEMORY"):
            library.add([folder / "pictures"], index="SQ8")


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    with maxsight.open(tmp_path / "none.maxsight") as library:
        with pytest.raises(LibraryNotFound, match="maxsight index"):
            library.search("a bus")
        with pytest.raises(LibraryNotFound):
            library.remove([tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_another_encoder_is_refused(folder: Path) -> None:
    with pytest.raises(EncoderMismatch, match="builtin"):
        maxsight.open(folder / "l.maxsight", encoder="open_clip:ViT-B-32/openai")


def test_an_empty_query(library: maxsight.Library) -> None:
    with library, pytest.raises(UsageError, match="empty query"):
        library.search()


def test_phrases_are_averaged(folder: Path, library: maxsight.Library) -> None:
    phrases = folder / "phrases.json"
    phrases.write_text('{"breakfast": ["a cup of coffee", "a red apple"]}')
    with library:
        single = [
            library.encoder.encode_text([text]).vectors
            for text in ("a cup of coffee", "a red apple")
        ]
        mean = (single[0] + single[1])[0].numpy()
        by_vector = library.search(vector=mean, k=5)
        by_phrases = library.search("Breakfast", phrases=phrases, rerank="off", k=5)
        plain = library.search("Breakfast", rerank="off", k=5)
    assert names(by_phrases) == names(by_vector)
    assert [hit.score for hit in by_phrases] == pytest.approx(
        [hit.score for hit in by_vector], abs=1e-5
    )
    assert [hit.score for hit in by_phrases] != pytest.approx(
        [hit.score for hit in plain], abs=1e-2
    )


def test_queries_of_known_answers(folder: Path, library: maxsight.Library) -> None:
    table = folder / "queries.csv"
    table.write_text(
        "text,path,group\na cup of coffee,pictures/coffee.jpg,c\n"
        "a green apple,pictures/coffee.jpg,c\na bus,pictures/bus.webp,b\n"
    )
    with library:
        found = library.evaluate(table, rerank="off")
        ranked = names(library.search("a green apple", rerank="off", k=5))
    wrong = ranked.index("coffee.jpg") + 1
    assert [query.rank for query in found.ranks] == [1, wrong, 1]
    assert wrong > 1
    assert found.success[1] == found.recall_at[1] == pytest.approx(2 / 3)
    assert found.mrv == pytest.approx(((wrong - 1) / 2) ** 2)
    table.write_text("text,path\nanything,pictures/nowhere.jpg\n")
    with library, pytest.raises(UsageError, match="no right answer in the library"):
        library.evaluate(table)

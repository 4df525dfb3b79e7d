"""A library's index made by a GPU, or by the processor where the GPU does not do it. The
processor stands for the GPU (tests/support/index/device_checks.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from device_checks import Elsewhere

from maxsight.errors import UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import saved
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.building import vector_index
from maxsight.index.records import Changes
from maxsight.index.store import Store

Create = Callable[..., Store]
ROWS = 400


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    """Sums of several cores differ from run to run in their last bits."""
    faiss = faiss_build.load()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.fixture
def store(create: Create, samples: Any) -> Store:
    made = create()
    made.apply(Changes(added=[samples.item(f"/{n}", str(n)) for n in range(ROWS)]))
    return made


def served(store: Store) -> Any:
    """The index that a process on a machine without a GPU loads."""
    with Store.open(store.path) as reader:
        built = reader.snapshot().state.built
    assert built is not None
    assert saved.problems(built.folder) == []
    index, _ = saved.load(built.folder, device="cpu")
    assert isinstance(index.innermost, FaissIndex)
    return index


@pytest.mark.parametrize(
    ("spec", "does"),
    [
        ("IVF4,Flat", {"take", "train", "add", "give"}),
        ("leanvec:16/IVF4,SQ8+int8", {"take", "train", "add", "give"}),
        ("leanvec:16/IVF4,PQ8x4fsr+int8", {"flat"}),
        ("CAGRA8+int8", set()),  # of so few rows the processor makes it
        ("HNSW8", set()),
    ],
)
def test_the_card_makes_what_it_can(store: Store, samples: Any, spec: str, does: set[str]) -> None:
    gpu = Elsewhere()
    texts = samples.unit_vectors(50, seed=9)
    report = vector_index.build(store.snapshot(), spec, texts=lambda: texts, device=gpu)
    assert report.action == "built"
    assert report.device == ("elsewhere" if does else "cpu")
    # The measuring is the processor's.
    assert set(gpu.done) == does
    assert len(served(store)) == ROWS
    with Store.open(store.path) as reader:
        (hits,) = reader.snapshot().search(samples.item("", "77").vectors, 1)
        assert [hit.path for hit in hits] == ["/77"]


def test_the_same_index_whoever_makes_it(store: Store) -> None:
    """Training is FAISS's own on either side; the stand-in computes as the processor does."""
    contents = []
    for device in ("cpu", Elsewhere()):
        vector_index.build(store.snapshot(), "IVF4,SQ8", device=device)
        with Store.open(store.path) as reader:
            built = reader.snapshot().state.built
            assert built is not None
            contents.append((built.folder / "faiss.index").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("step", ["take", "train", "add", "give"])
def test_where_the_card_refuses_the_processor_makes_it(
    store: Store, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    report = vector_index.build(store.snapshot(), "IVF4,Flat", device=Elsewhere(step))
    assert (report.action, report.device) == ("built", "cpu")
    assert caplog.messages == [
        f"IVF4,Flat is made on the processor: elsewhere refuses IVF4,Flat: no {step} here"
    ]
    assert len(served(store)) == ROWS


def test_a_card_without_room_is_left_alone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    gpu = Elsewhere(room=1000)
    report = vector_index.build(store.snapshot(), "IVF4,Flat", device=gpu)
    assert (report.action, report.device, gpu.done) == ("built", "cpu", [])
    assert "where 0 are free" in caplog.text


def test_asked_for_the_processor_no_card_is_used(store: Store) -> None:
    assert vector_index.build(store.snapshot(), "IVF4,Flat", device="cpu").device == "cpu"


def test_extending_and_tuning_are_the_processors(store: Store, samples: Any) -> None:
    gpu = Elsewhere()
    vector_index.bring_up_to_date(store.snapshot(), "IVF4,Flat", device=gpu)
    gpu.done.clear()
    store.apply(Changes(added=[samples.item(f"/n{n}", f"n{n}") for n in range(60)]))
    assert vector_index.bring_up_to_date(store.snapshot(), device=gpu).action == "extended"
    assert vector_index.tune(store.snapshot()).action == "tuned"
    assert gpu.done == []
    assert len(served(store)) == ROWS + 60


def test_too_few_rows_are_the_users_fault_on_a_gpu_too(store: Store) -> None:
    with pytest.raises(UsageError, match="cannot be trained on 400 rows"):
        vector_index.build(store.snapshot(), "IVF512,Flat", device=Elsewhere())

"""An index that a GPU makes and searches. Without a GPU the processor stands for the GPU: what is
on which side, and when, is the same. tests/gpu/test_gpu_indexes.py does it on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clustered import recall
from device_checks import DIM, QUERIES, SPECS, STORED, Elsewhere, check_made_and_loaded, on

from maxsight.errors import BackendError, UsageError
from maxsight.index import faiss_build
from maxsight.index.ann import auto, devices, saved
from maxsight.index.ann.contract import Effort, VectorIndex
from maxsight.index.ann.devices import Cuda, Device, Form
from maxsight.index.ann.faiss_index import FILE, FaissIndex
from maxsight.index.ann.gpu_index import GpuIndex
from maxsight.index.exact.gpu import WARM_UP_QUERIES

faiss = faiss_build.load()


@pytest.fixture(scope="module", autouse=True)
def _one_core() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.mark.parametrize("spec", SPECS)
def test_made_there_and_loaded_here_and_back(spec: str, tmp_path: Path) -> None:
    gpu = Elsewhere()
    check_made_and_loaded(spec, tmp_path, gpu)
    assert {"take", "train", "give", "search"} <= set(gpu.done)


@pytest.mark.parametrize("spec", ["IVF16,PQ8x4fsr", "IVF16,RaBitQ", "PCAR24,IVF16,PQ8x4fs"])
def test_lists_learned_there_are_those_learned_here(spec: str, tmp_path: Path) -> None:
    gpu = Elsewhere()
    there, here = on(gpu, spec), FaissIndex(spec, DIM)
    both: dict[str, VectorIndex] = {"there": there, "here": here}
    for name, index in both.items():
        index.train(STORED[:2000].astype(np.float32))
        index.add(STORED[:2000])
        (tmp_path / name).mkdir()
        index.save(tmp_path / name)
    assert gpu.done == ["flat"]
    assert (tmp_path / "there" / FILE).read_bytes() == (tmp_path / "here" / FILE).read_bytes()
    # Such an index is never searched there.
    there.load(tmp_path / "here")
    there.search(np.repeat(QUERIES, WARM_UP_QUERIES, axis=0), 5)
    assert gpu.done == ["flat"]


@pytest.mark.parametrize(
    ("spec", "form"),
    [
        ("Flat", Form.WHOLE),
        ("IVF16,Flat", Form.WHOLE),
        ("IVF16,SQ8", Form.WHOLE),
        ("IVF16,PQ8np", Form.WHOLE),
        ("OPQ8,IVF16,PQ8np", Form.WHOLE),
        ("CAGRA16", Form.GRAPH),
        ("IVF16,PQ8x4np", Form.LISTS),
        ("IVF16,PQ8x4fs", Form.LISTS),
        ("IVF16,RaBitQ", Form.LISTS),
        ("IVF256_HNSW32,Flat", None),
        ("HNSW16,SQ8", None),
        ("PQ8x4fs", None),
        # They would come back as another class than a processor makes and loads.
        ("SQfp16", None),
        ("exact", None),
    ],
)
def test_what_a_card_can_take_over(spec: str, form: Form | None) -> None:
    index = auto.make(spec, DIM, device=Elsewhere())
    assert isinstance(index, FaissIndex if form is None else GpuIndex)
    if isinstance(index, FaissIndex):
        assert devices.form_of(index.index) is None
        with pytest.raises(UsageError, match="is none of these"):
            GpuIndex(index, Elsewhere())
    else:
        assert index.form is form


def loaded(spec: str, folder: Path) -> tuple[FaissIndex, Elsewhere, GpuIndex]:
    """An index of 1,000 rows that was saved here, a GPU, and what was loaded beside that."""
    here = FaissIndex(spec, DIM)
    here.train(STORED[:1000].astype(np.float32))
    here.add(STORED[:1000])
    here.save(folder)
    gpu = Elsewhere()
    index = on(gpu, spec)
    index.load(folder)
    return here, gpu, index


@pytest.mark.parametrize("spec", ["Flat", "IVF16,SQ8", "CAGRA16"])
def test_a_loaded_index_goes_to_the_card_when_it_was_asked_often(spec: str, tmp_path: Path) -> None:
    here, gpu, index = loaded(spec, tmp_path)
    few = QUERIES[: WARM_UP_QUERIES // 16]
    half = np.arange(1000) % 2 == 0
    for _ in range(15):
        index.search(few, 5)
        index.search(np.repeat(QUERIES, 9, axis=0), 5, allowed=half)  # does not count
    assert gpu.done == []
    _, rows = index.search(few, 5)
    assert gpu.done == ["take", "search"]
    np.testing.assert_array_equal(rows, here.search(few, 5, effort=index.effort)[1])
    index.search(few, 5, allowed=half)
    index.search(few, 3000)
    assert gpu.done == ["take", "search"]
    index.search(few, 5)
    assert gpu.done == ["take", "search", "search"]
    # What is added is found, on the processor first and then on a new copy.
    index.add(STORED[1000:1001])
    _, rows = index.search(STORED[1000:1001].astype(np.float32), 1, effort=Effort(16, 1))
    assert rows.item() == 1000
    assert gpu.done[-2:] == ["take", "search"]


@pytest.mark.parametrize("spec", ["Flat", "IVF16,SQ8", "CAGRA16"])
def test_where_some_rows_are_gone_the_card_goes_on(spec: str, tmp_path: Path) -> None:
    _, gpu, index = loaded(spec, tmp_path)
    index.search(np.repeat(QUERIES, WARM_UP_QUERIES, axis=0), 5)
    hard = Effort(256, 10)
    there = np.random.default_rng(0).random(1000) > 0.05
    gpu.done.clear()
    scores, rows = index.search(QUERIES, 10, allowed=there, effort=hard)
    assert gpu.done == ["search"]
    assert there[rows].all()
    assert (np.diff(scores) <= 0).all()
    assert recall(rows, QUERIES, STORED[:1000], there) > 0.95
    # All that is near to a query may be gone: then the GPU has not enough.
    nearest = np.argsort(-(STORED[:1000].astype(np.float32) @ QUERIES[0]))
    there[:] = True
    there[nearest[:60]] = False
    _, rows = index.search(QUERIES, 10, allowed=there, effort=hard)
    assert there[rows].all()
    assert recall(rows, QUERIES, STORED[:1000], there) > 0.95
    nothing = np.zeros(1000, np.bool_)
    assert (index.search(QUERIES, 10, allowed=nothing)[1] == -1).all()


def test_efforts_that_no_card_can_are_the_processors(tmp_path: Path) -> None:
    here = FaissIndex("CAGRA16", DIM)
    here.add(STORED[:1000])
    here.save(tmp_path)
    gpu = Elsewhere()
    index = on(gpu, "CAGRA16")
    index.load(tmp_path)
    many = np.repeat(QUERIES, WARM_UP_QUERIES, axis=0)
    index.search(many, 5, effort=Effort(513, 5))
    index.search(many, 513, effort=Effort(16, 5))
    assert gpu.done == []
    index.search(many, 512, effort=Effort(512, 5))
    assert gpu.done == ["take", "search"]


@pytest.mark.parametrize("step", ["take", "search"])
def test_a_card_that_refuses_to_search_is_not_asked_again(
    step: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = FaissIndex("IVF16,Flat", DIM)
    here.train(STORED[:1000].astype(np.float32))
    here.add(STORED[:1000])
    here.save(tmp_path)
    gpu = Elsewhere(step)
    index = on(gpu, "IVF16,Flat")
    index.load(tmp_path)
    many = np.repeat(QUERIES, WARM_UP_QUERIES, axis=0)
    for _ in range(3):
        found = index.search(many, 5, effort=Effort(4, 5))
        np.testing.assert_array_equal(found[1], here.search(many, 5, effort=Effort(4, 5))[1])
    assert gpu.done.count(step) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"searching on the processor, elsewhere refuses: no {step} here"
    ]


@pytest.mark.parametrize(
    ("spec", "step"),
    [
        ("IVF16,Flat", "take"),
        ("IVF16,Flat", "train"),
        ("IVF16,Flat", "add"),
        ("IVF16,Flat", "give"),
        ("IVF16,PQ8x4fs", "flat"),
        ("CAGRA16", "train"),
        ("CAGRA16", "give"),
    ],
)
def test_a_card_that_refuses_to_make_one(spec: str, step: str) -> None:
    index = on(Elsewhere(step), spec)
    with pytest.raises(BackendError, match=rf"^elsewhere refuses {spec}: no {step} here$"):
        make(index)


def make(index: GpuIndex) -> None:
    index.train(STORED[:2000].astype(np.float32))
    index.add(STORED)
    index.efforts(10)


def test_a_graph_of_few_rows_is_made_here(tmp_path: Path) -> None:
    gpu = Elsewhere()
    index, here = on(gpu, "CAGRA16"), FaissIndex("CAGRA16", DIM)
    for part in np.split(STORED[:3000], 3):
        index.add(part)
        here.add(part)
    assert len(index) == 3000
    found = index.search(QUERIES, 10, effort=Effort(64, 10))
    np.testing.assert_array_equal(found[1], here.search(QUERIES, 10, effort=Effort(64, 10))[1])
    assert gpu.done == []


def test_devices_are_words_or_cards() -> None:
    gpu = Elsewhere()
    assert devices.find(gpu) is gpu
    assert devices.find("cpu") is None
    for word, number in {"auto": 0, "cuda": 0, "cuda:0": 0, "cuda:3": 3}.items():
        found = devices.find(word)
        assert (found is not None) == faiss_build.has_gpu_code()
        assert found is None or found.name == f"cuda:{number}"
    for word in ("gpu", "cuda:", "cuda:x", "tpu", ""):
        with pytest.raises(UsageError, match="auto, cpu, cuda or cuda:N"):
            devices.find(word)


@pytest.mark.parametrize(
    ("spec", "enough"),
    [("IVF1024,SQ8", 10**9), ("CAGRA64", 10**10), ("leanvec-id:64/IVF1024,SQ8+int8", 10**9)],
)
def test_a_card_is_taken_where_there_is_room(
    spec: str, enough: int, caplog: pytest.LogCaptureFixture
) -> None:
    choice = auto.choose(10**6, 256, spec=spec, budget=2**40)

    def chosen(free: int | None, budget: int = 2**40) -> Device | None:
        caplog.clear()
        return auto.device_for(choice, 10**6, 256, device=Elsewhere(room=free), budget=budget)

    for free in (enough, None):
        assert chosen(free) is not None
        assert not caplog.records
    assert chosen(10**8) is None
    assert "MiB of elsewhere, where 95 are free" in caplog.text
    # To link rows, it is handed all of them at once.
    is_graph = spec == "CAGRA64"
    assert (chosen(enough, choice.footprint.build + 10**6) is None) == is_graph
    assert ("MAXSIGHT_MEMORY allows" in caplog.text) == is_graph


def test_lists_are_learned_in_any_room_and_graphs_of_hnsw_nowhere() -> None:
    for spec, is_taken in {"IVF1024,PQ64x4fs": True, "HNSW32": False}.items():
        choice = auto.choose(10**6, 256, spec=spec, budget=2**40)
        gpu = auto.device_for(choice, 10**6, 256, device=Elsewhere(room=1), budget=2**40)
        assert (gpu is not None) == is_taken


def test_what_is_loaded_from_a_folder_is_searched_where_faiss_can(tmp_path: Path) -> None:
    here = FaissIndex("IVF16,Flat", DIM)
    here.train(STORED[:1000].astype(np.float32))
    here.add(STORED[:1000])
    saved.save(here, tmp_path / "one")
    gpu = Elsewhere()
    loaded, _ = saved.load(tmp_path / "one", device=gpu)
    assert isinstance(loaded, GpuIndex)
    loaded.search(np.repeat(QUERIES, WARM_UP_QUERIES, axis=0), 5)
    assert gpu.done == ["take", "search"]
    assert isinstance(saved.load(tmp_path / "one", device="cpu")[0], FaissIndex)
    loaded, _ = saved.load(tmp_path / "one")
    assert isinstance(loaded, GpuIndex) == faiss_build.has_gpu_code()


@pytest.mark.skipif(not faiss_build.has_gpu_code(), reason="needs a GPU build of FAISS")
def test_a_gpu_build_without_a_gpu_searches_on_the_processor(tmp_path: Path) -> None:
    if faiss_build.gpu_count():
        pytest.skip("there is a GPU")
    here = FaissIndex("IVF16,Flat", DIM)
    here.train(STORED[:1000].astype(np.float32))
    here.add(STORED[:1000])
    here.save(tmp_path)
    index = on(Cuda(), "IVF16,Flat")
    index.load(tmp_path)
    many = np.repeat(QUERIES, WARM_UP_QUERIES, axis=0)
    np.testing.assert_array_equal(index.search(many, 5)[1], here.search(many, 5)[1])
    assert auto.choose(10**6, 512, budget=2**40, device="auto").spec != "exact"


@pytest.mark.skipif(not faiss_build.has_gpu_code(), reason="needs a GPU build of FAISS")
@pytest.mark.parametrize("spec", ["Flat", "IVF16,SQ8", "RR32,IVF16,PQ8np", "CAGRA16"])
def test_a_gpu_build_takes_what_it_is_given_but_for_the_gpu(spec: str) -> None:
    """FAISS looks at the types of arguments first, and then for the GPU."""
    index, gpu = FaissIndex(spec, DIM), Cuda(99)
    if gpu.form(index.index) is None:
        assert spec == "CAGRA16"
        assert not hasattr(faiss, "GpuIndexCagra")
        return
    with pytest.raises(RuntimeError, match="Invalid GPU device 99"):
        gpu.take(index.index)
    with pytest.raises(RuntimeError, match="Invalid GPU device 99"):
        gpu.flat(DIM)
    assert not gpu.is_there()
    assert not faiss.GpuClonerOptions().use_cuvs  # which has no SQ8


@pytest.mark.skipif(not hasattr(faiss, "GpuIndexCagra"), reason="needs a FAISS built with cuVS")
def test_the_names_that_cuvs_builds_have() -> None:
    assert faiss.SearchParametersCagra(itopk_size=96).itopk_size == 96
    assert {"train", "copyTo", "copyFrom"} <= set(faiss.GpuIndexCagra.__dict__)

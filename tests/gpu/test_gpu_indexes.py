"""On a machine with an NVIDIA GPU and a FAISS for it: indexes made there, loaded on the processor,
and searched there. `make gpu-check` runs these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clustered import asked, clustered, recall
from device_checks import SPECS, check_made_and_loaded, on

from maxsight.index import faiss_build
from maxsight.index.ann import auto
from maxsight.index.ann.contract import Effort
from maxsight.index.ann.devices import Cuda
from maxsight.index.ann.faiss_index import FaissIndex
from maxsight.index.exact.gpu import WARM_UP_QUERIES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not faiss_build.gpu_count(), reason="this FAISS has no GPU code or sees no GPU"
    ),
]
HAS_CUVS = hasattr(faiss_build.load(), "GpuIndexCagra")
DIM = 256


@pytest.mark.parametrize("spec", SPECS)
def test_made_there_and_loaded_here_and_back(spec: str, tmp_path: Path) -> None:
    if spec.startswith("CAGRA") and not HAS_CUVS:
        pytest.skip("this FAISS is built without cuVS")
    check_made_and_loaded(spec, tmp_path, Cuda())


@pytest.mark.skipif(HAS_CUVS, reason="this FAISS has CAGRA")
def test_without_cuvs_it_names_the_build_that_has_it(caplog: pytest.LogCaptureFixture) -> None:
    choice = auto.choose(20_000, DIM, spec="CAGRA64", budget=2**40)
    assert auto.device_for(choice, 20_000, DIM, device="auto", budget=2**40) is None
    assert "maxsight[cuvs]" in caplog.text


@pytest.mark.parametrize("spec", ["IVF256,PQ64x4fsr", "IVF256,RaBitQ"])
def test_lists_learned_there_find_what_those_learned_here_find(spec: str) -> None:
    stored, queries = clustered(50_000, DIM), asked(200, DIM)
    found = []
    for index in (on(Cuda(), spec, DIM), FaissIndex(spec, DIM)):
        index.train(stored[:20_000].astype(np.float32))
        index.add(stored)
        _, rows = index.search(queries, 100, effort=Effort(16, 100))
        found.append(recall(rows, queries, stored))
    assert found[0] > found[1] - 0.02


@pytest.mark.skipif(not HAS_CUVS, reason="this FAISS is built without cuVS")
def test_a_graph_of_a_gpu_is_as_good_as_one_made_here(tmp_path: Path) -> None:
    stored, queries = clustered(100_000, DIM), asked(500, DIM)
    made = on(Cuda(), "CAGRA64", DIM)
    made.add(stored)
    made.save(tmp_path)
    on_cpu, on_gpu = FaissIndex("CAGRA64", DIM), on(Cuda(), "CAGRA64", DIM)
    for index in (on_cpu, on_gpu):
        index.load(tmp_path)
        index.search(queries[:WARM_UP_QUERIES], 10)
        _, rows = index.search(queries, 10, effort=Effort(256, 10))
        assert recall(rows, queries, stored) > 0.95
    on_cpu.add(stored[:10])
    assert len(on_cpu) == 100_010


def test_the_free_memory_is_told() -> None:
    free = Cuda().free()
    assert free is None or free > 2**20

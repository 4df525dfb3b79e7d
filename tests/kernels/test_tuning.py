"""What can be known of tuning without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from maxsight.errors import BackendError
from maxsight.kernels import configs, report, tuning
from maxsight.kernels.configs import Tile
from maxsight.kernels.workloads import Workload, packed, workloads


def test_candidates_differ_in_one_thing() -> None:
    tile = Tile({"ROWS": 64, "DIMS": 1}, 4, 3)
    found = tuning.candidates(tile)
    assert len(found) == len({str(each) for each in found}) == 7
    for each in found:
        changed = [
            each.warps != tile.warps,
            each.stages != tile.stages,
            *(each.blocks[name] != size for name, size in tile.blocks.items()),
        ]
        assert sum(changed) == 1
    assert all(1 <= each.warps <= 16 for each in tuning.candidates(Tile({}, 16, 1)))
    assert all(each.stages >= 1 for each in tuning.candidates(Tile({}, 1, 1)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to tune on")
@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:3"])
def test_no_gpu_no_tuning(device: str) -> None:
    with pytest.raises(BackendError, match=device):
        tuning.tune(device=device, operations=("maxsim",))


def test_workloads_reach_every_operation() -> None:
    found = list(workloads(torch.device("cpu"), operations=report.OPERATIONS))
    assert {each.operation for each in found} == set(report.OPERATIONS)
    assert len({(each.operation, each.name) for each in found}) == len(found)


def test_packed_sequences() -> None:
    tokens, offsets = packed(3, 5, 8, device=torch.device("cpu"), dtype=torch.float16)
    assert (tuple(tokens.shape), tokens.dtype) == ((15, 8), torch.float16)
    assert offsets.tolist() == [0, 5, 10, 15]
    torch.testing.assert_close(tokens.float().norm(dim=1), torch.ones(15), atol=2e-3, rtol=0)


def test_a_failing_case_costs_no_other_its_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was chosen is saved before the next case is tried, whatever that one raises."""
    monkeypatch.setenv("MAXSIGHT_CACHE", str(tmp_path))

    def broken() -> Callable[[], object]:
        raise RuntimeError("the pass failed")

    def asking() -> Callable[[], object]:
        def call() -> torch.Tensor:
            configs.tile("similarity.block_maxima/float16", architecture=90, bucket="few")
            return torch.ones(2)

        return call

    def dying() -> Callable[[], object]:
        assert configs.read(configs.tuned_path())
        raise KeyboardInterrupt

    said: list[tuple[str, str]] = []
    cases = [
        Workload("similarity", name, make)
        for name, make in {"broken": broken, "asking": asking, "dying": dying}.items()
    ]
    with pytest.raises(KeyboardInterrupt):
        tuning.tune_workloads(
            cases, device=torch.device("cpu"), progress=lambda *told: said.append(told)
        )
    assert ("broken", "failed: RuntimeError: the pass failed") in said

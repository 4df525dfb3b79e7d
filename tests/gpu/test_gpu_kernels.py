"""The Triton kernels on the GPU they were written for: right, wherever and however they are called.

`make gpu-check` runs these. Everything here that does not need the hardware itself is checked
without it, in Triton's interpreter, by tests/kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from maxsight.kernels import maxsim, merge, similarity
from maxsight.kernels.check.calls import agree, calls, drawn, offsets
from maxsight.kernels.workloads import numbers

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

PAST_INT32 = 2**31
WORKING_MEMORY = 64 << 20  # what a top-k may take beside its inputs and its answer


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The first GPU, with memory that was freed before full of NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield torch.device("cuda", 0)
    torch.use_deterministic_algorithms(False)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("name", calls())
def test_the_gpu_room_agrees_with_the_reference(
    name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = calls()[name](device)
    monkeypatch.setenv("MAXSIGHT_KERNELS", "reference")
    agree(name, found, calls()[name](device))


@pytest.mark.parametrize("name", calls())
def test_every_run_gives_the_same_bits(name: str, device: torch.device) -> None:
    first, second = (calls()[name](device) for _ in range(2))
    for part, value in first.items():
        assert torch.equal(value, second[part]), part


@pytest.mark.parametrize("name", calls())
def test_a_device_other_than_the_current_one(name: str, device: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    elsewhere = calls()[name](torch.device("cuda", 1))
    assert torch.cuda.current_device() == 0
    for part, value in calls()[name](device).items():
        assert elsewhere[part].device.index == 1
        assert torch.equal(value.cpu(), elsewhere[part].cpu()), part


@pytest.mark.parametrize("name", calls())
def test_a_stream_other_than_the_default_one(name: str, device: torch.device) -> None:
    """A launch on another stream than its inputs' would read them before they are written."""
    expected = calls()[name](device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        # Inputs made on this stream come late.
        torch.cuda._sleep(50_000_000)  # type: ignore[no-untyped-call]
        found = calls()[name](device)
    stream.synchronize()
    for part, value in expected.items():
        assert torch.equal(value, found[part]), part


def test_strided_inputs(device: torch.device) -> None:
    queries = drawn(6, 96, dtype=torch.float16, device=device)
    rows = drawn(200, 96, dtype=torch.float16, device=device, seed=1)
    spread_rows = torch.stack([rows, torch.full_like(rows, torch.nan)], 1).flatten(0, 1)[::2]
    turned = queries.T.contiguous().T
    odd = torch.cat([rows.new_zeros(1), rows.flatten()])[1:].view_as(rows)  # not 16-byte aligned
    assert not spread_rows.is_contiguous()
    assert not turned.is_contiguous()
    assert odd.data_ptr() % 16
    begins = offsets((100, 0, 99, 1), device)
    starts = offsets((6,), device)
    plain = similarity.topk(queries, rows, 9)
    score = maxsim.score(queries, starts, rows, begins)
    for other in (spread_rows, odd):
        for mine, theirs in zip(similarity.topk(turned, other, 9), plain):
            torch.testing.assert_close(mine, theirs)
        torch.testing.assert_close(maxsim.score(turned, starts, other, begins), score)

    heads = drawn(2, 9, 3 * 32, dtype=torch.float16, device=device).view(2, 9, 3, 32)
    heads = heads.transpose(1, 2)  # as a transformer has them
    sizes = torch.ones(2, 18, device=device)[:, ::2]
    found = merge.attention(heads, heads, heads, sizes)
    together = heads.contiguous()
    truth = merge.attention(together, together, together, sizes.contiguous())
    torch.testing.assert_close(found, truth)


def test_similarity_past_two_billion_numbers(device: torch.device) -> None:
    rows, dim = PAST_INT32 // 512 + 1_000, 512
    _need(device, gigabytes=2 * rows * dim * 1e-9 + 4)
    database = torch.zeros(rows, dim, dtype=torch.float16, device=device)
    places = torch.tensor([5, rows // 2, rows - 1], device=device)
    vectors = numbers(3, dim, device=device, dtype=torch.float16)
    database[places] = vectors
    scores, indices = similarity.topk(vectors, database, 1)
    assert indices[:, 0].tolist() == places.tolist()
    torch.testing.assert_close(scores[:, 0], torch.ones_like(scores[:, 0]), atol=2e-3, rtol=0)


def test_maxsim_past_two_billion_numbers(device: torch.device) -> None:
    length, dim = 1_024, 128
    documents = PAST_INT32 // (length * dim) + 10
    _need(device, gigabytes=2 * documents * length * dim * 1e-9 + 4)
    tokens = torch.zeros(documents * length, dim, dtype=torch.float16, device=device)
    begins = torch.arange(documents + 1, device=device) * length
    query = numbers(32, dim, device=device, dtype=torch.float16)
    tokens[-32:] = query
    starts = torch.tensor([0, 32], device=device)
    scores = maxsim.score(query, starts, tokens, begins)
    assert int(scores.argmax()) == documents - 1
    assert float(scores.amax()) == pytest.approx(32, rel=2e-3)
    assert maxsim.topk(query, starts, tokens, begins, 1)[1].tolist() == [[documents - 1]]


@pytest.mark.parametrize("queries", [1, 64, 1_024])
def test_similarity_needs_little_memory(queries: int, device: torch.device) -> None:
    asked = numbers(queries, 512, device=device, dtype=torch.float16)
    database = numbers(1_000_000, 512, device=device, dtype=torch.float16)
    assert _extra(lambda: similarity.topk(asked, database, 10), device) <= WORKING_MEMORY
    mask = torch.rand(len(database), device=device) < 0.5
    filtered = _extra(lambda: similarity.topk(asked, database, 10, allowed=mask), device)
    assert filtered <= WORKING_MEMORY


def test_maxsim_needs_little_memory(device: torch.device) -> None:
    tokens = numbers(10_000 * 300, 128, device=device, dtype=torch.bfloat16)
    begins = torch.arange(10_001, device=device) * 300
    query = numbers(64 * 32, 128, device=device, dtype=torch.bfloat16)
    starts = torch.arange(65, device=device) * 32
    assert _extra(lambda: maxsim.topk(query, starts, tokens, begins, 10), device) <= WORKING_MEMORY


def _extra(call: Callable[[], object], device: torch.device) -> int:
    """Bytes that a call takes at its peak beside what was there."""
    call()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _need(device: torch.device, *, gigabytes: float) -> None:
    free, _ = torch.cuda.mem_get_info(device)
    if free < gigabytes * 1e9:
        pytest.skip(f"{gigabytes:.0f} GB of GPU memory are needed, {free / 1e9:.0f} are free")

"""Batches of pixels through an encoder; the device computes while the next one is laid out."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from maxsight.errors import BackendError
from maxsight.index.records import TokenTable

if TYPE_CHECKING:
    import torch

    from maxsight.models.encoder import Encoder

log = logging.getLogger(__name__)

Owner = TypeVar("Owner")


@dataclass(frozen=True, eq=False)
class EncodedUnits(Generic[Owner]):
    """What the encoder made of n pictures of one owner.

    Attributes:
        vectors: (n, D) float32.
        tokens: of the same pictures, if asked for.
    """

    owner: Owner
    vectors: np.ndarray
    tokens: TokenTable | None


@dataclass(eq=False)
class _Batch(Generic[Owner]):
    owners: list[tuple[Owner, int]] = field(default_factory=list)
    blocks: list[np.ndarray] = field(default_factory=list)
    count: int = 0

    def add(self, owner: Owner, pixels: np.ndarray) -> None:
        self.owners.append((owner, len(pixels)))
        self.blocks.append(pixels)
        self.count += len(pixels)


class BatchEncoder(Generic[Owner]):
    """Collects pictures of any owners into batches and encodes them.

    On a CUDA device a batch is copied and computed without waiting, while the next one is decoded
    and laid out; its result is fetched when the next one is under way.

    Args:
        encoder: at work on one device.
        batch_size: pictures encoded at a time.
        tokens: whether to keep token embeddings.

    Attributes:
        busy_s: seconds the device has computed.
    """

    def __init__(self, encoder: Encoder, *, batch_size: int, tokens: bool) -> None:
        self.busy_s = 0.0
        self._encoder = encoder
        self._batch_size = batch_size
        self._tokens = tokens
        self._filling: _Batch[Owner] = _Batch()
        self._under_way: deque[tuple[_Batch[Owner], Callable[[], _Outputs]]] = deque()

    def add(self, owner: Owner, pixels: np.ndarray) -> Iterator[EncodedUnits[Owner]]:
        """Take (n, size, size, 3) uint8 pictures in; yields whatever is encoded by now."""
        while len(pixels):
            room = self._batch_size - self._filling.count
            self._filling.add(owner, pixels[:room])
            pixels = pixels[room:]
            if self._filling.count == self._batch_size:
                yield from self._start()
                yield from self._fetch(leave=1 if self._is_cuda else 0)

    def flush(self) -> Iterator[EncodedUnits[Owner]]:
        """Encode what there is, full batch or not, and wait for it."""
        while self._filling.count:
            yield from self._start()
        yield from self._fetch(leave=0)

    @property
    def _is_cuda(self) -> bool:
        return self._encoder.device.type == "cuda"

    def _start(self) -> Iterator[EncodedUnits[Owner]]:
        import torch

        batch, self._filling = self._filling, _Batch()
        try:
            self._under_way.append((batch, self._launch(batch)))
            return
        except torch.OutOfMemoryError:
            if batch.count == 1:
                raise BackendError(
                    f"{self._encoder.device} has not enough free memory to encode one picture; "
                    "close what else runs there, or give --device cpu"
                ) from None
        self._batch_size = (batch.count + 1) // 2
        log.warning(
            "%s ran out of memory; from here on %d pictures are encoded at a time",
            self._encoder.device,
            self._batch_size,
        )
        yield from self._fetch(leave=0)
        if self._is_cuda:
            torch.cuda.empty_cache()
        for (owner, _), block in zip(batch.owners, batch.blocks):
            yield from self.add(owner, block)

    def _fetch(self, *, leave: int) -> Iterator[EncodedUnits[Owner]]:
        while len(self._under_way) > leave:
            batch, wait = self._under_way.popleft()
            outputs = wait()
            first = 0
            for owner, count in batch.owners:
                yield EncodedUnits(owner, *outputs.of(first, first + count))
                first += count

    def _launch(self, batch: _Batch[Owner]) -> Callable[[], _Outputs]:
        """Start computing; the returned function waits for the result."""
        import torch

        shape = (batch.count, *batch.blocks[0].shape[1:])
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=self._is_cuda)
        np.concatenate(batch.blocks, out=pixels.numpy())
        if not self._is_cuda:
            began = time.perf_counter()
            computed = self._compute(pixels)
            self.busy_s += time.perf_counter() - began
            return lambda: computed
        with torch.cuda.device(self._encoder.device):
            begin, end = (torch.Event("cuda", enable_timing=True) for _ in range(2))
            begin.record()
            on_device = self._compute(pixels.to(self._encoder.device, non_blocking=True))
            on_host = on_device.to_host()
            end.record()

        def wait() -> _Outputs:
            end.synchronize()
            self.busy_s += begin.elapsed_time(end) / 1000
            return on_host

        return wait

    def _compute(self, pixels: torch.Tensor) -> _Outputs:
        import torch

        with torch.inference_mode():
            embeddings = self._encoder.encode_images(pixels, tokens=self._tokens)
            vectors = embeddings.vectors.float()
            if not self._tokens or embeddings.tokens is None or embeddings.offsets is None:
                return _Outputs(vectors)
            tokens, scales = _to_int8(embeddings.tokens)
            return _Outputs(vectors, tokens, scales, embeddings.sizes, embeddings.offsets)


@dataclass(frozen=True, eq=False)
class _Outputs:
    """What is kept of a batch of B pictures; tokens are packed as in ``Embeddings``."""

    vectors: torch.Tensor
    tokens: torch.Tensor | None = None
    scales: torch.Tensor | None = None
    sizes: torch.Tensor | None = None
    offsets: torch.Tensor | None = None

    def to_host(self) -> _Outputs:
        """Started, not waited for."""
        rest = (self.tokens, self.scales, self.sizes, self.offsets)
        return _Outputs(
            self.vectors.to("cpu", non_blocking=True),
            *(None if tensor is None else tensor.to("cpu", non_blocking=True) for tensor in rest),
        )

    def of(self, first: int, last: int) -> tuple[np.ndarray, TokenTable | None]:
        """Vectors and tokens of pictures ``first`` to ``last - 1``."""
        vectors = self.vectors[first:last].cpu().numpy()
        if self.tokens is None or self.scales is None or self.offsets is None:
            return vectors, None
        offsets = self.offsets[first : last + 1].cpu().numpy().astype(np.int64)
        begin, end = int(offsets[0]), int(offsets[-1])
        return vectors, TokenTable(
            tokens=self.tokens[begin:end].cpu().numpy(),
            scales=self.scales[begin:end].cpu().numpy(),
            sizes=np.ones(end - begin, np.float32)
            if self.sizes is None
            else self.sizes[begin:end].float().cpu().numpy(),
            offsets=offsets - begin,
        )


def _to_int8(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, d) float tokens as (N, d) int8 and (N,) float32 scales; their product restores them."""
    import torch

    scales = tokens.float().abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (tokens / scales[:, None]).round().to(torch.int8), scales

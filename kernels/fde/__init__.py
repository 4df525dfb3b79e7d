"""Fixed-dimensional encodings: a set of tokens as one vector, its inner product near MaxSim.

    <encode_queries(Q), encode_documents(D)>  ~  repetitions x sum over q of max over t of <q, t>

Space is cut into cells by random hyperplanes. A query's cell holds the sum of its tokens there, a
document's the mean of its own: the inner product sums, over the query's tokens, their similarity to
the mean of the document's tokens nearby. Any index of single vectors then finds the candidates that
``maxsim`` scores exactly.

Source: MUVERA, Multi-Vector Retrieval via Fixed Dimensional Encodings (arXiv 2405.19504).
"""

from __future__ import annotations

import torch
from torch import Tensor

from maxsight.kernels.fde import operators
from maxsight.kernels.fde.values import Config

__all__ = ["Config", "encode_documents", "encode_queries"]


def encode_queries(
    tokens: Tensor, offsets: Tensor, config: Config, *, weights: Tensor | None = None
) -> Tensor:
    """The encodings of B queries: in each cell the sum of its projected tokens.

    Empty cells stay zero: filled ones would score what nobody asked for.

    Args:
        tokens: (sum L, d) floating point, finite; usually L2-normalised rows.
        offsets: (B + 1,) int64 on the same device: query i owns rows ``offsets[i]`` to
            ``offsets[i + 1]`` of the tokens.
        config: the one that the documents were encoded with.
        weights: (sum L,) floating point, none negative: how often each token counts; None: once.

    Returns:
        (B, config.dim) float32, not normalised. Sums are in float32 (float64 for float64 tokens). A
        query without tokens is all zeros. The cells are the same on every device; sums differ by
        rounding.

    Memory beside the result, in bytes, whatever B: on a CPU ``max(2048, longest L) * (12 d +
    R * (5 k_sim + 40)) + 3 * max(2**22, 4 d cells)``, and ``final_dim`` adds ``3 * max(2**24,
    4 inner_dim)``. On a GPU 4 R a token, and ``final_dim`` adds ``max(2**26, 4 inner_dim)``.

    Raises:
        ValueError: shapes or dtypes that do not fit each other or the config; on the CPU also
            offsets that do not cut the tokens, and negative weights.

    Example:
        >>> cells = {"k_sim": 0, "projection_dim": None, "fill_empty": False}
        >>> config = Config(token_dim=2, repetitions=1, **cells)
        >>> tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
        >>> encode_queries(tokens, torch.tensor([0, 2, 3]), config)
        tensor([[1., 1.],
                [3., 3.]])
    """
    return operators.encode(*_checked(tokens, offsets, weights, config), config, documents=False)


def encode_documents(
    tokens: Tensor, offsets: Tensor, config: Config, *, weights: Tensor | None = None
) -> Tensor:
    """The encodings of B documents: in each cell the mean of its projected tokens.

    With ``config.fill_empty`` an empty cell holds the projected token whose sign pattern differs in
    the fewest planes from the cell's, the first of several.

    Args:
        tokens, offsets, config: as for ``encode_queries``.
        weights: (sum L,) floating point, none negative: of the mean; a merged token counts as its
            size. A token of weight 0 counts as absent. None: 1 each.

    Returns:
        (B, config.dim) float32, not normalised. A document without tokens is all zeros.

    Memory and errors: as for ``encode_queries``.

    Example:
        >>> cells = {"k_sim": 0, "projection_dim": None, "fill_empty": False}
        >>> config = Config(token_dim=2, repetitions=1, **cells)
        >>> tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
        >>> encode_documents(tokens, torch.tensor([0, 2, 3]), config)
        tensor([[0.5000, 0.5000],
                [3.0000, 3.0000]])
    """
    return operators.encode(*_checked(tokens, offsets, weights, config), config, documents=True)


def _checked(
    tokens: Tensor, offsets: Tensor, weights: Tensor | None, config: Config
) -> tuple[Tensor, Tensor, Tensor | None]:
    _check_ragged(tokens, offsets)
    if tokens.shape[1] != config.token_dim:
        raise ValueError(f"tokens must have {config.token_dim} dimensions, got {tokens.shape[1]}")
    if weights is not None:
        if weights.shape != tokens.shape[:1] or not weights.is_floating_point():
            raise ValueError(
                f"weights must be ({tokens.shape[0]},) of floating point, got "
                f"{tuple(weights.shape)} {weights.dtype}"
            )
        weights = weights.contiguous()
    return tokens.contiguous(), offsets.contiguous(), weights


def _check_ragged(tokens: Tensor, offsets: Tensor) -> None:
    if tokens.ndim != 2 or not tokens.is_floating_point():
        raise ValueError(
            f"tokens must be (sum L, d) of floating point, got {tuple(tokens.shape)} {tokens.dtype}"
        )
    if offsets.ndim != 1 or offsets.shape[0] < 1 or offsets.dtype != torch.int64:
        raise ValueError(
            f"offsets must be (B + 1,) int64, got {tuple(offsets.shape)} {offsets.dtype}"
        )

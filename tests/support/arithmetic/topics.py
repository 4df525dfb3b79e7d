"""A retrieval task that a mean of tokens does badly: each document has six topics, a query two.

Topics come from one pool for all documents, a document's own being near those; each token is near
one of its document's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

TOPICS, POOL, DIM = 6, 80, 64


def topic_documents(
    documents: int, *, document_tokens: int = 48, query_tokens: int = 16, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Unit tokens of queries (B, query_tokens, 64) and documents (B, document_tokens, 64).

    Query i is about document i.
    """
    generator = torch.Generator().manual_seed(seed)

    def near(rows: Tensor, distance: float) -> Tensor:
        away = normalize(torch.randn(rows.shape, generator=generator), dim=-1)
        return normalize(rows + distance * away, dim=-1)

    def chosen(topics: Tensor, which: Tensor) -> Tensor:
        return topics.gather(1, which.unsqueeze(2).expand(-1, -1, DIM))

    pool = normalize(torch.randn(POOL, DIM, generator=generator), dim=1)
    some = torch.stack([torch.randperm(POOL, generator=generator) for _ in range(documents)])
    topics = near(pool[some[:, :TOPICS]], 0.5)
    which = torch.randint(0, TOPICS, (documents, document_tokens), generator=generator)
    two = torch.arange(query_tokens).remainder(2).expand(documents, -1)
    return near(chosen(topics, two), 0.9), near(chosen(topics, which), 0.9)

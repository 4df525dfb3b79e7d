"""From the towers' features to the shared space: class names (ConSE) and a trained committee.

The space is MiniLM's own, centred: a text is its sentence vector less the mean class name. A
picture is the sum of two unit vectors there:

- ConSE, which knows ImageNet's classes and photographs: the class names' vectors weighted by the
  classifier's posterior (M. Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic
  Embeddings", 2014). It is not trained.
- The committee, which knows drawings: three small perceptrons on the pooled feature, trained apart
  on captioned drawings, their unit outputs averaged (train.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maxsight.models.builtin import image_tower, text_tower

SCHEMA = "1"
DIM = text_tower.WIDTH
MEMBERS, HIDDEN = 3, 512
# Chosen on the validation split; results hardly move for temperatures from 1.5 to 3, 30 to 1,000
# classes and centring from 0.4 to 1.
TEMPERATURE, LIKELIEST, CENTRING = 2.0, 100, 0.7
CONSE_SHARE = 0.5


class Heads(nn.Module):
    """The last layers of both towers. A bare one holds no weights: ``load_state_dict`` brings them.

    Buffers: ``class_vectors`` (1000, 384), MiniLM's unit vectors of ImageNet's class names;
    ``feature_mean``, ``feature_scale`` (1280,), of the training pictures' pooled features.
    """

    class_vectors: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("class_vectors", torch.zeros(image_tower.CLASSES, DIM))
        self.register_buffer("feature_mean", torch.zeros(image_tower.WIDTH))
        self.register_buffer("feature_scale", torch.ones(image_tower.WIDTH))
        # One matrix for all members: its rows are theirs, one member after the other.
        self.hidden = nn.Linear(image_tower.WIDTH, MEMBERS * HIDDEN)
        self.linear = nn.Linear(image_tower.WIDTH, MEMBERS * DIM)
        self.narrow = nn.Parameter(torch.zeros(MEMBERS, HIDDEN, DIM))
        self.to_text = nn.Parameter(torch.zeros(MEMBERS, DIM, DIM))

    def image(self, features: Tensor, logits: Tensor) -> Tensor:
        """Pictures, or patches of them, in the shared space.

        Args:
            features: (N, 1280) after the head convolution.
            logits: (N, 1000), the classifier's.

        Returns:
            (N, 384) float32, rows L2-normalised.
        """
        conse = F.normalize(self._conse(logits.float()), dim=-1)
        committee = F.normalize(self._committee(features.float()), dim=-1)
        return F.normalize(CONSE_SHARE * conse + (1 - CONSE_SHARE) * committee, dim=-1)

    def text(self, vectors: Tensor) -> Tensor:
        """Sentence or word vectors in the shared space.

        Args:
            vectors: (N, 384), L2-normalised rows, MiniLM's.

        Returns:
            (N, 384) float32, rows L2-normalised.
        """
        return F.normalize(vectors.float() - self.class_vectors.mean(0), dim=-1)

    def _conse(self, logits: Tensor) -> Tensor:
        posterior = (logits / TEMPERATURE).softmax(-1)
        likeliest, classes = posterior.topk(LIKELIEST)
        kept = torch.zeros_like(posterior).scatter(1, classes, likeliest)
        return kept @ (self.class_vectors - CENTRING * self.class_vectors.mean(0))

    def _committee(self, features: Tensor) -> Tensor:
        x = (features - self.feature_mean) / self.feature_scale
        hidden = F.gelu(self.hidden(x)).unflatten(1, (MEMBERS, HIDDEN)).transpose(0, 1)
        members = self.linear(x).unflatten(1, (MEMBERS, DIM)).transpose(0, 1)
        members = F.normalize(members + hidden @ self.narrow, dim=-1)
        return (members @ self.to_text).sum(0)


def from_state(state: Mapping[str, Tensor]) -> Heads:
    """The heads with the weights of ``heads.safetensors``, computing in float32."""
    heads = Heads()
    heads.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return heads.eval().requires_grad_(False)

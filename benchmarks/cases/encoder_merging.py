"""How many more pictures a second does an encoder take when its tokens merge, and what changes?

ViT-B-16 and ViT-L-14 with random weights, as ``open_clip:local-dir:`` loads them: without merging,
with it, and with ToMe as published (:mod:`maxsight.benchmarks.peers.tome_published`) at the same
numbers of tokens. That the last two agree is asserted first. Weights that were trained are nowhere
in the
packages: the cosines say how far merging moves the vectors of an untrained network, and nothing
about what it costs in recall.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from maxsight.benchmarks.material import pictures
from maxsight.benchmarks.measure.interleave import interleave, processor_stopwatch, ratio
from maxsight.benchmarks.measure.parity import ParityError
from maxsight.benchmarks.measure.peaks import threads
from maxsight.benchmarks.measure.rows import Row, spread
from maxsight.benchmarks.peers import tome_published
from maxsight.kernels import merge
from maxsight.models.encoder import Encoder, load
from maxsight.models.pixels import preprocess
from maxsight.models.towers import merging

_BENCHMARK = "encoder-merging"
# Of each architecture the option `merge`; the first is what its target is asked of.
SCHEDULES = {"ViT-B-16": ("8,-1", "13"), "ViT-L-14": ("7,-1", "8")}
_PARITY = 0.999  # near ties in the matching may fall either way
# The text tower is not measured; the architectures' own would double the folder.
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}


@dataclass(frozen=True)
class _Case:
    """An architecture and a schedule."""

    architecture: str
    schedule: str
    plain: Encoder
    merged: Encoder
    visual: Any  # open_clip's tower with the same weights
    removed: tuple[int, ...]


def run(
    data: Path,
    *,
    rounds: int = 5,
    batch: int = 32,
    cores: int = 1,
    shown: int = 1000,
    architectures: str = ",".join(SCHEDULES),
) -> list[Row]:
    """Measure images per CPU second, and the cosine of merged to unmerged vectors.

    Args:
        data: folder for rendered pictures.
        rounds: how often each contender runs; 0 for the cosines alone.
        batch: images at a time.
        cores: threads of torch.
        shown: real pictures that the cosines are taken over; 0 for none.
        architectures: with commas between.

    Returns:
        Images a CPU second of each contender, how many times those of the unmerged encoder and of
        ToMe as published, and the mean cosine to the unmerged vectors.
    """
    rows = []
    images = _pixels(data, shown) if shown else None
    with threads(cores), torch.inference_mode():
        for architecture in architectures.split(","):
            with tempfile.TemporaryDirectory(dir=_made(data)) as folder:
                uri = f"open_clip:local-dir:{_save(architecture, Path(folder))}"
                plain = load(uri, device="cpu")
                vectors = None if images is None else _encode(plain, images, batch)
                for schedule in SCHEDULES[architecture]:
                    case = _case(architecture, schedule, uri, plain)
                    _assert_parity(case)
                    if rounds:
                        rows += _measure(case, rounds=rounds, batch=batch, cores=cores)
                    if images is not None and vectors is not None:
                        rows.append(_moved(case, images, vectors, batch))
    return rows


def _case(architecture: str, schedule: str, uri: str, plain: Encoder) -> _Case:
    import open_clip

    visual = open_clip.create_model(uri.removeprefix("open_clip:")).eval().visual
    layers = len(visual.transformer.resblocks)
    tokens = len(visual.positional_embedding)
    removed = merge.schedule(merging.schedule_of(schedule, layers=layers), layers, tokens=tokens)
    merged = load(f"{uri}?merge={schedule}", device="cpu")
    return _Case(architecture, schedule, plain, merged, visual, removed)


def _measure(case: _Case, *, rounds: int, batch: int, cores: int) -> list[Row]:
    size = case.plain.preprocess.size
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, generator=draw)
    seconds = interleave(
        {
            "unmerged": processor_stopwatch(lambda _: case.plain.encode_images(pixels)),
            "maxsight": processor_stopwatch(lambda _: case.merged.encode_images(pixels)),
            "tome": processor_stopwatch(lambda _: _published(case, pixels)),
        },
        rounds=rounds,
    )
    names = {
        "unmerged": "open_clip, unmerged",
        "maxsight": "maxsight, merged",
        "tome": "ToMe as published",
    }
    label = f"{case.architecture}, merge={case.schedule}, batch {batch}, {cores} threads"
    rows = []
    for name, contender in names.items():
        rates = [batch / s for s in seconds[name]]
        rows.append(Row.of(_BENCHMARK, label, contender, "images per CPU second", rates))
    for other, metric in (("unmerged", "speed of unmerged"), ("tome", "speed of ToMe")):
        # Speeds, so the other's seconds over ours.
        rows.append(
            ratio(
                seconds[other],
                seconds["maxsight"],
                benchmark=_BENCHMARK,
                case=label,
                contender=names["maxsight"],
                metric=metric,
            )
        )
    return rows


def _moved(case: _Case, images: Tensor, plain: Tensor, batch: int) -> Row:
    """The cosine of merged to unmerged vectors of real pictures."""
    cosines = cosine_similarity(_encode(case.merged, images, batch), plain)
    low, _, high = spread(cosines.tolist())
    return Row(
        _BENCHMARK,
        f"{case.architecture}, merge={case.schedule}, real pictures, random weights",
        "maxsight, merged",
        "mean cosine to unmerged",
        float(f"{cosines.mean():.5f}"),
        "",
        low,
        high,
        len(images),
    )


def _encode(encoder: Encoder, images: Tensor, batch: int) -> Tensor:
    parts = torch.split(images, batch)
    return torch.cat([encoder.encode_images(part).vectors for part in parts])


def _published(case: _Case, pixels: Tensor) -> Tensor:
    batch = preprocess.normalize(pixels, case.plain.preprocess)
    return normalize(tome_published.encode(case.visual, batch, case.removed), dim=-1)


def _assert_parity(case: _Case) -> None:
    """That ours is ToMe, and that the tower ToMe runs on is the encoder's."""
    size = case.plain.preprocess.size
    pixels = torch.randint(0, 256, (4, size, size, 3), dtype=torch.uint8)
    ours, published = case.merged.encode_images(pixels).vectors, _published(case, pixels)
    cosine = float(cosine_similarity(ours, published).min())
    if not cosine > _PARITY:
        raise ParityError(
            f"{case.architecture}, merge={case.schedule}: cosine {cosine:.6f} to ToMe as published"
        )


def _pixels(data: Path, count: int) -> Tensor:
    """(count, 224, 224, 3) uint8, as CLIP reads real drawings and photographs."""
    folder = pictures.drawings(_made(data), count)
    wishes = preprocess.Preprocess(size=224)
    squares = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with Image.open(path) as image:
            squares.append(preprocess.resize(image.convert("RGB"), wishes))
    return torch.from_numpy(np.stack(squares))


def _save(architecture: str, folder: Path) -> Path:
    """The architecture with random weights, as open_clip writes it for the hub."""
    import open_clip
    from open_clip.push_to_hf_hub import save_config_for_hf
    from safetensors.torch import save_file

    config = open_clip.get_model_config(architecture) | {"text_cfg": _TEXT}
    name = f"{architecture}-random"
    registered = folder / f"{name}.json"
    registered.write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(registered)
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    save_config_for_hf(model, folder / "open_clip_config.json", config)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def _made(data: Path) -> Path:
    data.mkdir(parents=True, exist_ok=True)
    return data

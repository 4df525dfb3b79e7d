"""How many pictures and texts a second does each encoder take on this machine?

open_clip's networks have random weights here: that changes what an encoder says, not how long it
takes. Pictures are pixels of the encoder's own size; texts have six to ten words. Encoders whose
text tower's configuration must be fetched from the hub are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch

from maxsight.benchmarks.measure.rows import Row
from maxsight.models import catalogue
from maxsight.models.encoder import load
from maxsight.models.options import parse

_BENCHMARK = "encoder-speed"
_TEXTS = (
    "a red bus that waits in the rain",
    "two children run along a beach at sunset",
    "an old man reads a newspaper in a cafe",
    "the dog catches a yellow frisbee in the park",
)


def run(data: Path, *, rounds: int = 3, most_pixels: int = 256) -> list[Row]:
    """Measure every encoder of the catalogue, in turns, on all cores.

    Args:
        data: not used; every benchmark takes it.
        rounds: how often each encodes a batch.
        most_pixels: leaves out encoders that read more: on a processor they take minutes.
    """
    works: dict[tuple[str, str], tuple[Callable[[], object], int]] = {}
    for entry in catalogue.recommended():
        if entry.pixels is None or entry.pixels > most_pixels or _needs_the_hub(entry.uri):
            continue
        images, texts, batch = _towers(entry.uri, entry.pixels)
        works[entry.uri, "images"] = images, batch
        works[entry.uri, "texts"] = texts, 8 * len(_TEXTS)
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    for number in range(rounds + 1):
        for key, (work, count) in works.items():
            began = time.perf_counter()
            work()
            if number:  # the first run chooses kernels and fills caches
                rates[key].append(count / (time.perf_counter() - began))
    rows = []
    for (uri, what), found in rates.items():
        case = f"{torch.get_num_threads()} cores"
        rows.append(Row.of(_BENCHMARK, case, uri, what, found, f"{what}/s"))
    return rows


def _needs_the_hub(uri: str) -> bool:
    config = open_clip.get_model_config(parse(uri).name.rpartition("/")[0])
    return config is not None and "hf_model_name" in config["text_cfg"]


def _towers(uri: str, pixels: int) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Encode a batch of pictures, a batch of texts; and how many pictures that is."""
    texts = list(_TEXTS) * 8
    if uri == "builtin":
        encoder = load(uri, device="cpu")
        noise = torch.randint(0, 256, (32, pixels, pixels, 3), dtype=torch.uint8)
        return lambda: encoder.encode_images(noise), lambda: encoder.encode_text(texts), 32
    name = parse(uri).name.rpartition("/")[0]
    network: Any = open_clip.create_model(name, load_weights=False, pretrained_text=False).eval()
    batch = torch.randn(8, 3, pixels, pixels)
    length = open_clip.get_model_config(name)["text_cfg"].get("context_length", 77)
    ids = torch.ones(len(texts), length, dtype=torch.int64)

    def images() -> object:
        with torch.inference_mode():
            return network.encode_image(batch)

    def words() -> object:
        with torch.inference_mode():
            return network.encode_text(ids)

    return images, words, len(batch)

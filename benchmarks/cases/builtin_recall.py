"""How well does the built-in encoder find pictures it was not trained on?

Text to image: every different caption of a set is a query, the set's pictures are the gallery, and
any picture of that caption is right. Three kinds of unseen: drawing styles (OpenMoji), sources
(Tux Paint), concepts (head nouns held out in every source). Each set is also split by whether
ImageNet has a class of that head noun, because the trunk was trained on ImageNet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from maxsight.benchmarks.material import held_out
from maxsight.benchmarks.measure.rows import Row
from maxsight.models import encoder
from maxsight.models.builtin.training import corpus
from maxsight.models.builtin.training.corpus import Picture

_BENCHMARK = "builtin-recall"


def run(data: Path, *, encoder_uri: str = "builtin") -> list[Row]:
    """Measure recall on what the built-in encoder never saw.

    Args:
        data: folder for fetched packages.
        encoder_uri: what encodes.

    Returns:
        recall@1, 5 and 10 in per cent for each set, all of it and inside and outside ImageNet's
        names.
    """
    model = encoder.load(encoder_uri)
    emoji = [p for p in corpus.emoji(data, "openmoji", tones=False) if p.group != "flags"]
    openmoji = held_out.encode(model, emoji)
    stamps = held_out.encode(model, corpus.stamps(data))
    clipart = held_out.encode(model, (p for p in corpus.clipart(data) if p.split == "test"))
    photographs = stamps.where(stamps.photographs)
    sets = {
        "openmoji, seen concepts, unseen style": _only(openmoji, lambda p: p.split == "train"),
        "openmoji, unseen concepts and style": _only(openmoji, lambda p: p.split == "test"),
        "tuxpaint photographs, unseen concepts": _only(photographs, lambda p: p.split == "test"),
        "tuxpaint photographs, unseen source": photographs,
        "tuxpaint drawings, unseen source": stamps.where(~stamps.photographs),
        "openclipart, unseen concepts": clipart,
    }
    rows: list[Row] = []
    for name, gallery in sets.items():
        ranks = held_out.text_to_image_ranks(model, gallery)
        inside = {query for query in ranks if corpus.head_noun(query) in _imagenet_nouns()}
        for part, chosen in (
            ("", list(ranks)),
            (", inside ImageNet", [query for query in ranks if query in inside]),
            (", outside ImageNet", [query for query in ranks if query not in inside]),
        ):
            rows += held_out.recall_rows(
                [ranks[query] for query in chosen],
                benchmark=_BENCHMARK,
                case=f"{name} (gallery {len(gallery.pictures)}){part}",
                contender=encoder_uri,
            )
    return rows


def _only(gallery: held_out.Gallery, wanted: Callable[[Picture], bool]) -> held_out.Gallery:
    return gallery.where(np.array([wanted(picture) for picture in gallery.pictures], dtype=bool))


@cache
def _imagenet_nouns() -> frozenset[str]:
    from open_clip import IMAGENET_CLASSNAMES

    return frozenset(corpus.head_noun(name) for name in IMAGENET_CLASSNAMES)

"""Many pictures of the corpus as images, drawn on several cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, islice

from PIL import Image

from maxsight.models.builtin.training import corpus
from maxsight.models.builtin.training.corpus import Picture

_LOG = logging.getLogger(__name__)
_DRAWN_PICTURES = 256


def render_all(pictures: Iterable[Picture], size: int) -> Iterator[tuple[Picture, Image.Image]]:
    """Render pictures in order, leaving out what cannot be rendered (logged by name).

    One chunk of 256 is drawn while the caller works on the one before, so memory stays small.

    Args:
        pictures: of any style.
        size: longer side of a drawing, in pixels. Photographs keep their size.
    """
    draw = partial(_render_or_reason, size=size)
    # A forked child of a process that has used torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        waiting = None
        for chunk in chain(_chunks(pictures), [()]):
            drawn = list(chunk), pool.map(draw, chunk, chunksize=8)
            if waiting is not None:
                for picture, image in zip(*waiting):
                    if isinstance(image, str):
                        _LOG.warning("left out %s/%s: %s", picture.style, picture.key, image)
                    else:
                        yield picture, image
            waiting = drawn


def _render_or_reason(picture: Picture, *, size: int) -> Image.Image | str:
    try:
        return corpus.render(picture, size)
    except (ValueError, OSError) as error:
        return str(error)


def _chunks(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, ...]]:
    remaining = iter(pictures)
    while chunk := tuple(islice(remaining, _DRAWN_PICTURES)):
        yield chunk

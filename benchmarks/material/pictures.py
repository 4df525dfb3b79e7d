"""Folders of real pictures to index: thousands of drawings, and photographs as large as a camera's.

Nothing is bundled: drawings are rendered from the packages that the built-in encoder is trained on
(:mod:`maxsight.models.builtin.training.corpus`), photographs come from scikit-image's wheel. A
folder is made once and kept; the same arguments give the same bytes with the same library versions.
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from maxsight.errors import DatasetError
from maxsight.models.builtin.training import corpus

_LOG = logging.getLogger(__name__)

# Longer sides in pixels and formats, as drawings and previews have them on disk and on the web.
_SIDES, _SHARES = (256, 384, 512, 768, 1024), (30, 25, 25, 15, 5)
_FORMATS = ("jpg", "jpg", "png", "webp")
_CLIPART_SHARE = 0.2  # rendering a page of clip art takes ten times an emoji's time
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")


def drawings(data: Path, count: int, *, side: int | None = None) -> Path:
    """The folder of ``count`` drawings, 25 MB a thousand; rendered first if needed.

    Sizes from 256 to 1,024 pixels, or all of one size; half JPEG, a quarter PNG, a quarter WebP;
    no two files have the same bytes; up to a hundred in a folder.

    Args:
        data: folder for fetched and rendered material.
        count: how many.
        side: of all of them, in pixels.

    Raises:
        DatasetError: the packages cannot be fetched, or hold fewer pictures.
    """

    def fill(folder: Path) -> None:
        draw = random.Random(0)
        clipart: list[corpus.Picture] = []
        emoji: list[corpus.Picture] = []
        for picture in corpus.training_pictures(data):
            (clipart if picture.style == "openclipart" else emoji).append(picture)
        draw.shuffle(clipart)
        draw.shuffle(emoji)
        some_clipart = round(_CLIPART_SHARE * count)
        queue = clipart[:some_clipart] + emoji[: count - some_clipart]
        draw.shuffle(queue)
        # What cannot be rendered, or looks like one before, is replaced from these.
        queue += emoji[count - some_clipart :]
        seen: set[bytes] = set()
        for picture in queue:
            if len(seen) == count:
                return
            pixels = side or draw.choices(_SIDES, _SHARES)[0]
            suffix = draw.choice(_FORMATS)
            try:
                image = corpus.render(picture, pixels)
            except ValueError as error:
                _LOG.info("left out %s/%s: %s", picture.style, picture.key, error)
                continue
            content = hashlib.sha256(image.tobytes()).digest()
            if content in seen:
                continue
            name = re.sub(r"[^a-z0-9]+", "-", picture.caption).strip("-")[:60]
            path = folder / f"{len(seen) // 100:03}" / f"{len(seen):05}-{name}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            image.save(path, quality=88)
            seen.add(content)
        if len(seen) < count:
            raise DatasetError(f"the packages gave {len(seen)} different drawings, not {count}")

    name = f"drawings-{count}" if side is None else f"drawings-{count}-{side}px"
    return _made_once(data / name, fill)


def photographs(data: Path, count: int) -> Path:
    """The folder of ``count`` JPEG photographs of 4,000 x 3,000 pixels, about 3 MB each.

    They are crops of scikit-image's photographs, enlarged, with a sensor's grain added so that
    they compress as a camera's files do.

    Raises:
        DatasetError: scikit-image is not installed.
    """

    def fill(folder: Path) -> None:
        try:
            import skimage.data
        except ImportError as error:
            raise DatasetError(
                "photographs are cut from those in scikit-image: pip install scikit-image"
            ) from error
        sources = [Image.fromarray(getattr(skimage.data, name)()) for name in _PHOTOGRAPHS]
        draw = random.Random(0)
        for number in range(count):
            source = sources[number % len(sources)]
            scale = draw.uniform(0.6, 1.0)
            width = scale * min(source.width, source.height * 4 / 3)
            left = draw.uniform(0, source.width - width)
            top = draw.uniform(0, source.height - width * 3 / 4)
            box = (left, top, left + width, top + width * 3 / 4)
            large = source.resize((4000, 3000), Image.Resampling.LANCZOS, box=box)
            noise = np.random.default_rng(number).standard_normal((3000, 4000, 3), np.float32)
            grainy = np.clip(np.asarray(large) + 8 * noise, 0, 255).astype(np.uint8)
            Image.fromarray(grainy).save(folder / f"photograph-{number:04}.jpg", quality=90)

    return _made_once(data / f"photographs-{count}", fill)


def _made_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """``folder``, filled whole or not there at all."""
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    fill(unfinished)
    unfinished.rename(folder)
    return folder

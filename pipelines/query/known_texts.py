"""Texts as people may ask them: what an index for a library is fitted to and measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from maxsight.pipelines.query.encoder import QueryEncoder

# An index learns where texts lie from some thousands; who has searched for so many needs no others.
_ENOUGH = 2_000


def known_texts(encoder: QueryEncoder) -> np.ndarray:
    """Vectors of the texts searched for before and, until there are enough, of names of things.

    Returns:
        (m, D) float32.
    """
    asked = encoder.cache.newest(encoder.fingerprint, _ENOUGH)
    if len(asked) >= _ENOUGH:
        return asked
    from open_clip import IMAGENET_CLASSNAMES, SIMPLE_IMAGENET_TEMPLATES

    names = list(IMAGENET_CLASSNAMES)[: _ENOUGH - len(asked)]
    templates = list(SIMPLE_IMAGENET_TEMPLATES)
    made = [templates[number % len(templates)](name) for number, name in enumerate(names)]
    # Not under the encoder's own fingerprint: nobody has asked for these.
    kept_under = f"{encoder.fingerprint} names"
    known = encoder.cache.get(kept_under, made)
    if missing := [text for text in made if text not in known]:
        encoded = encoder.load().encode_text(missing).vectors.cpu().numpy().astype(np.float32)
        new = dict(zip(missing, encoded, strict=True))
        encoder.cache.put(kept_under, new)
        known |= new
    vectors = np.stack([known[text] for text in made])
    return np.concatenate([asked, vectors]) if len(asked) else vectors

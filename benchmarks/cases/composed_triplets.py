"""Does a picture plus a change in words find the changed picture?

The triplets are real: two drawings by one artist whose names differ in one attribute word (skin
tone, person, hair, colour, species, direction, state, size, clock time). The gallery is every
picture of the drawing style; the reference is taken out of the results. Concepts are those held
out from the encoder's training. Everything runs through the public encoder and
``maxsight.models.compose.weighted_sum``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maxsight.benchmarks.material import held_out
from maxsight.benchmarks.measure.rows import Row
from maxsight.models import compose, encoder
from maxsight.models.builtin.training import corpus, packages

_BENCHMARK = "composed"
_MOST_TRIPLETS = 3_000
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": (
        *("red", "orange", "yellow", "green", "blue", "light blue", "purple", "brown", "black"),
        *("white", "grey", "pink"),
    ),
    "skin tone": (
        *("light skin tone", "medium-light skin tone", "medium skin tone"),
        *("medium-dark skin tone", "dark skin tone"),
    ),
    "person": ("man", "woman", "person", "boy", "girl", "child", "men", "women", "people"),
    "hair": ("red hair", "curly hair", "white hair", "bald", "blond hair", "beard"),
    "direction": ("left", "right", "up", "down", "facing right"),
    "size": ("small", "medium", "large", "medium-small"),
    "number": (
        *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        *("eleven", "twelve"),
    ),
    "state": (
        *("open", "closed", "new", "full", "first quarter", "last quarter", "grinning", "crying"),
        *("kissing", "smiling", "pouting", "weary"),
    ),
    "species": (
        *("cat", "monkey", "dog", "horse", "mouse", "cow", "tiger", "rabbit", "dragon", "pig"),
    ),
}
# How the change is worded; other families say "change A to B".
_WORDING = {
    "colour": "make it {}",
    "size": "make it {}",
    "state": "make it {}",
    "skin tone": "with {}",
    "hair": "with {}",
}
_WHOLE_WORDS = {
    word: re.compile(rf"(?<![^ :,]){re.escape(word)}(?![^ :,])")
    for words in _ATTRIBUTES.values()
    for word in words
}


@dataclass(frozen=True)
class Triplet:
    """Positions of two pictures in their style's list, and the words that lead between them."""

    family: str
    reference: int
    target: int
    text: str


def triplets(captions: Sequence[str]) -> list[Triplet]:
    """All triplets among the pictures of one style.

    Args:
        captions: names of the pictures; of two with one name the first counts.
    """
    position: dict[str, int] = {}
    for index, caption in enumerate(captions):
        position.setdefault(caption.replace("’", "'"), index)
    found: dict[tuple[int, int], Triplet] = {}
    for name, index in position.items():
        for family, text, changed in _changes(name):
            target = position.get(changed, index)
            if target != index:
                found[index, target] = Triplet(family, index, target, text)
    return list(found.values())


def _changes(name: str) -> Iterator[tuple[str, str, str]]:
    """Family, change in words, and the name after the change."""
    for family, words in _ATTRIBUTES.items():
        for old in words:
            if (match := _WHOLE_WORDS[old].search(name)) is None:
                continue
            for new in words:
                if new != old:
                    wording = _WORDING.get(family, f"change {old} to {{}}")
                    changed = name[: match.start()] + new + name[match.end() :]
                    yield family, wording.format(new), changed
    if ": " not in name:
        for tone in _ATTRIBUTES["skin tone"]:
            yield "skin tone", f"with {tone}", f"{name}: {tone}"


def run(data: Path, *, encoder_uri: str = "builtin", seed: int = 0) -> list[Row]:
    """Measure recall of composed queries.

    Args:
        data: folder for fetched packages and encoded pictures.
        encoder_uri: what encodes.
        seed: of the sample, where a set holds more than 3,000 triplets.

    Returns:
        recall@1, 5 and 10 in per cent, for the reference alone, the text alone and the default
        mix, for drawing styles that the built-in encoder saw and for one it did not.
    """
    model = encoder.load(encoder_uri)
    sets: dict[str, list[tuple[str, Triplet]]] = {
        "unseen concepts, seen styles": [],
        "seen concepts, unseen style": [],
        "unseen concepts, unseen style": [],
    }
    galleries: dict[str, held_out.Gallery] = {}
    for style in [*packages.TRAINING_EMOJI, *packages.TEST_EMOJI]:
        gallery = held_out.encode(model, _drawings(data, style))
        galleries[style] = gallery
        seen_style = style in packages.TRAINING_EMOJI
        for triplet in triplets(gallery.captions):
            pair = triplet.reference, triplet.target
            splits = {gallery.pictures[index].split for index in pair}
            if "test" in splits:
                name = "unseen concepts, " + ("seen styles" if seen_style else "unseen style")
                sets[name].append((style, triplet))
            elif splits == {"train"} and not seen_style:
                sets["seen concepts, unseen style"].append((style, triplet))
    draw = random.Random(seed)
    rows: list[Row] = []
    for case, members in sets.items():
        chosen = draw.sample(members, min(_MOST_TRIPLETS, len(members)))
        texts = sorted({triplet.text for _, triplet in chosen})
        encoded = model.encode_text(texts).vectors.cpu().numpy()
        words = dict(zip(texts, encoded))
        for contender in ("reference only", "text only", "default mix"):
            ranks = _ranks(contender, chosen, galleries, words)
            rows += held_out.recall_rows(
                ranks, benchmark=_BENCHMARK, case=case, contender=contender
            )
    return rows


def _drawings(data: Path, style: str) -> Iterator[corpus.Picture]:
    """The style's pictures; of skin tones Noto's lightest, middle and darkest.

    More tones would make most of the triplets one task: telling five near-copies apart.
    """
    for picture in corpus.emoji(data, style, tones=style == "noto"):
        if picture.tone in (None, 1, 3, 5):
            yield picture


def _ranks(
    contender: str,
    chosen: Sequence[tuple[str, Triplet]],
    galleries: Mapping[str, held_out.Gallery],
    words: Mapping[str, np.ndarray],
) -> np.ndarray:
    """How many pictures come before each triplet's target."""
    ranks = []
    for style, triplet in chosen:
        gallery = galleries[style].vectors
        reference, text = gallery[triplet.reference], words[triplet.text]
        if contender == "reference only":
            query = reference
        elif contender == "text only":
            query = text
        else:
            query = compose.weighted_sum(
                np.stack([reference, text]), weights=[1.0, 1.0], is_text=[False, True]
            )
        scores = gallery @ query
        scores[triplet.reference] = -np.inf
        ranks.append(int((scores > scores[triplet.target]).sum()))
    return np.array(ranks)

"""WordNet's nouns, as far as ImageNet's classes need them: their words and what they are kinds of.

Source: WordNet 3.0, Princeton University (Debian package wordnet-base); format in wndb(5WN).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Synset:
    """A noun sense: its words, and the offsets of the senses it is a kind of."""

    words: tuple[str, ...]
    kinds_of: tuple[int, ...]


def read_nouns(folder: Path) -> dict[int, Synset]:
    """WordNet's nouns by offset, from `data.noun` in `folder`. ImageNet's n02123045 is offset 2123045."""
    nouns = {}
    for line in (folder / "data.noun").read_text(encoding="ascii").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields = line.split(" | ")[0].split()
        word_count = int(fields[3], 16)
        words = tuple(fields[4 + 2 * i].replace("_", " ").lower() for i in range(word_count))
        pointers = fields[5 + 2 * word_count :]
        kinds_of = tuple(
            int(pointers[i + 1])
            for i in range(0, len(pointers) - 3, 4)
            if pointers[i] in ("@", "@i")
        )
        nouns[int(fields[0])] = Synset(words, kinds_of)
    return nouns


def ancestors(nouns: Mapping[int, Synset], offset: int) -> list[list[int]]:
    """What `offset` is a kind of, nearest first: parents, then grandparents, up to "entity"."""
    levels: list[list[int]] = []
    seen, level = {offset}, [offset]
    while level:
        above = dict.fromkeys(parent for child in level for parent in nouns[child].kinds_of)
        level = [parent for parent in above if parent not in seen]
        seen.update(level)
        if level:
            levels.append(level)
    return levels

"""A text as the things it names: what the built-in encoder asks a picture's patches for.

MiniLM is trained on whole sentences, and a patch shows one thing: "dog" and "red bus" each find
their patch, where the word pieces of "a dog and a red bus" find little, and its sentence vector
lies between the two (docs/late-interaction.md has the figures).
"""

from __future__ import annotations

import re

# Beyond these a text is a paragraph, and each further phrase would cost a pass of the text tower.
MOST_PHRASES = 16

# Words between two things. "of", "for", "by" and "from" are not among them: "a cup of coffee" is
# one thing; nor is "without", behind which stands what is not there.
JOINTS = (
    *("and", "or", "with", "next to", "in front of", "on top of", "beside", "behind", "under"),
    *("above", "over", "near", "on", "in", "at"),
)
# White space counts from its first character: otherwise a run of it is tried from each one.
_SPACE = r"(?<!\s)\s+"
_MARK = rf"(?:{_SPACE})?(?:,(?!\d)|;)\s*"  # not the comma of 1,000
_WORD = r"(?:" + "|".join(joint.replace(" ", r"\s+") for joint in JOINTS) + r")\s+"
_JOINT = re.compile(rf"(?:{_MARK}|{_SPACE}){_WORD}|{_MARK}", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the|some)\s+", re.IGNORECASE)


def phrases(text: str) -> list[str]:
    """The things a text names, in order, each once; at most 16.

    It is cut at commas, semicolons and ``JOINTS``, and articles in front are dropped. A text that
    is not cut stays as it is, so that its phrase has the text's own vector; an empty one has none.

    >>> phrases("a dog on a sofa, two cats and a cup of coffee")
    ['dog', 'sofa', 'two cats', 'cup of coffee']
    >>> phrases("a red bus")
    ['a red bus']
    """
    parts = [_ARTICLE.sub("", part.strip()) for part in _JOINT.split(text.strip())]
    named = list(dict.fromkeys(part for part in parts if part))
    if len(named) > 1:
        return named[:MOST_PHRASES]
    return [text] if text.strip() else []

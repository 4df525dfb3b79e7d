"""The words, signs and values a condition is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["text", "name", "number", "word", "sign", "end"]

# Of the whole condition. 100,000 paths are 5 to 10 million characters.
_MOST_CHARACTERS = 16 * 2**20
_SHOWN = 160

# Possessive repeats: what does not match fails at once, however long it is.
_TOKEN = re.compile(
    r"""(?P<space>\s++|--[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/)
    |(?P<text>'[^']*+(?:''[^']*+)*+')
    |(?P<name>"[^"]++"|`[^`]++`)
    |(?P<number>(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?(?![\w.]))
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*+)
    |(?P<sign><=|>=|<>|!=|==|\|\||::|[-+*%=<>(),;]|/(?!\*))""",
    re.VERBOSE,
)


class NoCondition(ValueError):
    """A text is no condition that may be evaluated. ``str(error)`` says why."""


class Token(NamedTuple):
    """One of them.

    Attributes:
        text: the content of a text or name, quotes taken off; else as it was written.
        place: where it begins, in characters.
        upper: a word in capitals, a sign as it is, "" for all else: what the grammar looks at.
    """

    kind: Kind
    text: str
    place: int
    upper: str = ""

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f": {brief(self.text, 40)}"


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a condition, the last of kind ``end``. Comments are passed over.

    Raises:
        NoCondition: it is too long, or holds what is no token.
    """
    if len(text) > _MOST_CHARACTERS:
        raise NoCondition(
            f"it has {len(text):,} characters, and {_MOST_CHARACTERS:,} are allowed: ask in parts"
        )
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise NoCondition(_what_is_wrong(text, place))
        kind, found = match.lastgroup, match[0]
        if kind == "text":
            yield Token("text", found[1:-1].replace("''", "'"), place)
        elif kind == "name":
            yield Token("name", found[1:-1], place)
        elif kind == "number":
            yield Token("number", found, place)
        elif kind == "word":
            yield Token("word", found, place, found.upper())
        elif kind == "sign":
            yield Token("sign", found, place, found)
        place = match.end()
    yield Token("end", "", place)


def brief(text: str, most: int = _SHOWN) -> str:
    """The text, its middle left out if it is long."""
    if len(text) <= most:
        return text
    return f"{text[: most * 3 // 4]} … {text[-most // 4 :]} ({len(text):,} characters)"


def _what_is_wrong(text: str, place: int) -> str:
    if text[place] in "'\"`":
        return f"Unterminated string: {text[place]} at character {place + 1} is never closed"
    if text.startswith("/*", place):
        return f"a comment that begins at character {place + 1} does not end"
    return f"{brief(text[place : place + 41], 20)!r} at character {place + 1} cannot be read"

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
        start: where it begins, in characters.
        upper: a word in capitals, a sign as it is, "" for all else: what the grammar looks at.
    """

    kind: Kind
    text: str
    start: int
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
    start = 0
    while start < len(text):
        match = _TOKEN.match(text, start)
        if match is None:
            raise NoCondition(_what_is_wrong(text, start))
        kind, found = match.lastgroup, match[0]
        if kind == "text":
            yield Token("text", found[1:-1].replace("''", "'"), start)
        elif kind == "name":
            yield Token("name", found[1:-1], start)
        elif kind == "number":
            yield Token("number", found, start)
        elif kind == "word":
            yield Token("word", found, start, found.upper())
        elif kind == "sign":
            yield Token("sign", found, start, found)
        start = match.end()
    yield Token("end", "", start)


def brief(text: str, most: int = _SHOWN) -> str:
    """The text, its middle left out if it is long."""
    if len(text) <= most:
        return text
    return f"{text[: most * 3 // 4]} … {text[-most // 4 :]} ({len(text):,} characters)"


def _what_is_wrong(text: str, start: int) -> str:
    if text[start] in "'\"`":
        return f"Unterminated string: {text[start]} at character {start + 1} is never closed"
    if text.startswith("/*", start):
        return f"a comment that begins at character {start + 1} does not end"
    return f"{brief(text[start : start + 41], 20)!r} at character {start + 1} cannot be read"

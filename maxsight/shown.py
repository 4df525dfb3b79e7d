r"""Names from elsewhere, made fit to be shown.

A file name, a cell of a table or a decoder's complaint may hold anything: orders to the terminal,
marks that turn the reading direction round, letters that cannot be seen, bytes that are no text.
"""

from __future__ import annotations

import logging
import re
import sys
import unicodedata

# Letters and signs by Unicode, of which nothing is seen: fillers of Hangul and Braille.
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
# A search for any of these is fast; what is found is looked at one by one.
_SUSPECT = re.compile(rf"[^ -~\u00a1-\u00ac\u00ae-\u02ff\u4e00-\u9fff]|[{_BLANK}]")
_JOINERS = "\u200c\u200d"


def shown(text: str) -> str:
    r"""The text with all that would not be seen, or would act, as ``\xNN`` or ``\uNNNN``.

    That is: controls (ESC, newlines, C1), format characters (directions, widths of zero),
    separators of lines and paragraphs, blank letters, halves of surrogate pairs. A byte that is not
    UTF-8, as ``os.fsdecode`` gives it, is the ``\xNN`` it was. A joiner stays between two
    characters that are not ASCII, as in Persian words and in emoji.
    """
    if text.isascii() and text.isprintable():
        return text
    return _SUSPECT.sub(_escaped, text)


def in_json(text: str) -> str:
    r"""JSON text in which what :func:`shown` escapes is ``\uNNNN``, which JSON reads back.

    A lone surrogate has no valid form in JSON: it becomes the text that :func:`shown` gives.
    """
    if text.isascii() and text.isprintable():
        return text
    return _SUSPECT.sub(_escaped_for_json, text)


def log_as_shown() -> None:
    """Have warnings of this process written to stderr as :func:`shown` gives them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_Shown())
    logging.getLogger().addHandler(handler)


class _Shown(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return shown(record.getMessage())


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if not _acts(character, match):
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte, as os.fsdecode hides it
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_for_json(match: re.Match[str]) -> str:
    character = match[0]
    if not _acts(character, match):
        return character
    if unicodedata.category(character) == "Cs":
        return "\\" + _escaped(match)
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _acts(character: str, match: re.Match[str]) -> bool:
    if character in _JOINERS:
        text, position = match.string, match.start()
        beside = text[position - 1 : position] + text[position + 1 : position + 2]
        return len(beside) < 2 or any(c.isascii() or not c.isprintable() for c in beside)
    is_tag = 0xE0000 <= ord(character) < 0xE1000  # the whole block, whatever is assigned in it
    return (
        is_tag
        or character in _BLANK
        or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    )

"""Patterns of file names as regular expressions."""

from __future__ import annotations

import re

_GLOB_PARTS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def glob_expression(pattern: str) -> str:
    """A regular expression for ``*``, ``?`` and ``[a-z]`` within a name and ``**`` across folders.

    ``**/`` stands for any folders or none; ``[!a-z]`` for any other character.
    """
    parts = []
    for part in re.findall(r"\*\*/|\*\*|\*|\?|\[(?:!.|[^!])[^\]]*\]|.", pattern, re.DOTALL):
        if len(part) > 1 and part.startswith("["):
            negated, letters = part[1] == "!", part[1:-1].removeprefix("!")
            # A hyphen between two letters is a range, and one at an end is itself.
            escaped = re.sub(r"[\\\[\]^&~]|^-|-$", r"\\\g<0>", letters)
            parts.append(f"[{'^/' if negated else ''}{escaped}]")
        else:
            parts.append(_GLOB_PARTS.get(part) or re.escape(part))
    # (?s): a name may hold a newline.
    return f"(?s)^{''.join(parts)}$"

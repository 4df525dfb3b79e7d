"""The options of an encoder, written behind its name: ``SCHEME:NAME?KEY=VALUE&KEY=VALUE``.

A library records its encoder's URI, so everything that changes a vector stands in it, in one
spelling. Reading it imports nothing heavy.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import NamedTuple

from maxsight.errors import EncoderError, UnknownEncoder

# As long as the longest path of a file system.
_MOST_CHARACTERS = 4096


@dataclass(frozen=True)
class Options:
    """What is asked of an encoder beside its name; None where nothing is.

    Attributes:
        merge: how many tokens each layer of the image tower merges away, as
            ``maxsight.models.towers.merging.schedule_of`` reads it: ``13``; ``13,-1``, a linear
            schedule's mean and inflection; ``8+8+4``, one number a layer; ``50%``, the share of
            the patches that is left in the end.
        prune: which visual tokens a language model keeps on its way, as
            ``maxsight.models.vlm.aim.schedule`` reads it: ``aim``, the published schedule; ``25%``,
            the share that is left in the end; ``25%,8,12``, that share, left from layer 8 to 12.
        tokens: where patch tokens come from (``maxsight.models.towers.dense.dense``): ``last``,
            the last block's states; ``value``, its values; ``self``, its values gathered from like
            patches.
        tempscale: temperature of the text tower's attention, above 0; below 1 sharpens.
    """

    merge: str | None = None
    prune: str | None = None
    tokens: str | None = None
    tempscale: float | None = None

    def given(self) -> dict[str, str]:
        """Key -> value as the URI spells it, in the order of the attributes."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: _spelled(value) for key, value in values.items() if value is not None}

    def __str__(self) -> str:
        """``?key=value&key=value``, or nothing."""
        given = self.given()
        return "?" + "&".join(f"{key}={value}" for key, value in given.items()) if given else ""

    def require_only(self, supported: Collection[str], *, encoder: str) -> None:
        """Refuse what the encoder cannot do.

        Args:
            supported: names of options.
            encoder: its URI, for the message.

        Raises:
            EncoderError: another option is given.
        """
        refused = [key for key in self.given() if key not in supported]
        if refused:
            allowed = ", ".join(sorted(supported)) or "none"
            raise EncoderError(
                f"{encoder} does not support the option {' or '.join(refused)}; of the options "
                f"it takes {allowed}"
            )


class EncoderUri(NamedTuple):
    """A URI in its parts; ``str()`` of it is the canonical spelling."""

    scheme: str
    name: str
    options: Options

    def __str__(self) -> str:
        options = str(self.options)
        if not options and "?" in f"{self.scheme}{self.name}":
            options = "?"  # a question mark in a folder's name begins no options
        return f"{self.scheme}:{self.name}{options}" if self.name else f"{self.scheme}{options}"


def parse(uri: str) -> EncoderUri:
    """Take a URI apart.

    Options begin behind the last ``?``; a folder whose name has one is written with another at its
    end. Options that change nothing (``merge=0``, ``tempscale=1``) are dropped.

    Args:
        uri: ``SCHEME:NAME?KEY=VALUE&KEY=VALUE``; the scheme is not looked at.

    Raises:
        UnknownEncoder: an option of no known name, without a value, with a bad one, or given twice;
            or the whole is longer than 4,096 characters, or has control characters.

    Example:
        >>> scheme, name, options = parse("open_clip:ViT-B-16/openai?tokens=value&merge=013")
        >>> name, options.merge
        ('ViT-B-16/openai', '13')
        >>> str(parse("open_clip:ViT-B-16/openai?tokens=value&merge=013"))
        'open_clip:ViT-B-16/openai?merge=13&tokens=value'
    """
    _require_readable(uri)
    address, mark, query = uri.rpartition("?")
    scheme, _, name = (address if mark else query).partition(":")
    values: dict[str, object] = {}
    for part in query.split("&") if mark and query else ():
        key, _, text = part.partition("=")
        option = _OPTIONS.get(key)
        if option is None:
            raise UnknownEncoder(
                f"no option {key!r} in {uri!r}; there are {', '.join(_OPTIONS)}, written "
                "NAME?key=value&key=value"
            )
        if key in values:
            raise UnknownEncoder(f"the option {key} stands twice in {uri!r}; give it once")
        try:
            values[key] = option.read(text)
        except ValueError as error:
            raise UnknownEncoder(f"{key}={text} in {uri!r}: {key} must be {option.form}") from error
    return EncoderUri(scheme, name, Options(**values))  # type: ignore[arg-type]


def _require_readable(uri: str) -> None:
    if len(uri) > _MOST_CHARACTERS:
        raise UnknownEncoder(
            f"an encoder's name has at most {_MOST_CHARACTERS:,} characters, and {uri[:60]!r}... "
            f"has {len(uri):,}"
        )
    if wrong := next(
        (character for character in uri if unicodedata.category(character) == "Cc"), ""
    ):
        raise UnknownEncoder(
            f"an encoder's name has no control characters, and {uri[:200]!r} has {wrong!r}"
        )


class _Option(NamedTuple):
    read: Callable[[str], object]  # raises ValueError
    form: str  # what it accepts, for people


def _spelled(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _merge(text: str) -> str | None:
    """The canonical spelling, or None if nothing merges."""
    if re.fullmatch(r"\d+(\+\d+)*", text):
        numbers = [int(number) for number in text.split("+")]
        while len(numbers) > 1 and numbers[-1] == 0 and "+" in text:
            numbers.pop()
        if not any(numbers):
            return None
        # A list of one number is that of the first layer, not of every layer.
        only_first = "+" in text and len(numbers) == 1
        return "+".join(map(str, numbers)) + ("+0" if only_first else "")
    if text.endswith("%"):
        share = float(text.removesuffix("%"))
        if not 0 < share <= 100:
            raise ValueError
        return None if share == 100 else f"{share:g}%"
    mean, comma, inflection = text.partition(",")
    slope = float(inflection)
    if not comma or not re.fullmatch(r"\d+", mean) or not -1 <= slope <= 1:
        raise ValueError
    if int(mean) == 0:
        return None
    return f"{int(mean)},{slope:g}" if slope else str(int(mean))


def _prune(text: str) -> str | None:
    """The canonical spelling, or None if nothing is pruned."""
    if text == "aim":
        return text
    share_text, *layers = text.split(",")
    share = float(share_text.removesuffix("%"))
    if not share_text.endswith("%") or not 0 <= share <= 100:
        raise ValueError
    if not layers:
        return {0.0: "aim", 100.0: None}.get(share, f"{share:g}%")
    first, last = (int(layer) for layer in layers)
    if not 0 <= first < last:
        raise ValueError
    return None if share == 100 else f"{share:g}%,{first},{last}"


def _tokens(text: str) -> str:
    if text not in ("last", "value", "self"):
        raise ValueError
    return text


def _tempscale(text: str) -> float | None:
    temperature = float(text)
    if not 0 < temperature < math.inf:
        raise ValueError
    return None if temperature == 1 else float(f"{temperature:g}")


_OPTIONS = {
    "merge": _Option(
        _merge,
        "tokens to merge in each layer: a number as 13, a mean and an inflection from -1 to 1 as "
        "13,-1, a number a layer as 8+8+4, or the share of the patches to keep as 50%",
    ),
    "prune": _Option(
        _prune,
        "aim, the share of the visual tokens to keep as 25%, or that and the layers between which "
        "the others leave as 25%,8,12",
    ),
    "tokens": _Option(_tokens, "last, value or self"),
    "tempscale": _Option(_tempscale, "a temperature above 0, as 0.9"),
}

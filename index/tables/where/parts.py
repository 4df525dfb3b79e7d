"""Pieces of a condition, written out for the storage layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maxsight.index.tables.where.tokens import NoCondition
from maxsight.index.tables.where.vocabulary import DEEPEST, LARGEST, LETTERS_AS_ONE, LISTED_AS_ONE

LiteralKind = Literal["text", "integer", "other"]


@dataclass(frozen=True, slots=True)
class Membership:
    """That a column has one of some values, or, if ``negated``, none of them."""

    column: str
    negated: bool
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece that can stand anywhere: a value, a name, a call, or something in brackets.

    Attributes:
        sql: as it is written.
        depth: how many brackets stand one in the other.
        size: how many values and names it holds, as often as the storage layer writes them. A
            long text counts as several, several values of a list as one.
        times: how often the storage layer evaluates what stands deepest in it.
        column: its name, if it is one and nothing else.
        literal: what it is, if it is a value and nothing else.
        membership: what it says, if it is of that form.
    """

    sql: str
    depth: int = 0
    size: int = 1
    times: int = 1
    column: str | None = None
    literal: LiteralKind | None = None
    membership: Membership | None = None

    def __post_init__(self) -> None:
        if self.depth > DEEPEST:
            raise NoCondition(
                f"it is nested more than {DEEPEST} deep: write it flatter, or ask in parts"
            )
        if self.size > LARGEST:
            raise NoCondition(
                "CASE, BETWEEN, COALESCE or NULLIF stand too often one in the other or around long "
                "lists and texts, as each evaluates several times what is in it; or a list of what "
                f"is neither a column's integers nor its texts has more than {LARGEST:,} values"
            )


def within(sql: str, *parts: Part, times: int = 1) -> Part:
    """What holds ``parts`` between brackets, and is evaluated so many times."""
    depth = max((part.depth for part in parts), default=0)
    deepest = max((part.times for part in parts), default=1)
    return Part(sql, depth + 1, times * max(1, sum(part.size for part in parts)), times * deepest)


def size_of(sql: str) -> int:
    """What one value counts as."""
    return 1 + len(sql) // LETTERS_AS_ONE


def quoted(text: str) -> str:
    """A text as a value. Bytes that are not UTF-8 are what the column ``path`` has for them."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "'" + text.replace("'", "''") + "'"


def member(membership: Membership) -> Part:
    """A :class:`Membership` written out."""
    word = "NOT IN" if membership.negated else "IN"
    sql = f"(`{membership.column}` {word} ({', '.join(membership.values)}))"
    size = size_of(sql) + len(membership.values) // LISTED_AS_ONE
    return Part(sql, 2, size, membership=membership)


def chain(word: Literal["AND", "OR"], terms: Sequence[Part]) -> Part:
    """Terms joined by AND or OR: lists of values of one column as one list, all else as a tree.

    The storage layer takes a long chain for a deep nesting, and ends the process where its stack
    does.
    """
    if len(terms) == 1:
        return terms[0]
    lists: dict[str, list[str]] = {}
    joined: list[Part | str] = []
    for term in terms:
        held = term.membership
        if held is None or held.negated != (word == "AND"):
            joined.append(term)
            continue
        if held.column not in lists:
            joined.append(held.column)  # whose list is known at the end
        lists.setdefault(held.column, []).extend(held.values)
    parts = [
        member(Membership(term, word == "AND", tuple(lists[term])))
        if isinstance(term, str)
        else term
        for term in joined
    ]
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [
            within(f"({pair[0].sql} {word} {pair[1].sql})", *pair) if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    return parts[0]

"""Reads a condition and writes it anew, in a form that the storage layer can take.

The grammar is the part of SQL that docs/storage.md names. Everything else is refused here, because
the layers below end the process, or work for hours, for what they cannot take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Literal

from maxsight.index.tables.where import vocabulary
from maxsight.index.tables.where.globs import glob_expression
from maxsight.index.tables.where.parts import (
    Membership,
    Part,
    chain,
    member,
    quoted,
    size_of,
    within,
)
from maxsight.index.tables.where.tokens import NoCondition, Token, brief, tokens

ColumnKind = Literal["text", "integer", "other"]

_COMPARISONS = {sign: sign for sign in ("=", "<>", "<", "<=", ">", ">=")} | {"==": "=", "!=": "<>"}
_COUNTED = re.compile(r"\{([0-9]+)(?:,([0-9]*))?\}")
# Where braces hold a class or a code, or are letters.
_NOT_COUNTED = re.compile(r"\\(?:[pPxuU]\{[^}]*\}|.)", re.DOTALL)
_FLAGS = re.compile("[imsxUR]*")


@dataclass(frozen=True)
class Condition:
    """What the storage layer is given.

    Attributes:
        sql: of bounded depth, size and work.
        effort: what it may cost a file at the worst, in comparisons (``vocabulary.MOST_WORK``).
    """

    sql: str
    effort: int


def condition(text: str, columns: Mapping[str, ColumnKind]) -> Condition:
    """The same condition in a form that the storage layer can take.

    Args:
        columns: those it may name, and what they hold.

    Raises:
        NoCondition: it is none, or would take too much.
    """
    return _Parser(text, columns).whole()


class _Parser:
    """Precedence climbing: each method reads what binds at least as tightly as its name says."""

    def __init__(self, text: str, columns: Mapping[str, ColumnKind]) -> None:
        self._tokens = tokens(text)
        self._columns = columns
        self._next = next(self._tokens)
        self._depth = 0
        self._work = 0
        self._effort = 0
        self._values = 0
        self._unknown: str | None = None

    def whole(self) -> Condition:
        part = self._either()
        if self._next.kind != "end":
            raise NoCondition(f"not one condition: {self._expected('AND, OR or the end')}")
        # A mistake in the grammar is told first: then a word may not be meant as a name.
        if self._unknown is not None:
            raise NoCondition(self._unknown)
        return Condition(part.sql, self._effort * part.times)

    def _either(self) -> Part:
        terms = [self._all()]
        while self._accept("OR"):
            terms.append(self._all())
        return chain("OR", terms)

    def _all(self) -> Part:
        terms = [self._negation()]
        while self._accept("AND"):
            terms.append(self._negation())
        return chain("AND", terms)

    def _negation(self) -> Part:
        negated = False
        while self._accept("NOT"):
            negated = not negated
        part = self._state()
        return within(f"(NOT {part.sql})", part) if negated else part

    def _state(self) -> Part:
        part = self._comparison()
        while self._accept("IS"):
            self._spend(1)
            word = "IS NOT" if self._accept("NOT") else "IS"
            if self._accept("DISTINCT"):
                self._require("FROM")
                other = self._comparison()
                part = within(f"({part.sql} {word} DISTINCT FROM {other.sql})", part, other)
                continue
            for state in ("NULL", "TRUE", "FALSE", "UNKNOWN"):
                if self._accept(state):
                    part = within(f"({part.sql} {word} {state})", part)
                    break
            else:
                raise self._expected("NULL, TRUE, FALSE or DISTINCT FROM")
        return part

    def _comparison(self) -> Part:
        part = self._sum()
        while True:
            if (sign := _COMPARISONS.get(self._next.upper)) is not None:
                self._advance()
                part = self._compared(part, sign, self._sum())
                continue
            negated = self._accept("NOT")
            word = self._next.upper
            if word in ("LIKE", "ILIKE"):
                part = self._like(part, f"NOT {word}" if negated else word)
            elif word == "IN":
                part = self._in(part, negated=negated)
            elif word == "BETWEEN":
                part = self._between(part, "NOT BETWEEN" if negated else "BETWEEN")
            elif negated:
                raise self._expected("LIKE, IN or BETWEEN")
            else:
                return part

    def _compared(self, left: Part, sign: str, right: Part) -> Part:
        if sign in ("=", "<>") and self._is_listable(left, right):
            self._count_value()
            return member(Membership(str(left.column), sign == "<>", (right.sql,)))
        self._spend(1)
        return within(f"({left.sql} {sign} {right.sql})", left, right)

    def _is_listable(self, left: Part, right: Part) -> bool:
        """Whether a list would compare the value as the sign does, and not convert it otherwise."""
        if left.column is None or right.literal in (None, "other"):
            return False
        return self._columns.get(left.column) == right.literal

    def _like(self, part: Part, word: str) -> Part:
        self._advance()
        pattern = self._pattern("LIKE")
        if self._accept("ESCAPE") and self._take("text", "a text").text != "\\":
            raise NoCondition(r"only \ can be the ESCAPE of LIKE, and is without saying so")
        self._spend(vocabulary.WORK_OF_A_CALL + len(pattern) // 10)
        if {"%", "_"} & set(pattern.strip("%")):  # else it is a search for a text
            self._effort += vocabulary.WORK_OF_A_LETTER * len(pattern)
        return within(f"({part.sql} {word} {quoted(pattern)})", part)

    def _in(self, part: Part, *, negated: bool) -> Part:
        self._advance()
        self._require("(")
        self._spend(1)
        items = [self._listed()]
        while self._accept(","):
            items.append(self._listed())
        self._require(")")
        values = tuple(item.sql for item in items)
        if all(self._is_listable(part, item) for item in items):
            return member(Membership(str(part.column), negated, values))
        sql = f"({part.sql} {'NOT IN' if negated else 'IN'} ({', '.join(values)}))"
        return within(sql, within("", part, *items))

    def _listed(self) -> Part:
        item = self._sum()
        if item.literal is None:
            self._spend(1)
        self._count_value()
        return item

    def _between(self, part: Part, word: str) -> Part:
        self._advance()
        self._spend(2)
        low = self._sum()
        self._require("AND")
        high = self._sum()
        sql = f"({part.sql} {word} {low.sql} AND {high.sql})"
        return within(sql, part, low, high, times=vocabulary.REPEATED_IN_BETWEEN)

    def _sum(self) -> Part:
        part = self._product()
        while (sign := self._next.upper) in ("+", "-", "||"):
            self._advance()
            self._spend(vocabulary.WORK_OF_A_CALL if sign == "||" else 1)
            right = self._product()
            part = within(f"({part.sql} {sign} {right.sql})", part, right)
        return part

    def _product(self) -> Part:
        part = self._single()
        while (sign := self._next.upper) in ("*", "/", "%"):
            self._advance()
            self._spend(1)
            right = self._single()
            part = within(f"({part.sql} {sign} {right.sql})", part, right)
        return part

    def _single(self) -> Part:
        if self._next.upper in ("-", "+"):
            sign = self._advance().text
            self._enter()
            part = self._single()
            self._depth -= 1
            if sign == "+":
                return part
            if part.literal is not None and not part.sql.startswith(("-", "'")):
                return Part(f"-{part.sql}", literal=part.literal)
            return within(f"(- {part.sql})", part)
        part = self._value()
        while self._accept("::"):
            part = self._cast_of(part, "CAST")
        return part

    def _value(self) -> Part:
        token = self._next
        if token.kind == "text":
            self._advance()
            sql = quoted(token.text)
            return Part(sql, size=size_of(sql), literal="text")
        if token.kind == "number":
            self._advance()
            return _number(token)
        if token.kind == "name":
            self._advance()
            return self._column(token)
        if token.upper == "(":
            self._advance()
            self._enter()
            part = self._either()
            self._leave()
            return part
        if token.kind != "word":
            raise self._expected("a value, a column or (")
        return self._word()

    def _word(self) -> Part:
        word = self._next.upper
        if word in ("TRUE", "FALSE", "NULL"):
            return Part(self._advance().upper, literal="other")
        if word == "CASE":
            return self._case()
        if word in vocabulary.RESERVED:
            raise self._expected("a value, a column or (")
        token = self._advance()
        if self._next.upper == "(":
            return self._call(token)
        if word in ("DATE", "TIMESTAMP", "INTERVAL") and self._next.kind == "text":
            return Part(f"{word} {quoted(self._short(self._advance()))}", 1)
        if word in vocabulary.WITHOUT_BRACKETS and token.text not in self._columns:
            return Part(f"{vocabulary.WITHOUT_BRACKETS[word]}()", 1)
        return self._column(token)

    def _case(self) -> Part:
        self._advance()
        self._enter()
        parts = []
        sql = "(CASE"
        if self._next.upper != "WHEN":
            parts.append(self._either())
            sql += f" {parts[-1].sql}"
        while self._accept("WHEN"):
            self._spend(1)
            parts.append(self._either())
            self._require("THEN")
            parts.append(self._either())
            sql += f" WHEN {parts[-2].sql} THEN {parts[-1].sql}"
        if self._accept("ELSE"):
            parts.append(self._either())
            sql += f" ELSE {parts[-1].sql}"
        if len(parts) < 2:
            raise self._expected("WHEN … THEN …")
        self._require("END")
        self._depth -= 1
        inner = within("", *parts, times=vocabulary.REPEATED_IN_CASE)
        return within(f"{sql} END)", inner)

    def _call(self, token: Token) -> Part:
        self._advance()
        self._enter()
        name = token.text.lower()
        if name in ("cast", "try_cast"):
            part = self._either()
            self._require("AS")
            part = self._cast_of(part, name.upper())
            self._leave()
            return part
        if name == "extract":
            unit = self._advance()
            if unit.upper not in vocabulary.PARTS_OF_TIME:
                raise NoCondition(f"EXTRACT gives {', '.join(sorted(vocabulary.PARTS_OF_TIME))}")
            self._require("FROM")
            part = self._either()
            self._spend(vocabulary.WORK_OF_A_CALL)
            self._leave()
            return within(f"date_part('{unit.text.lower()}', {part.sql})", part)
        if name == "glob":
            return self._glob()
        must_be_values = vocabulary.FUNCTIONS.get(name)
        if must_be_values is None:
            raise NoCondition(
                f"there is no function {brief(token.text, 40)} here: there are glob, extract, "
                f"cast, try_cast, {', '.join(vocabulary.FUNCTIONS)}"
            )
        arguments: list[Part] = []
        while self._next.upper != ")":
            if arguments:
                self._require(",")
            arguments.append(self._argument(name, len(arguments), must_be_values))
            self._spend(vocabulary.WORK_OF_A_CALL)
        self._spend(vocabulary.WORK_OF_A_CALL)
        self._leave()
        sql = f"{name}({', '.join(part.sql for part in arguments)})"
        return within(sql, *arguments, times=vocabulary.REPEATED.get(name, 1))

    def _argument(self, name: str, number: int, must_be_values: Set[int]) -> Part:
        if number not in must_be_values:
            return self._either()
        text = self._pattern(name)
        if name == "regexp_like" and number == 1:
            self._look_at(text)
        if name == "regexp_like" and number == 2 and not _FLAGS.fullmatch(text):
            raise NoCondition("regexp_like takes the flags i, m, s, x, U and R")
        return Part(quoted(text), literal="text")

    def _glob(self) -> Part:
        part = self._either()
        self._require(",")
        pattern = self._pattern("glob")
        self._spend(vocabulary.WORK_OF_A_CALL + len(pattern))
        self._effort += vocabulary.WORK_OF_A_LETTER * len(pattern)
        self._leave()
        return within(f"regexp_like({part.sql}, {quoted(glob_expression(pattern))})", part)

    def _look_at(self, expression: str) -> None:
        """That a regular expression is bounded: matching takes its size for every letter."""
        self._spend(vocabulary.WORK_OF_A_LETTER * len(expression))
        repeats = 1
        for least, most in _COUNTED.findall(_NOT_COUNTED.sub("", expression)):
            repeats *= max(1, int(least[:9]), int(most[:9] or 0))
        if repeats > vocabulary.MOST_REPEATS:
            raise NoCondition(
                f"its regular expression repeats a part {repeats:,} times, and "
                f"{vocabulary.MOST_REPEATS:,} are allowed, all {{…}} multiplied"
            )
        self._effort += vocabulary.WORK_OF_A_LETTER * len(expression) * repeats

    def _cast_of(self, part: Part, word: str) -> Part:
        name = self._advance()
        kind = vocabulary.TYPES.get(name.upper)
        if kind is None:
            raise NoCondition(
                f"there is no type {brief(name.text, 40)} here: there are "
                f"{', '.join(vocabulary.TYPES)}"
            )
        self._spend(vocabulary.WORK_OF_A_CALL)
        return within(f"{word}({part.sql} AS {kind})", part)

    def _column(self, token: Token) -> Part:
        if token.text not in self._columns and self._unknown is None:
            self._unknown = f"there is no column {brief(token.text, 60)}"
            if token.kind == "name":
                self._unknown += " (a text stands between ', not between \" or `)"
        return Part(f"`{token.text}`", column=token.text)

    def _pattern(self, of: str) -> str:
        token = self._take("text", f"a text written out, which {of} needs there,")
        return self._short(token)

    def _short(self, token: Token) -> str:
        if len(token.text) > vocabulary.LONGEST_PATTERN:
            raise NoCondition(
                f"a pattern of {len(token.text):,} characters, and "
                f"{vocabulary.LONGEST_PATTERN:,} are allowed"
            )
        return token.text

    def _enter(self) -> None:
        self._depth += 1
        Part("", self._depth)  # which refuses what is too deep

    def _leave(self) -> None:
        self._require(")")
        self._depth -= 1

    def _spend(self, work: int) -> None:
        self._work += work
        self._effort += work
        if self._work > vocabulary.MOST_WORK:
            raise NoCondition(
                f"it asks too much of each file: at most {vocabulary.MOST_WORK:,} comparisons, a "
                f"function or LIKE counting as {vocabulary.WORK_OF_A_CALL} and each letter of a "
                f"regular expression as {vocabulary.WORK_OF_A_LETTER}; of many values make one "
                "list, as in: path IN ('a', 'b')"
            )

    def _count_value(self) -> None:
        self._values += 1
        if self._values > vocabulary.MOST_VALUES:
            raise NoCondition(
                f"it lists more than {vocabulary.MOST_VALUES:,} values: ask in parts, or give the "
                "files a column of your own (maxsight annotate)"
            )

    def _advance(self) -> Token:
        token = self._next
        if token.kind != "end":
            self._next = next(self._tokens)
        return token

    def _accept(self, word: str) -> bool:
        if self._next.upper != word:
            return False
        self._advance()
        return True

    def _require(self, word: str) -> None:
        if not self._accept(word):
            raise self._expected(word)

    def _take(self, kind: str, what: str) -> Token:
        if self._next.kind != kind:
            raise self._expected(what)
        return self._advance()

    def _expected(self, what: str) -> NoCondition:
        at = "" if self._next.kind == "end" else f" at character {self._next.start + 1}"
        return NoCondition(f"expected {what}{at}, found{_of(self._next)}")


def _number(token: Token) -> Part:
    if len(token.text) > 400:
        raise NoCondition(f"a number of {len(token.text):,} digits")
    is_integer = token.text.isdigit() and int(token.text) < 2**63
    return Part(token.text, literal="integer" if is_integer else "other")


def _of(token: Token) -> str:
    return f" {token}" if token.kind == "end" else str(token)

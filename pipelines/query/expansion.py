"""Other words for a query: a file of phrases whose vectors are averaged.

Descriptions that a language model wrote of a thing (CuPL) or prompt templates make a better vector
than the bare name does, because what is peculiar to one phrase averages out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from maxsight import strict_json
from maxsight.errors import UsageError
from maxsight.pipelines.query.language import Term

_ANY = "*"


@dataclass(frozen=True)
class Expansion:
    """Phrases by the text that they stand for.

    Attributes:
        phrases: text, as ``_key`` spells it -> its phrases.
        templates: with ``{}`` for any text that has no phrases of its own.
    """

    phrases: Mapping[str, tuple[str, ...]]
    templates: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Expansion:
        """Read a JSON object of text -> list of phrases.

        The text ``*`` stands for all others; its phrases are templates with ``{}`` in them.

        Raises:
            UsageError: no such file, or it holds something else.
        """
        try:
            content = strict_json.read(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read phrases from {path}: {error}") from error
        if not isinstance(content, dict) or not all(map(_is_list, content.values())):
            raise UsageError(
                f'{path} must hold a JSON object such as {{"heron": ["a tall grey bird", "a bird '
                'standing in shallow water"], "*": ["a photo of {}"]}'
            )
        templates = tuple(content.pop(_ANY, ()))
        if wrong := [template for template in templates if "{}" not in template]:
            raise UsageError(f"{path}: the template {wrong[0]!r} must have {{}} for the text")
        return cls({_key(text): tuple(phrases) for text, phrases in content.items()}, templates)

    def apply(self, terms: Iterable[Term]) -> tuple[Term, ...]:
        """The same terms, those of text with their phrases."""
        return tuple(
            term if term.text is None else replace(term, phrases=self.of(term.text))
            for term in terms
        )

    def of(self, text: str) -> tuple[str, ...]:
        """The phrases to average for a text, at least one; without any, the text itself."""
        templated = tuple(template.replace("{}", text) for template in self.templates)
        return self.phrases.get(_key(text)) or templated or (text,)


def _key(text: str) -> str:
    """Upper and lower case, and how many blanks, make no difference."""
    return " ".join(text.casefold().split())


def _is_list(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(phrase, str) and phrase.strip() for phrase in value)
    )

"""What can be asked of a library: searches, moments, lists and figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from maxsight.arguments import choices, many_texts, one_path, one_place
from maxsight.errors import UsageError
from maxsight.library.handle import Handle

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from maxsight.index.records import Kind
    from maxsight.library.info import LibraryInfo
    from maxsight.pipelines.moments.windows import Moment
    from maxsight.pipelines.query.expansion import Expansion
    from maxsight.pipelines.query.language import Query, Rerank, Term
    from maxsight.pipelines.search.evaluate import Evaluation
    from maxsight.pipelines.search.search import Hit, SearchResult


class Reader(Handle):
    """Reading takes no lock that a writer holds; the threads that read share what is in memory."""

    def search(
        self,
        text: str | None = None,
        *,
        image: str | os.PathLike[str] | None = None,
        minus: str | Sequence[str] = (),
        vector: np.ndarray | None = None,
        k: int = 10,
        where: str | None = None,
        kinds: Kind | Iterable[Kind] | None = None,
        include_references: bool = False,
        rerank: Rerank = "auto",
        phrases: str | os.PathLike[str] | None = None,
    ) -> list[Hit]:
        """Find files by a text, a picture, a vector or several of these.

        Args:
            text: what to find; beside ``image``, what to change about it.
            image: path of a reference picture; it is left out of the answer itself.
            minus: what there should be less of; each counts half. :meth:`query` takes weights.
            vector: (D,) in the library's space.
            k: how many files at most.
            where: SQL over the item columns, say ``"width > 1000"``.
            kinds: ``image``, ``video`` or both.
            include_references: do not leave the reference picture out.
            rerank: ``auto``, ``on`` or ``off``: whether texts are scored by the stored tokens, too.
            phrases: JSON file of other words for texts, whose vectors are averaged
                (``maxsight.pipelines.query.expansion``).

        Returns:
            Hits, best first. :meth:`query` also tells where the time went.
        """
        from maxsight.index.records import KINDS
        from maxsight.pipelines.query.language import Query

        terms = _terms(text=text, image=image, minus=minus, vector=vector)
        expansion = _expansion(phrases)
        return self.query(
            Query(
                terms if expansion is None else expansion.apply(terms),
                k=k,
                where=where,
                kinds=None if kinds is None else choices(kinds, KINDS, what="a kind"),
                include_references=include_references,
                rerank=rerank,
            )
        ).hits

    def query(self, query: Query) -> SearchResult:
        """Answer a query with any number of weighted terms."""
        from maxsight.pipelines.search.search import search

        encoder = self._query_encoder()
        return search(self._store().snapshot(), query, encoder)

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Answer queries together: the answers of :meth:`query`, in their order, in less time.

        Of texts that nobody has asked for before, scores may differ by a rounding: an encoder's
        sums differ in batches of other sizes.
        """
        from maxsight.pipelines.query.language import Query
        from maxsight.pipelines.search.search import search_many

        if not isinstance(queries, Sequence) or not all(isinstance(own, Query) for own in queries):
            raise UsageError("queries must be a list of Query")
        return search_many(self._store().snapshot(), queries, self._query_encoder())

    def moments(
        self,
        text: str | None = None,
        *,
        image: str | os.PathLike[str] | None = None,
        minus: str | Sequence[str] = (),
        k: int = 5,
        within: str | os.PathLike[str] | None = None,
    ) -> list[Moment]:
        """Find the spans of films in which something is seen, best first.

        Args:
            text, image, minus: as in :meth:`search`.
            k: how many spans at most, over the whole library.
            within: only in this film.
        """
        return self.moments_of(_terms(text=text, image=image, minus=minus), k=k, within=within)

    def moments_of(
        self,
        terms: Sequence[Term],
        *,
        k: int = 5,
        within: str | os.PathLike[str] | None = None,
    ) -> list[Moment]:
        """:meth:`moments` for any number of weighted terms."""
        from maxsight.pipelines.ingestion.walk import absolute
        from maxsight.pipelines.moments.windows import search_moments
        from maxsight.pipelines.query.language import Term

        if not isinstance(terms, Sequence) or not all(isinstance(term, Term) for term in terms):
            raise UsageError("terms must be a list of Term")
        snapshot = self._store().snapshot()
        query = self._query_encoder().encode(snapshot, terms)
        film = None if within is None else absolute(one_path(within, what="the film"))
        return search_moments(snapshot, query.vector, k=k, path=film)

    def evaluate(
        self,
        queries: str | os.PathLike[str],
        *,
        depth: int = 100,
        rerank: Rerank = "auto",
        phrases: str | os.PathLike[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Evaluation:
        """Measure how well the library answers queries whose right answers are known.

        Args:
            queries: CSV with the columns text and path
                (``maxsight.pipelines.search.evaluate.read_queries``).
            depth: how many answers of each query to look at, at least 10.
            rerank, phrases: as in :meth:`search`.
            progress: called after every query with how many are done, and how many there are.

        Raises:
            UsageError: the file is not such a table, or names files the library does not hold.
        """
        from maxsight.pipelines.search.evaluate import evaluate_search, read_queries

        judged = read_queries(one_place(queries, what="the table"))
        return evaluate_search(
            self._store().snapshot(),
            judged,
            self._query_encoder(),
            rerank=rerank,
            expansion=_expansion(phrases),
            depth=depth,
            progress=progress,
        )

    def items(self, *, where: str | None = None) -> pa.Table:
        """The files in the library, a row each; the columns are listed in docs/storage.md."""
        return self._store().items(where=where)

    def info(self) -> LibraryInfo:
        """Counts, encoder and size."""
        from maxsight.library.info import LibraryInfo

        return LibraryInfo.of(self._store(), self.path)

    def failures(self) -> dict[str, str]:
        """Path -> reason of each file that could not be read.

        Of a file that changed, and whose former content is kept, the reason says so.
        """
        return self._store().reasons()

    def remarks(self) -> dict[str, str]:
        """Path -> what a person should know about a file that was read, say that it breaks off."""
        return self._store().remarks()


def _expansion(phrases: str | os.PathLike[str] | None) -> Expansion | None:
    if phrases is None:
        return None
    from maxsight.pipelines.query.expansion import Expansion

    return Expansion.read(one_place(phrases, what="the table of phrases"))


def _terms(
    *,
    text: str | None = None,
    image: str | os.PathLike[str] | None = None,
    minus: str | Sequence[str] = (),
    vector: np.ndarray | None = None,
) -> tuple[Term, ...]:
    from maxsight.models.compose import MINUS_WEIGHT
    from maxsight.pipelines.query.language import Term

    terms = []
    if image is not None:
        terms.append(Term(image=one_place(image, what="an image")))
    if text is not None:
        terms.append(Term(text=text))
    if vector is not None:
        terms.append(Term(vector=vector))
    unwanted = many_texts(minus, what="minus")
    terms += [Term(text=word, weight=-MINUS_WEIGHT) for word in unwanted]
    if not terms:
        raise UsageError("an empty query: give a text, an image or a vector")
    return tuple(terms)

"""A library of pictures and films: what users hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from maxsight import settings
from maxsight.errors import EncoderError, EncoderMismatch, LibraryNotFound, UsageError
from maxsight.index.records import Changes, Kind

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from maxsight.index.annotations import Annotation
    from maxsight.index.derived.building import IndexReport, Step
    from maxsight.index.manifest import Manifest
    from maxsight.index.store import Store
    from maxsight.index.upkeep.verify import Verification
    from maxsight.library_info import LibraryInfo
    from maxsight.models.encoder import Encoder
    from maxsight.pipelines.evaluate import Evaluation
    from maxsight.pipelines.moments import Moment
    from maxsight.pipelines.report import IngestReport, Progress, Stage
    from maxsight.pipelines.search import Hit, Query, Rerank, SearchResult, Term
    from maxsight.pipelines.text_cache import TextCache

_DEFAULT_ENCODER = "builtin"


def open(
    path: str | os.PathLike[str], *, encoder: str | None = None, device: str = "auto"
) -> Library:
    """Open a library, or name one that the first :meth:`Library.add` will create.

    Args:
        path: a folder, by custom ``NAME.maxsight``.
        encoder: URI (``maxsight.models.encoder.load``). Default: the one the library was made
            with, or ``builtin`` for a new one.
        device: where the encoder computes: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.

    Raises:
        EncoderMismatch: the library was made with another encoder.
        SchemaTooNew, LibraryError: it cannot be read.
    """
    return Library(path, encoder=encoder, device=device)


class Library:
    """Pictures and films with their vectors, in one folder.

    Reading never waits and never locks; ``add``, ``remove`` and ``compact`` hold the library's
    only write lock while they run. Not safe to share among threads.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, encoder: str | None = None, device: str = "auto"
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self._requested = encoder
        self._device = device
        self._encoder: Encoder | None = None
        self._reader: Store | None = None
        self._cache: TextCache | None = None
        if self.exists():
            self._check_request()

    def exists(self) -> bool:
        """Whether there is a library at ``path`` yet."""
        return (self.path / "library.json").exists()

    @property
    def encoder(self) -> Encoder:
        """The library's encoder, loaded on first use.

        Raises:
            EncoderMismatch: the weights on this machine are not those it was made with.
        """
        if self._encoder is None:
            from maxsight.models.encoder import load

            uri = self._store().manifest.encoder_uri if self.exists() else self._requested
            encoder = load(uri or _DEFAULT_ENCODER, device=self._device)
            if self.exists() and encoder.fingerprint != self._store().manifest.fingerprint:
                raise EncoderMismatch(
                    f"{self.path} was made with other weights of {encoder.uri}: its vectors and "
                    "new ones would not compare. Install the version it was made with, or index "
                    "the files into a new library"
                )
            self._encoder = encoder
        return self._encoder

    def add(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        fps: float = 1.0,
        batch_size: int | None = None,
        tokens: bool | None = None,
        token_limit: int | None = None,
        index: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Bring the library up to date with files and folders: new, changed, moved and gone.

        Args:
            paths: files, or folders that are searched through.
            fps: frames a second taken from films.
            batch_size: pictures encoded at once; by default 256 on a GPU, 8 by each core of a
                processor.
            tokens: also store patch embeddings, by which texts are then scored, too. None: as the
                library was made; a new one stores them if ``token_limit`` is given.
            token_limit: how many a picture keeps at most, the most similar being merged. None: as
                the library was made; a new one keeps all.
            index: how vectors are searched from now on, say ``exact`` or ``IVF1024,SQ8+int8``
                (docs/indexes.md). None: as before, and ``auto`` at first, which stays exact until
                there are so many vectors that an index pays.
            progress: called a few times a second.

        Returns:
            Counts, and each file that could not be read with its reason.

        Raises:
            LibraryLocked: another process is writing.
            UsageError: the library was made with other tokens.
            EncoderError: the encoder gives none.
        """
        from maxsight.index.derived import building
        from maxsight.index.store import Store
        from maxsight.pipelines.ingest import ingest

        if token_limit is not None and (token_limit < 1 or tokens is False):
            raise UsageError(
                f"token_limit={token_limit} must be at least 1, and needs tokens to limit"
            )

        roots = [os.path.abspath(os.path.expanduser(os.fspath(path))) for path in paths]
        if not self.exists():
            encoder = self.encoder
            Store.create(
                self.path,
                encoder_uri=encoder.uri,
                fingerprint=encoder.fingerprint,
                dim=encoder.dim,
                token_dim=self._new_token_dim(tokens or token_limit is not None),
                token_limit=token_limit,
                mix=None if encoder.mix is None else asdict(encoder.mix),
            ).close()
        with Store.open(self.path, write=True) as store:
            self._check_tokens(store.manifest, tokens, token_limit)
            report = ingest(
                store,
                lambda: self.encoder,
                roots,
                fps=fps,
                batch_size=batch_size,
                progress=progress,
            )
            # One commit every few seconds leaves many small files; readers open few large ones.
            store.compact()
            building.bring_up_to_date(store, index, texts=self._texts, step=_stepper(progress))
        return report

    def tune_index(
        self,
        *,
        recall: float = 0.95,
        index: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IndexReport:
        """Measure the vector index and choose the fastest setting that finds enough.

        Recall is the share of the true ten best that is found, by pictures and by texts.

        Args:
            recall: to reach, above 0 and below 1.
            index: make it anew as this, say ``auto``. None: measure the one there is, or make the
                one that ``auto`` names.
            progress: called as by :meth:`add`.

        Raises:
            LibraryLocked: another process is writing.
            UsageError: no such index.
            BudgetError: making it needs more memory than it may take (``MAXSIGHT_MEMORY``).
        """
        from maxsight.index.derived import building, generations
        from maxsight.index.store import Store

        if not 0 < recall < 1:
            raise UsageError(f"recall={recall} must lie between 0 and 1, say 0.95")
        self._store()
        step = _stepper(progress)
        with Store.open(self.path, write=True) as store:
            made = None
            if index is not None or store.snapshot().state.built is None:
                spec = index or generations.wanted(store.path) or "auto"
                made = building.build(store, spec, recall=recall, texts=self._texts, step=step)
                if index is not None:
                    building.remember(store, index)
            tuned = building.tune(store, recall=recall, texts=self._texts, step=step)
        return tuned if made is None else replace(tuned, action=made.action, why=made.why)

    def search(
        self,
        text: str | None = None,
        *,
        image: str | os.PathLike[str] | None = None,
        minus: str | Sequence[str] = (),
        vector: np.ndarray | None = None,
        k: int = 10,
        where: str | None = None,
        kinds: Iterable[Kind] | None = None,
        include_references: bool = False,
        rerank: Rerank = "auto",
        phrases: str | os.PathLike[str] | None = None,
    ) -> list[Hit]:
        """Find files by a text, a picture, a vector or a mix of them.

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
            phrases: JSON file of other words for texts, averaged (``pipelines.expansion``).

        Returns:
            Hits, best first. :meth:`query` also tells where the time went.
        """
        from maxsight.pipelines.search import Query

        terms = _terms(text=text, image=image, minus=minus, vector=vector)
        if phrases is not None:
            from maxsight.pipelines.expansion import Expansion

            terms = Expansion.read(Path(phrases).expanduser()).apply(terms)
        return self.query(
            Query(
                terms,
                k=k,
                where=where,
                kinds=frozenset(kinds) if kinds is not None else None,
                include_references=include_references,
                rerank=rerank,
            )
        ).hits

    def query(self, query: Query) -> SearchResult:
        """Answer a query with any number of weighted terms."""
        from maxsight.pipelines.search import search

        return search(
            self._store().snapshot(),
            query,
            fingerprint=self._store().manifest.fingerprint,
            encoder=lambda: self.encoder,
            cache=self._text_cache(),
        )

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
        from maxsight.pipelines.moments import search_moments
        from maxsight.pipelines.search import encode_query

        snapshot = self._store().snapshot()
        query = encode_query(
            snapshot,
            terms,
            fingerprint=self._store().manifest.fingerprint,
            encoder=lambda: self.encoder,
            cache=self._text_cache(),
        )
        film = os.path.abspath(os.path.expanduser(os.fspath(within))) if within else None
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
            queries: CSV with the columns text and path (``pipelines.evaluate.read_queries``).
            depth: how many answers of each query to look at, at least 10.
            rerank, phrases: as in :meth:`search`.
            progress: called after every query with how many are done, and how many there are.

        Raises:
            UsageError: the file is not such a table, or names files the library does not hold.
        """
        from maxsight.pipelines.evaluate import evaluate_search, read_queries, require_known
        from maxsight.pipelines.expansion import Expansion

        judged = read_queries(Path(queries).expanduser())
        require_known(judged, set(self.items()["path"].to_pylist()))
        return evaluate_search(
            self._store().snapshot(),
            judged,
            fingerprint=self._store().manifest.fingerprint,
            encoder=lambda: self.encoder,
            cache=self._text_cache(),
            rerank=rerank,
            expansion=Expansion.read(Path(phrases).expanduser()) if phrases else None,
            depth=depth,
            progress=progress,
        )

    def items(self, *, where: str | None = None) -> pa.Table:
        """The files in the library, a row each; the columns are listed in docs/storage.md."""
        return self._store().items(where=where)

    def remove(self, paths: Iterable[str | os.PathLike[str]]) -> int:
        """Take files out of the library (the files themselves stay where they are).

        Args:
            paths: files, or folders: then everything under them.

        Returns:
            How many items were removed.
        """
        from maxsight.index.store import Store

        roots = [os.path.abspath(os.path.expanduser(os.fspath(path))) for path in paths]
        self._store()
        with Store.open(self.path, write=True) as store:
            gone = [
                item.item_id
                for path, item in store.known().items()
                if any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)
            ]
            if gone:
                store.apply(Changes(removed=gone))
        return len(gone)

    def compact(self) -> None:
        """Give back the space of removed and replaced files."""
        from maxsight.index.store import Store

        self._store()
        with Store.open(self.path, write=True) as store:
            store.compact()

    def annotate(self, annotations: pa.Table | str | os.PathLike[str]) -> Annotation:
        """Give files columns of your own, which ``where`` may name from then on.

        Args:
            annotations: a table, or a CSV file (``maxsight.index.annotations.read_table``), with
                the column ``path`` and others. A file keeps them when it changes or moves.

        Returns:
            What was filled, and the paths that the library does not hold.

        Raises:
            UsageError: a column cannot be one, or a path is there twice.
        """
        from maxsight.index.annotations import read_table
        from maxsight.index.store import Store

        if isinstance(annotations, str | os.PathLike):
            annotations = read_table(Path(annotations).expanduser())
        self._store()
        with Store.open(self.path, write=True) as store:
            return store.annotate(annotations)

    def verify(
        self, *, repair: bool = False, progress: Callable[[str, int, int], None] | None = None
    ) -> Verification:
        """Compare every file with its checksum, and the tables and indexes with each other.

        Args:
            repair: take out what is damaged, so that :meth:`add` makes it again.
            progress: called with what is compared, how far it is, and how far it goes.

        Raises:
            LibraryError: it cannot be read, or not be repaired.
        """
        from maxsight.index.upkeep.verify import verify

        if repair:
            self.close()
        return verify(self.path, repair=repair, progress=progress)

    def info(self) -> LibraryInfo:
        """Counts, encoder and size."""
        from maxsight.library_info import LibraryInfo

        return LibraryInfo.of(self._store(), self.path)

    def failures(self) -> dict[str, str]:
        """Path -> reason of each file that could not be read."""
        return {path: failure.reason for path, failure in self._store().failures().items()}

    def close(self) -> None:
        """Let go of files and memory. The library can be used again afterwards."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _store(self) -> Store:
        if self._reader is None:
            from maxsight.index.store import Store

            if not self.path.exists():
                raise LibraryNotFound(
                    f"there is no library at {self.path}; make one with: "
                    f"maxsight index {self.path.name} FOLDER"
                )
            self._reader = Store.open(self.path)
        return self._reader

    def _new_token_dim(self, wanted: bool) -> int | None:
        if wanted and self.encoder.token_dim is None:
            raise EncoderError(
                f"{self.encoder.uri} gives no patch embeddings; index without tokens, or with "
                "another encoder (maxsight encoders)"
            )
        return self.encoder.token_dim if wanted else None

    def _check_tokens(
        self, manifest: Manifest, tokens: bool | None, token_limit: int | None
    ) -> None:
        stored, limit = manifest.token_dim is not None, manifest.token_limit
        differs = tokens is not None and tokens != stored
        if differs or (token_limit is not None and (not stored or token_limit != limit)):
            kept = f"at most {limit} tokens" if limit else "all tokens" if stored else "no tokens"
            raise UsageError(
                f"{self.path} was made to keep {kept} of a picture, which cannot be changed: leave "
                "tokens and their limit out, or index the files into a new library"
            )

    def _check_request(self) -> None:
        from maxsight.models.options import parse

        made_with = self._store().manifest.encoder_uri
        if self._requested is not None and str(parse(self._requested)) != made_with:
            raise EncoderMismatch(
                f"{self.path} was made with the encoder {made_with}, not {self._requested}: leave "
                "the encoder out, or index the files into a new library"
            )

    def _texts(self) -> np.ndarray:
        from maxsight.pipelines.known_texts import known_texts

        return known_texts(self._text_cache(), self.encoder)

    def _text_cache(self) -> TextCache:
        if self._cache is None:
            from maxsight.pipelines.text_cache import TextCache

            self._cache = TextCache(settings.cache_directory() / "texts.sqlite")
        return self._cache


def _stepper(progress: Callable[[Progress], None] | None) -> Step | None:
    """What tells ``progress`` how far an index is."""
    if progress is None:
        return None
    from maxsight.pipelines.report import Progress

    def step(stage: Stage, done: int, total: int) -> None:
        progress(Progress(stage, done, total))

    return step


def _terms(
    *,
    text: str | None = None,
    image: str | os.PathLike[str] | None = None,
    minus: str | Sequence[str] = (),
    vector: np.ndarray | None = None,
) -> tuple[Term, ...]:
    from maxsight.models.compose import MINUS_WEIGHT
    from maxsight.pipelines.search import Term

    terms = []
    if image is not None:
        terms.append(Term(image=Path(image).expanduser()))
    if text is not None:
        terms.append(Term(text=text))
    if vector is not None:
        terms.append(Term(vector=vector))
    unwanted = [minus] if isinstance(minus, str) else minus
    terms += [Term(text=word, weight=-MINUS_WEIGHT) for word in unwanted]
    if not terms:
        raise UsageError("an empty query: give a text, an image or a vector")
    return tuple(terms)

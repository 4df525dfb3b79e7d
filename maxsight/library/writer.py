"""What changes a library, or looks after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from maxsight.arguments import (
    many_paths,
    many_texts,
    one_path,
    one_place,
    positive_number,
    whole_number,
)
from maxsight.errors import BudgetError, EncoderError, UsageError
from maxsight.index.records import Changes
from maxsight.library.handle import Handle

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from maxsight.index.building.progress import OnProgress
    from maxsight.index.building.vector_index import IndexReport
    from maxsight.index.store import Store
    from maxsight.index.tables.annotations import Annotation
    from maxsight.index.tables.manifest import Manifest
    from maxsight.index.verify.verify import Verification
    from maxsight.pipelines.ingestion.relocate import Relocation
    from maxsight.pipelines.ingestion.report import IngestReport, Progress


class Writer(Handle):
    """Each call holds the library's only write lock while it runs.

    Threads that share a writer take turns. Another object or process that writes meanwhile gets
    :class:`maxsight.errors.LibraryLocked`.
    """

    def add(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        fps: float | None = None,
        exclude: str | Iterable[str] = (),
        prune: bool = False,
        batch_size: int | None = None,
        tokens: bool | None = None,
        token_limit: int | None = None,
        index: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Bring the library up to date with files and folders: new, changed, moved and gone.

        Args:
            paths: files, or folders that are searched through.
            fps: frames a second taken from films; films that were read with another number are
                read again. None: 1, and films that the library holds keep theirs.
            exclude: patterns of files and folders to leave out, as in a ``.gitignore``; a file
                ``.maxsightignore`` in a folder can hold some, too.
            prune: also remove files where a whole folder is empty or gone, as it is when a disk is
                not mounted. Else they are kept, and a warning says so.
            batch_size: pictures encoded at once; by default 256 on a GPU, 8 by each core of a
                processor.
            tokens: also store patch embeddings, by which texts are then scored, too. None: as the
                library was made; a new one stores them if ``token_limit`` is given.
            token_limit: how many a unit (a picture, a square of a long one, a frame) keeps at most,
                the most similar being merged. None: as the library was made; a new one keeps all.
            index: how vectors are searched from now on, say ``exact`` or ``IVF1024,SQ8+int8``
                (docs/indexes.md). None: as before, and ``auto`` at first, which stays exact until
                there are so many vectors that an index pays.
            progress: called a few times a second.

        Returns:
            Counts, and each file that could not be read with its reason.

        Raises:
            LibraryLocked: another process, or another object of this one, is writing.
            UsageError: the library was made with other tokens; no such index.
            EncoderError: the encoder gives none.
            BudgetError: making the index that was named needs more memory than it may take.
        """
        from maxsight.index.ann import auto
        from maxsight.index.building import vector_index
        from maxsight.pipelines.ingestion.ingest import ingest

        given = many_paths(paths)
        fps = None if fps is None else positive_number(fps, what="fps")
        if batch_size is not None:
            batch_size = whole_number(batch_size, what="batch_size")
        if token_limit is not None:
            token_limit = whole_number(token_limit, what="token_limit")
            if tokens is False:
                raise UsageError(f"token_limit={token_limit} needs tokens to limit")
        if index is not None:
            auto.check(index, self._store().manifest.dim if self.exists() else self.encoder.dim)
        with self._turn:
            if not self.exists():
                self._create(tokens, token_limit)
        with self._open_for_writing() as store:
            self._check_tokens(store.manifest, tokens, token_limit)
            report = ingest(
                store,
                lambda: self.encoder,
                given,
                fps=fps,
                exclude=many_texts(exclude, what="exclude"),
                prune=prune,
                batch_size=batch_size,
                progress=progress,
            )
            # One commit every few seconds leaves many small files; readers open few large ones.
            store.compact()
            try:
                made = vector_index.bring_up_to_date(
                    store.snapshot(),
                    index,
                    texts=self._texts,
                    progress=_on_progress(progress),
                    device=self._device,
                )
                report = replace(report, index=made)
            except BudgetError as error:
                if index is not None:
                    raise
                warnings = (*report.warnings, f"no index was made: {error}")
                report = replace(report, warnings=warnings)
        return report

    def remove(self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> int:
        """Take files out of the library (the files themselves stay where they are).

        Args:
            paths: files, or folders: then everything under them; one, or several.

        Returns:
            How many items were removed.

        Raises:
            UsageError: the library knows nothing at one of them. Nothing was removed.
        """
        from maxsight.pipelines.ingestion.walk import absolute, is_under

        roots = [absolute(path) for path in many_paths(paths)]
        with self._open_for_writing() as store:
            known = store.known()
            failures = store.failures()
            everything = [*known, *failures]
            for root in roots:
                if not any(is_under(path, root) for path in everything):
                    raise UsageError(
                        f"the library knows nothing at {root}, so nothing was removed; maxsight "
                        "list tells what it holds"
                    )
            gone = [
                item.item_id
                for path, item in known.items()
                if any(is_under(path, root) for root in roots)
            ]
            forgotten = [path for path in failures if any(is_under(path, root) for root in roots)]
            if gone or forgotten:
                store.apply(Changes(removed=gone, forgotten=forgotten))
        return len(gone)

    def relocate(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> Relocation:
        """Say that a folder, or a file, has another place now; nothing is read.

        Files keep their ids, vectors and your own columns. All of it is one commit.

        Args:
            old: as the library names it; it need not be there any more.
            new: where it is now. Files that are not there are counted, and renamed all the same.

        Raises:
            UsageError: the library holds nothing at ``old``, or something at the new place.
        """
        from maxsight.pipelines.ingestion import relocate

        with self._open_for_writing() as store:
            changes, done = relocate.plan(
                one_path(old), one_path(new), store.known(), store.failures()
            )
            store.apply(changes)
        return done

    def annotate(self, annotations: pa.Table | str | os.PathLike[str]) -> Annotation:
        """Give files columns of your own, which ``where`` may name from then on.

        Args:
            annotations: a table, or a CSV file (``maxsight.index.tables.annotations.read_table``),
                with the column ``path`` and others. A file keeps them when it changes or moves.

        Returns:
            What was filled, and the paths that the library does not hold.

        Raises:
            UsageError: a column cannot be one, or a path is there twice.
        """
        from maxsight.index.tables.annotations import read_table

        if isinstance(annotations, str | os.PathLike):
            annotations = read_table(one_place(annotations, what="the table"))
        with self._open_for_writing() as store:
            return store.annotate(annotations)

    def drop_columns(self, *names: str) -> None:
        """Take columns of your own out again, with all their values.

        Raises:
            UsageError: a column is not there, or not yours. Nothing was changed.
        """
        with self._open_for_writing() as store:
            store.drop_columns(many_texts(names, what="a column"))

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
            LibraryLocked: another process, or another object of this one, is writing.
            UsageError: no such index.
            BudgetError: making it needs more memory than it may take (``MAXSIGHT_MEMORY``).
        """
        from maxsight.index.ann import auto
        from maxsight.index.building import vector_index
        from maxsight.index.derived import generations

        if index is not None:
            auto.check(index, self._store().manifest.dim)
        if not 0 < recall < 1:
            raise UsageError(f"recall={recall} must lie between 0 and 1, say 0.95")
        on_progress = _on_progress(progress)
        with self._open_for_writing() as store:
            if index is None and store.snapshot().state.built is not None:
                return vector_index.tune(
                    store.snapshot(), recall=recall, texts=self._texts, progress=on_progress
                )
            spec = index or generations.wanted(store.path) or "auto"
            report = vector_index.build(
                store.snapshot(),
                spec,
                recall=recall,
                texts=self._texts,
                progress=on_progress,
                device=self._device,
                thorough=True,
            )
            if index is not None:
                vector_index.remember(store.path, index)
            return report

    def compact(self) -> None:
        """Give back the space of removed and replaced files."""
        with self._open_for_writing() as store:
            store.compact()

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
        from maxsight.index.verify.verify import verify

        if not repair:
            return verify(self.path, progress=progress)
        with self._turn:
            self.close()
            return verify(self.path, repair=True, progress=progress)

    @contextmanager
    def _open_for_writing(self) -> Iterator[Store]:
        from maxsight.index.store import Store

        self._store()  # which says how to make one where there is none
        with self._turn, Store.open(self.path, write=True) as store:
            yield store

    def _create(self, tokens: bool | None, token_limit: int | None) -> None:
        from maxsight.index.store import Store
        from maxsight.library import known_encoders
        from maxsight.models.encoder import absolute

        encoder = self.encoder
        wanted = tokens or token_limit is not None
        if wanted and encoder.token_dim is None:
            raise EncoderError(
                f"{encoder.uri} gives no patch embeddings; index without tokens, or with another "
                "encoder (maxsight encoders)"
            )
        with Store.create(
            self.path,
            encoder_uri=absolute(encoder.uri),
            fingerprint=encoder.fingerprint,
            dim=encoder.dim,
            token_dim=encoder.token_dim if wanted else None,
            token_limit=token_limit,
            mix=encoder.mix,
        ) as new:
            known_encoders.remember(new.manifest)

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

    def _texts(self) -> np.ndarray:
        from maxsight.pipelines.query.known_texts import known_texts

        return known_texts(self._query_encoder())


def _on_progress(progress: Callable[[Progress], None] | None) -> OnProgress:
    """What tells ``progress`` how far an index is."""
    from maxsight.index.building.progress import silent
    from maxsight.pipelines.ingestion.report import Progress

    if progress is None:
        return silent

    return lambda stage, done, total: progress(Progress(stage, done, total))

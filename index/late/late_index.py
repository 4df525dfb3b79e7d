"""An index of tokens: documents that answer a query's tokens best, by MaxSim.

A search looks at all documents by their tokens' centroids (or at those that MUVERA encodings, or
the caller, propose), then scores a shortlist by the tokens themselves. How long the shortlist is
was measured when the index was made. docs/late-interaction.md has the method and its figures.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import numpy as np

from maxsight import machine, plain_files
from maxsight.errors import UsageError
from maxsight.index.array_types import Floats, Mask, Rows
from maxsight.index.files.durable import clear, new_folder
from maxsight.index.late import calibration, grouping
from maxsight.index.late.calibration import Calibration
from maxsight.index.late.codec import CODES, train
from maxsight.index.late.given import GivenTokens, padded
from maxsight.index.late.manifest import FILE, LateManifest, newest
from maxsight.index.late.muvera import Muvera
from maxsight.index.late.token_files import (
    CODEBOOK,
    MappedTokens,
    TokenWriter,
    damaged,
    write_codebook,
)
from maxsight.index.records import TokenTable
from maxsight.kernels import array_ordering, maxsim

_GIVEN = "given"
# Tokens that centroids and levels are learned from.
_SAMPLE = 65_536
# Queries longer than this are carved: their table of centroids would leave the nearest cache.
_CARVE_ABOVE = 64
# Of a shortlist, scored a second time with queries to 15 bits: so many for each of the k, and more.
_FINE_EACH, _FINE_MORE = 2, 8
_QUERIES = 64


class LateIndex:
    """Token embeddings of documents 0, 1, ..., N - 1, on disk; made by :meth:`build`.

    Searches may run in many threads at once, also in other processes; :meth:`add` is for one
    writer, and gives a new index: this one goes on answering from what it was.

    Args:
        folder: where it lies.
        manifest: what ``late.json`` says of it.

    Attributes:
        folder, manifest: as given; ``manifest.calibration`` says how many candidates a search
            takes.
        labels: (N,) int64, the owner's numbers of the documents; None if it gave none.

    Raises:
        LibraryError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, manifest: LateManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._tokens = MappedTokens(
            folder, manifest.extents, bits=manifest.bits, dim=manifest.width
        )
        self.labels = self._tokens.labels
        if self._tokens.coded.documents != manifest.documents:
            raise damaged(folder, f"it counts {self._tokens.coded.documents:,} documents")
        self._muvera: Muvera | None = None
        if manifest.encodings is not None:
            self._muvera = Muvera.open(manifest.encodings_folder(folder))
            if len(self._muvera.index) != manifest.documents:
                raise damaged(folder, f"{len(self._muvera.index):,} documents have an encoding")

    @classmethod
    def build(
        cls,
        folder: Path,
        documents: Iterable[TokenTable],
        *,
        codes: str = "int8",
        encodings: str | None = None,
        centroids: int = 256,
        recall: float = 0.95,
        queries: Sequence[Floats] | None = None,
        labels: Rows | None = None,
        details: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> Self:
        """Make an index in a new folder, which appears complete or not at all.

        Args:
            folder: not there yet.
            documents: their tokens in tables, one after the other; read once. Tokens are taken for
                unit vectors unless ``codes`` is ``int8``.
            codes: ``int8``, ``5bit``, ``4bit`` or ``2bit``.
            encodings: a spec of ``maxsight.index.ann.auto.make``, or ``auto``: only documents
                that MUVERA encodings propose are looked at. None: all.
            centroids: at most so many; above 256 they take one more byte a token.
            recall: of the ten best of exact MaxSim, that candidates are chosen for.
            queries: (L, d) each, to measure it with; None: made of the documents.
            labels: (N,) int64, the owner's numbers of the documents.
            details: what else is to be kept in ``late.json``; what JSON can hold.
            seed: of all that is drawn.

        Raises:
            UsageError: codes or encodings that there are not, tables of different width, or none.
            ValueError: another number of labels than of documents.
            LibraryError: the folder is there.
            OSError: the disk refused.
        """
        if codes not in CODES:
            raise UsageError(f"codes must be one of {', '.join(CODES)}, got {codes!r}")
        if not 0 < recall <= 1:
            raise UsageError(f"recall must be above 0 and at most 1, got {recall}")
        with new_folder(folder) as partial:
            (partial / _GIVEN).mkdir()
            given = GivenTokens(partial / _GIVEN, documents)
            draw = np.random.default_rng(seed)
            book = train(given.sample(_SAMPLE, draw), codes, centroids=centroids, seed=seed)
            with closing(TokenWriter(partial, book, {}, labelled=labels is not None)) as writer:
                for table in given.tables():
                    writer.add(table)
                _label(writer, labels)
                extents = writer.finish() | {CODEBOOK: write_codebook(partial, book)}
            found = LateManifest(
                codes=codes,
                dim=given.dim,
                documents=given.coded.documents,
                encodings=None if encodings is None else 0,
                calibration=Calibration.of_all(given.coded.documents, recall),
                extents=extents,
                details=details or {},
            )
            if encodings is not None:
                muvera = Muvera.build(encodings, given.tables(), dim=found.width, seed=seed)
                muvera.save(found.encodings_folder(partial))
            found = cls(partial, found)._calibrated(given, queries, draw)
            shutil.rmtree(partial / _GIVEN)
            found.write(partial)
        return cls(folder, found)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The index of a folder.

        Raises:
            LibraryError: something is missing or damaged.
            SchemaTooNew: a newer maxsight wrote it.
        """
        return newest(folder, lambda manifest: cls(folder, manifest))

    def __len__(self) -> int:
        """N."""
        return self.manifest.documents

    def search(
        self,
        queries: Sequence[Floats],
        k: int,
        *,
        allowed: Mask | None = None,
        candidates: int | None = None,
    ) -> list[tuple[Rows, Floats]]:
        """The ``k`` documents that answer each query best.

        Args:
            queries: (L, d) each; best asked many at once: a document is read once for all.
            allowed: (N,) or (B, N) bool; rows outside it are never returned. None: all.
            candidates: how many of a query are scored by their tokens, instead of what was
                measured for the ten best (in proportion, for more).

        Returns:
            For each query ``(rows, scores)``: MaxSim with the tokens as they are stored, best
            first, equal scores by lower row; fewer than ``k`` only where fewer are allowed.

        Raises:
            ValueError: shapes that do not fit, numbers that are not finite, ``k`` below 1.
        """
        tokens, offsets = self._packed(queries)
        count = len(self)
        if k < 1 or (candidates is not None and candidates < 1):
            raise ValueError(f"k and candidates must be at least 1, got {k} and {candidates}")
        if allowed is not None and allowed.shape not in {(count,), (len(queries), count)}:
            raise ValueError(f"allowed must be ({count},) or a row a query, got {allowed.shape}")
        if not count or not len(queries):
            return [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
        kept = self._shortlist(tokens, offsets, k, allowed, candidates)
        rows, scores = self._best(tokens, offsets, kept, _FINE_EACH * k + _FINE_MORE, fine=False)
        rows, scores = self._best(tokens, offsets, rows, k, fine=True)
        return [(own[own >= 0], found[own >= 0]) for own, found in zip(rows, scores)]

    def add(self, documents: Iterable[TokenTable], *, labels: Rows | None = None) -> Self:
        """Append documents, coded by what was learned before; the calibration stays.

        A reader sees all of them or none, and a death on the way leaves the index as it was.

        Args:
            labels: (n,) int64, of an index with labels.

        Raises:
            UsageError: tokens of another width.
            ValueError: another number of labels than of documents.
            OSError: the disk refused; or the folder, or a file that grows, is a link.
        """
        plain_files.require_folder(self.folder)
        before = self.manifest
        muvera = None
        if before.encodings is not None:
            muvera = Muvera.open(before.encodings_folder(self.folder))
        if (labels is None) != (self.labels is None):
            has = "no labels" if self.labels is None else "labels"
            raise ValueError(f"the documents of {self.folder} have {has}, and so must those added")
        book, extents = self._tokens.book, before.extents
        with closing(
            TokenWriter(self.folder, book, extents, labelled=labels is not None)
        ) as writer:
            for table in documents:
                if table.tokens.shape[1] != before.dim:
                    raise UsageError(
                        f"tokens must have {before.dim} dimensions, got {table.tokens.shape[1]}"
                    )
                writer.add(padded(table))
                if muvera is not None:
                    muvera.add([padded(table)])
            _label(writer, labels)
            extents = {**extents, **writer.finish()}
        manifest = dataclasses.replace(
            before,
            documents=before.documents + writer.documents,
            encodings=None if before.encodings is None else before.encodings + 1,
            extents=extents,
        )
        if muvera is not None:
            self._remove_encodings(but=before)
            muvera.save(manifest.encodings_folder(self.folder))
        manifest.write(self.folder)
        if muvera is not None:
            self._remove_encodings(but=manifest)
        return type(self)(self.folder, manifest)

    def bytes(self) -> int:
        """On disk, all included."""
        return sum(self.bytes_by_part().values())

    def bytes_by_part(self) -> dict[str, int]:
        """On disk, by file or folder."""
        parts = {name: extent.bytes for name, extent in self.manifest.extents.items()}
        if self._muvera is not None:
            encodings = self.manifest.encodings_folder(self.folder)
            parts[encodings.name] = sum(path.stat().st_size for path in encodings.iterdir())
        return parts | {FILE: (self.folder / FILE).stat().st_size}

    def _remove_encodings(self, *, but: LateManifest) -> None:
        """Delete those of other states, also half made ones of writers that died."""
        kept = but.encodings_folder(self.folder)
        for path in self.folder.glob("*encodings-*"):
            if path != kept:
                clear(path)

    def _packed(self, queries: Sequence[Floats]) -> tuple[Floats, Rows]:
        """Queries one after the other, as wide as the tokens are stored."""
        dim, width = self.manifest.dim, self.manifest.width
        for own in queries:
            if own.ndim != 2 or own.shape[1] != dim:
                raise ValueError(f"queries must be (L, {dim}) each, got {own.shape}")
        lengths = [len(own) for own in queries]
        tokens = np.zeros((sum(lengths), width), np.float32)
        if len(tokens):
            tokens[:, :dim] = np.concatenate(list(queries))
        if not np.isfinite(tokens).all():
            raise ValueError("queries must be finite")
        return tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def _shortlist(
        self,
        tokens: Floats,
        offsets: Rows,
        k: int,
        allowed: Mask | None,
        candidates: int | None,
    ) -> Rows:
        """(B, C) rows to be scored by their tokens, ascending, then -1."""
        count, measured = len(self), self.manifest.calibration
        times = max(1.0, k / calibration.K)
        keep = candidates or int(measured.shortlist * times)
        keep = min(max(keep, k), count)
        proposed = None
        if self._muvera is not None:
            wanted = min(max(int(measured.proposed * times), keep), count)
            proposed = self._muvera.candidates(tokens, offsets, wanted, allowed=allowed)
            proposed.sort(axis=1)
        carved, edges = grouping.carve(tokens, offsets, above=_CARVE_ABOVE)
        return maxsim.interact(
            carved,
            edges,
            self._tokens.coded,
            keep,
            rows=proposed,
            allowed=allowed,
            threads=machine.threads(),
        )

    def _best(
        self, tokens: Floats, offsets: Rows, rows: Rows, k: int, *, fine: bool
    ) -> tuple[Rows, Floats]:
        """The ``k`` best of rows (B, C), best first: (B, k') each, -1 where there are fewer."""
        queries, columns = np.nonzero(rows >= 0)
        listed = rows[queries, columns]
        # A document is read once for all queries that want it, and the file from front to back.
        order = np.argsort(listed, kind="stable")
        queries, columns, listed = queries[order], columns[order], listed[order]
        coded = self._tokens.coded
        scores = np.full(rows.shape, -np.inf, np.float32)
        pairs = np.array([queries, listed]).T
        scores[queries, columns] = maxsim.score_pairs(
            tokens, offsets, coded, pairs=pairs, fine=fine, threads=machine.threads()
        )
        read = listed[np.diff(listed, prepend=-1) > 0]
        self._tokens.used(int((coded.offsets[read + 1] - coded.offsets[read]).sum()), len(read))
        # Equal scores by lower row, whatever order the rows came in.
        none = len(self)
        scores, rows = array_ordering.best(scores, np.where(rows < 0, none, rows), k)
        return np.where(rows == none, -1, rows), scores

    def _calibrated(
        self,
        given: GivenTokens,
        queries: Sequence[Floats] | None,
        draw: np.random.Generator,
    ) -> LateManifest:
        """The manifest with the candidates that the recall asks for, and the recall they have."""
        manifest = self.manifest
        count = calibration.affordable(given.coded)
        asked = list(queries or [])[:count]
        if not asked:
            imagined = calibration.imagined(given.coded, count, draw)
            asked = [own[:, : manifest.dim] for own in imagined]
        if not asked:
            return manifest
        made, best = calibration.calibrate(
            [self._packed([own])[0] for own in asked],
            given.coded,
            self._tokens.coded,
            target=manifest.calibration.target,
            given=bool(queries),
            propose=None if self._muvera is None else self._muvera.candidates,
        )
        self.manifest = dataclasses.replace(manifest, calibration=made)
        shares = []
        for start in range(0, len(asked), _QUERIES):
            part = slice(start, start + _QUERIES)
            found = np.full((len(asked[part]), best.shape[1]), -1)
            for query, (rows, _) in enumerate(self.search(asked[part], calibration.K)):
                found[query, : len(rows)] = rows
            shares.append(calibration.overlap(found, best[part]))
        recall = float(np.concatenate(shares).mean())
        return dataclasses.replace(
            self.manifest, calibration=dataclasses.replace(made, recall=recall)
        )


def _label(writer: TokenWriter, labels: Rows | None) -> None:
    if labels is not None:
        if labels.shape != (writer.documents,):
            raise ValueError(f"labels must be ({writer.documents},), got {labels.shape}")
        writer.label(labels)

"""Films that an earlier run has begun, and those of this run while they last."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from maxsight.errors import LibraryError
from maxsight.index.writing import partial
from maxsight.index.writing.partial import PartialFilm, Stretch
from maxsight.pipelines.decoding.messages import Opened
from maxsight.pipelines.decoding.orders import Job, Kept
from maxsight.pipelines.ingestion.assembly import Assembly
from maxsight.pipelines.ingestion.choices import Choices

if TYPE_CHECKING:
    from maxsight.index.store import Store


class UnfinishedFilms:
    """What is kept of films, and is to be kept.

    Args:
        store: the library.
        choices: how the run reads files.
    """

    def __init__(self, store: Store, choices: Choices) -> None:
        self._library = store.path
        self._manifest = store.manifest
        self._settings = choices.of("video")
        self._by_size: defaultdict[int, list[PartialFilm]] = defaultdict(list)
        for film in partial.found(self._library):
            self._by_size[film.bytes].append(film)

    def job(self, job: Job) -> Job:
        """The job, with what is kept of films of its size."""
        kept = []
        for film in self._by_size.get(job.state.bytes, ()):
            if film == self._film(film.content_hash, film.path, film.bytes) and (
                stretches := partial.load(self._library, film)
            ):
                units = sum(len(stretch.vectors) for stretch in stretches)
                kept.append(Kept(film.content_hash, units, stretches[-1].mark))
        return dataclasses.replace(job, kept=tuple(kept)) if kept else job

    def open(self, assembly: Assembly, message: Opened) -> list[PartialFilm]:
        """A film gives frames; those that are kept of it come first.

        Returns:
            Films to forget, as what is kept of them leads nowhere.
        """
        assembly.content_hash, assembly.bytes = message.content_hash, message.bytes
        film = self.of(assembly)
        assert film is not None
        if message.units:
            stretches = partial.load(self._library, film)
            if sum(len(stretch.vectors) for stretch in stretches) != message.units:
                raise LibraryError(
                    f"{self._library / partial.FOLDER} was changed while it was read; run again"
                )
            assembly.take_kept(stretches)
            return []
        return [film] if assembly.job.kept else []

    def of(self, assembly: Assembly) -> PartialFilm | None:
        """The film that is assembled; None for pictures."""
        if assembly.content_hash is None:
            return None
        return self._film(assembly.content_hash, assembly.job.path, assembly.bytes)

    def progress(self, under_way: Iterable[Assembly]) -> list[tuple[PartialFilm, Stretch]]:
        """What was encoded of films since the last call."""
        found = []
        for assembly in under_way:
            if assembly.is_void or (film := self.of(assembly)) is None:
                continue
            if (stretch := assembly.new_stretch()) is not None:
                found.append((film, stretch))
        return found

    def _film(self, content_hash: str, path: str, size: int) -> PartialFilm:
        return PartialFilm(
            content_hash=content_hash,
            settings=self._settings,
            fingerprint=self._manifest.fingerprint,
            dim=self._manifest.dim,
            token_dim=self._manifest.token_dim,
            path=path,
            bytes=size,
        )

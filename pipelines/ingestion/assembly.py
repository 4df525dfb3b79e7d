"""A file on its way from the decoder to the library."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from maxsight.index.records import EncodedItem, FileState, TokenTable
from maxsight.index.writing.partial import Stretch
from maxsight.pipelines.decoding.messages import Finished, Frames
from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.ingestion.choices import Choices
from maxsight.pipelines.ingestion.encode import EncodedUnits


class _GrowingArray:
    """One array to which rows are added. Thousands of small arrays that live as long as a film
    would lie between the pictures that come and go, and keep their memory from being given back."""

    def __init__(self) -> None:
        self._array: np.ndarray | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: np.ndarray) -> None:
        needed = self._count + len(rows)
        if self._array is None:
            self._array = rows
        else:
            if needed > len(self._array):
                larger = np.empty((max(needed, 2 * self._count), *rows.shape[1:]), rows.dtype)
                larger[: self._count] = self._array[: self._count]
                self._array = larger
            self._array[self._count : needed] = rows
        self._count = needed

    def part(self, first: int = 0, last: int | None = None) -> np.ndarray:
        assert self._array is not None
        return self._array[first : self._count if last is None else last]


class _Tokens:
    """The token tables of successive units as one."""

    def __init__(self) -> None:
        self._tokens, self._scales, self._sizes, self._ends = (_GrowingArray() for _ in range(4))

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, table: TokenTable) -> None:
        self._ends.add(table.offsets[1:] + len(self._tokens))
        self._tokens.add(table.tokens)
        self._scales.add(table.scales)
        self._sizes.add(table.sizes)

    def part(self, first: int = 0, last: int | None = None) -> TokenTable:
        """Of units ``first`` to ``last - 1``."""
        ends = self._ends.part(0, last)
        offsets = np.concatenate([[0], ends]).astype(np.int64)[first:]
        start, stop = int(offsets[0]), int(offsets[-1])
        return TokenTable(
            tokens=self._tokens.part(start, stop),
            scales=self._scales.part(start, stop),
            sizes=self._sizes.part(start, stop),
            offsets=offsets - start,
        )


@dataclass(eq=False)
class Assembly:
    """Collects what becomes of one file.

    Attributes:
        job: the file.
        choices: how the run reads files.
        is_void: it has failed; what is still under way of it counts for nothing.
        end: the decoder's last message; None while there is more to come.
        content_hash, bytes: of a film that has been opened.
    """

    job: Job
    choices: Choices
    is_void: bool = False
    end: Finished | None = None
    content_hash: str | None = None
    bytes: int = 0
    _spans: _GrowingArray = field(default_factory=_GrowingArray)
    _vectors: _GrowingArray = field(default_factory=_GrowingArray)
    _tokens: _Tokens = field(default_factory=_Tokens)
    _decoded: int = 0
    # Where the film can be taken up: after how many units, and the decoder's word for it.
    _marks: deque[tuple[int, str]] = field(default_factory=deque)
    _handed: int = 0

    def take_kept(self, stretches: list[Stretch]) -> None:
        """What an earlier run encoded of the film; comes before all else."""
        for stretch in stretches:
            self._spans.add(stretch.spans)
            self._vectors.add(stretch.vectors)
            if stretch.tokens is not None:
                self._tokens.add(stretch.tokens)
        self._decoded = self._handed = len(self._vectors)

    def take_decoded(self, message: Frames | Finished) -> None:
        self._decoded += len(message.pixels)
        if message.spans:
            self._spans.add(np.array(message.spans, np.float64))
        if isinstance(message, Finished):
            self.end = message
        elif message.mark is not None:
            self._marks.append((self._decoded, message.mark))

    def take_encoded(self, units: EncodedUnits[Assembly]) -> None:
        self._vectors.add(units.vectors)
        if units.tokens is not None:
            self._tokens.add(units.tokens)

    def new_stretch(self) -> Stretch | None:
        """What was encoded since the last call, up to where the film can be taken up."""
        mark: tuple[int, str] | None = None
        while self._marks and self._marks[0][0] <= len(self._vectors):
            mark = self._marks.popleft()
        if mark is None:
            return None
        first, (last, text) = self._handed, mark
        self._handed = last
        return Stretch(
            spans=self._spans.part(first, last),
            vectors=self._vectors.part(first, last),
            tokens=self._tokens.part(first, last) if len(self._tokens) else None,
            mark=text,
        )

    def item(self) -> EncodedItem | None:
        """The file, once all of it is decoded and encoded."""
        if self.end is None or len(self._vectors) < self._decoded:
            return None
        spans = self._spans.part() if len(self._spans) else None
        return EncodedItem(
            state=FileState(self.job.path, self.end.bytes, self.end.mtime_ns),
            kind=self.end.kind,
            content_hash=self.end.content_hash,
            width=self.end.width,
            height=self.end.height,
            vectors=self._vectors.part(),
            spans=spans,
            duration_s=None if spans is None else float(spans[-1, 1]),
            captured_at=self.end.captured_at,
            tokens=self._tokens.part() if len(self._tokens) else None,
            settings=self.choices.of(self.end.kind, is_cut=self.end.is_cut),
            remark=self.end.remark,
        )

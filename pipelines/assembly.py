"""A file on its way from the decoder to the library."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from maxsight.index.records import EncodedItem, FileState, TokenTable
from maxsight.pipelines.choices import Choices
from maxsight.pipelines.encode import EncodedUnits
from maxsight.pipelines.messages import Finished, Frames, Job


@dataclass(eq=False)
class Assembly:
    """Collects what becomes of one file.

    Attributes:
        job: the file.
        choices: how the run reads files.
        is_void: it has failed; what is still under way of it counts for nothing.
        end: the decoder's last message; None while there is more to come.
    """

    job: Job
    choices: Choices
    is_void: bool = False
    end: Finished | None = None
    _decoded: int = 0
    _spans: list[tuple[float, float]] = field(default_factory=list)
    _vectors: list[np.ndarray] = field(default_factory=list)
    _tokens: list[TokenTable] = field(default_factory=list)

    def take_decoded(self, message: Frames | Finished) -> None:
        self._decoded += len(message.pixels)
        self._spans.extend(message.spans)
        if isinstance(message, Finished):
            self.end = message

    def take_encoded(self, units: EncodedUnits[Assembly]) -> None:
        self._vectors.append(units.vectors)
        if units.tokens is not None:
            self._tokens.append(units.tokens)

    def item(self) -> EncodedItem | None:
        """The file, once all of it is decoded and encoded."""
        if self.end is None or sum(map(len, self._vectors)) < self._decoded:
            return None
        return EncodedItem(
            state=FileState(self.job.path, self.end.bytes, self.end.mtime_ns),
            kind=self.end.kind,
            content_hash=self.end.content_hash,
            width=self.end.width,
            height=self.end.height,
            vectors=np.concatenate(self._vectors),
            spans=np.array(self._spans, np.float64) if self._spans else None,
            duration_s=self._spans[-1][1] if self._spans else None,
            captured_at=self.end.captured_at,
            tokens=_joined(self._tokens) if self._tokens else None,
            settings=self.choices.of(self.end.kind),
            remark=self.end.remark,
        )


def _joined(tables: list[TokenTable]) -> TokenTable:
    """The tables of successive units as one."""
    starts = np.cumsum([0, *(len(table.tokens) for table in tables)])
    return TokenTable(
        tokens=np.concatenate([table.tokens for table in tables]),
        scales=np.concatenate([table.scales for table in tables]),
        sizes=np.concatenate([table.sizes for table in tables]),
        offsets=np.concatenate(
            [[0], *(table.offsets[1:] + start for table, start in zip(tables, starts))]
        ).astype(np.int64),
    )

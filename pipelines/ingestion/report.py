"""What ingestion tells while it runs and when it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from maxsight.index.building.vector_index import IndexReport

Stage = Literal[
    "scan", "compare", "load", "read", "tokens", "train", "fill", "truth", "measure", "done"
]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        stage: ``scan`` lists files, ``compare`` hashes suspects of a move, ``load`` waits for the
            encoder, ``read`` decodes, encodes and stores. ``tokens`` reads tokens into their
            index. Of the vector index, ``train`` learns,
            ``fill`` adds rows, ``truth`` searches exactly, to compare with, ``measure`` searches
            by it. ``done`` is the last call of reading.
        done, total: files of this stage; the total of a scan is not known (None).
        failed: files that could not be read so far.
        rate: pictures and frames encoded a second, over the last ten seconds.
        eta_s: seconds left at the pace so far, films weighed by their size; None when not known.
        device_idle_share: part of the time since encoding began in which the device stood still.
    """

    stage: Stage
    done: int = 0
    total: int | None = None
    failed: int = 0
    rate: float = 0.0
    eta_s: float | None = None
    device_idle_share: float = 0.0


@dataclass(frozen=True)
class StageSeconds:
    """Seconds each stage worked; they overlap, and several decoders work at a time.

    Attributes:
        scan, compare, load: one after the other, before the rest.
        decode: summed over the decoders.
        encode: the device computed.
        store: the library was written.
    """

    scan: float = 0.0
    compare: float = 0.0
    load: float = 0.0
    decode: float = 0.0
    encode: float = 0.0
    store: float = 0.0


@dataclass(frozen=True)
class IngestReport:
    """What a run did.

    Attributes:
        added, updated: files encoded that the library did not hold, or held in another version.
        unchanged: files found as they were.
        moved, touched: files whose content the library held under another path or time.
        removed: items taken out because their file is gone.
        failed: files that cannot be read, now or, unchanged since, in an earlier run. Of some the
            library keeps what they held before; their reasons say so.
        failures: (path, reason) of each, by path.
        remarks: (path, remark) of files that were read now, in part or in an unusual way.
        warnings: what the person should know.
        passed_over: (suffix, count) of files that are neither pictures nor films, most first; the
            suffix is empty where a name has none.
        left_out: (folder's name or source of a rule, count) of entries that do not count.
        units: pictures and frames encoded.
        units_per_second: of the time from the first to the last of them.
        seconds: the whole run.
        stages: what worked how long.
        device_idle_share: part of the time between the first and the last picture in which the
            device did not compute.
        interrupted: stopped by Ctrl-C before the end.
        index: what became of the vector index at the end; None if the run did not come to that.
    """

    added: int
    updated: int
    unchanged: int
    moved: int
    touched: int
    removed: int
    failed: int
    failures: tuple[tuple[str, str], ...]
    remarks: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    passed_over: tuple[tuple[str, int], ...]
    left_out: tuple[tuple[str, int], ...]
    units: int
    units_per_second: float
    seconds: float
    stages: StageSeconds
    device_idle_share: float
    interrupted: bool = False
    index: IndexReport | None = None


class IngestInterrupted(KeyboardInterrupt):
    """Ctrl-C during ingestion. What was encoded is in the library.

    Attributes:
        report: what was done until then.
    """

    def __init__(self, report: IngestReport) -> None:
        super().__init__("indexing was interrupted; run it again to go on where it stopped")
        self.report = report

"""From folders of files to a searchable library: scan, compare, decode, encode, store.

Decoding runs in processes, encoding on the device, storing in a thread; bounded queues between them
make each wait for the slowest and for nobody else.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from maxsight import settings
from maxsight.errors import UsageError
from maxsight.index.records import Changes, EncodedItem, Failure, FileState, Kind, KnownItem
from maxsight.index.tables import table_rows
from maxsight.pipelines.decoding.messages import Finished, Frames, Opened, Refused
from maxsight.pipelines.decoding.orders import Job
from maxsight.pipelines.decoding.pool import Decoded, DecodePool
from maxsight.pipelines.ingestion.assembly import Assembly
from maxsight.pipelines.ingestion.choices import Choices
from maxsight.pipelines.ingestion.commit import COMMIT_SECONDS, COMMIT_UNITS, Committer, Outbox
from maxsight.pipelines.ingestion.encode import BatchEncoder, EncodedUnits
from maxsight.pipelines.ingestion.known_content import confirm
from maxsight.pipelines.ingestion.pace import Pace
from maxsight.pipelines.ingestion.report import (
    IngestInterrupted,
    IngestReport,
    Progress,
    StageSeconds,
)
from maxsight.pipelines.ingestion.scan import scan
from maxsight.pipelines.ingestion.unfinished import UnfinishedFilms
from maxsight.pipelines.ingestion.walk import TRY_AGAIN_NS
from maxsight.pipelines.media.limits import Limit, Limits
from maxsight.version import VERSION

if TYPE_CHECKING:
    from maxsight.index.store import Store
    from maxsight.models.encoder import Encoder

__all__ = ["IngestInterrupted", "IngestReport", "Progress", "StageSeconds", "ingest"]

# With nothing decoded for this long, a batch that is not full is encoded all the same.
_PATIENCE_S = 0.5

# Decoded pictures that may wait for the encoder, at the least.
_FEWEST_WAITING = 64

# Copies whose vectors are read, and held, at once; a film has thousands of them.
_PICTURES_AT_ONCE, _FILMS_AT_ONCE = 256, 4

# The library's own measure for vectors it takes; encoders compute in bfloat16, too.
_UNUSABLE = "the encoder made no usable vector of it; please report it"


def ingest(
    store: Store,
    load_encoder: Callable[[], Encoder],
    roots: Iterable[str | os.PathLike[str]],
    *,
    fps: float | None = None,
    exclude: Sequence[str] = (),
    prune: bool = False,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Bring a library up to date with the pictures and films under ``roots``.

    Only what is new or changed is read; what is gone is removed; what was moved keeps its id. A
    file that cannot be read is recorded with its reason and never ends the run. Every few seconds
    what is done is committed: a run that was killed is completed by the next one, in the middle of
    a film, too. Token embeddings are stored where the library was created for them, merged down to
    as many as it was created for.

    Args:
        store: opened for writing.
        load_encoder: gives the encoder; called once, and only if there is something to encode.
        roots: folders and files.
        fps: frames a second taken from films; films that were read with another number are read
            again. None: 1, and films that the library holds keep theirs.
        exclude: patterns of files and folders to leave out, as in a ``.gitignore``.
        prune: files are removed also where a whole folder is empty or gone, as it is when a disk
            is not mounted.
        batch_size: pictures encoded at a time; by default 256 on a GPU, and on the processor 8 by
            each of its cores.
        progress: called about ten times a second, in the calling thread.

    Raises:
        UsageError: a root does not exist, or a number makes no sense.
        EncoderError: the encoder cannot be loaded.
        LibraryError: the library cannot be written.
        IngestInterrupted: Ctrl-C; what was encoded is committed. A second Ctrl-C leaves at once.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"fps={fps} must be above 0 frames a second")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size={batch_size} must be 1 or more")
    choices = Choices(
        1.0 if fps is None else fps, settings.film_frames(), fps_is_given=fps is not None
    )
    with Committer(store) as committer:
        run = _Run(committer, Pace(progress or (lambda _: None)), choices)
        try:
            run.compare(roots, store, exclude=exclude, prune=prune)
            while run.to_read:
                run.read(load_encoder, store, batch_size=batch_size)
            committer.finish()
            run.tell_end()
        except KeyboardInterrupt:
            run.commit()
            committer.finish()
            raise IngestInterrupted(run.report(interrupted=True)) from None
        return run.report()


class _Run:
    """One run of ingestion: the files under way, and what became of the others."""

    def __init__(self, committer: Committer, pace: Pace, choices: Choices) -> None:
        self.to_read: tuple[Job, ...] = ()
        self._committer = committer
        self._pace = pace
        self._choices = choices
        self._limits = Limits(
            timeout=settings.decode_timeout(),
            pixels=settings.max_pixels(),
            memory=settings.memory(),
            version=VERSION,
        )
        self._encoder: Encoder | None = None
        self._live: dict[str, int] = {}
        self._alike: defaultdict[tuple[str, Kind | None], list[Job]] = defaultdict(list)
        self._under_way: dict[str, Assembly] = {}
        self._unfinished: UnfinishedFilms | None = None
        self._outbox = Outbox()
        self._committed_at = time.monotonic()
        self._failed_before: Mapping[str, Failure] = {}
        self._failures: dict[str, str] = {}
        self._remarks: dict[str, str] = {}
        self._warnings: tuple[str, ...] = ()
        self._passed_over: tuple[tuple[str, int], ...] = ()
        self._left_out: tuple[tuple[str, int], ...] = ()
        self._counts: Counter[str] = Counter()
        self._began = time.perf_counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._idle_share = 0.0

    def compare(
        self,
        roots: Iterable[str | os.PathLike[str]],
        store: Store,
        *,
        exclude: Sequence[str],
        prune: bool,
    ) -> None:
        """Find out what has to be done, and commit what needs no decoding."""
        known, failures = store.known(), store.failures()
        self._failed_before = failures
        rates = store.frame_rates() if self._choices.fps_is_given else {}

        fits = functools.lru_cache(maxsize=None)(self._choices.fits)

        def is_current(item: KnownItem) -> bool:
            if item.settings is None and item.kind == "video":
                return self._choices.fits_rate(rates.get(item.item_id, self._choices.fps))
            return fits(item.kind, item.settings)

        with self._timed("scan"):
            scanned = scan(
                roots,
                known,
                failures,
                exclude=exclude,
                prune=prune,
                is_current=is_current,
                fails_again=lambda failure: self._limits.would_fail(failure.settings),
                on_files=lambda count: self._pace.count("scan", count),
            )
        removed = store.removed()
        with self._timed("compare"):
            confirmed = confirm(
                scanned,
                held=list(known.values()),
                removed=removed,
                annotated=store.annotated() if scanned.changed else frozenset(),
                is_current=is_current,
                threads=settings.decode_workers(),
                on_hashed=lambda done, total: self._pace.count("compare", done, total),
            )
        vacated = {*confirmed.removed, *(item_id for item_id, _ in confirmed.moved)}
        self._live = {
            path: item.item_id for path, item in known.items() if item.item_id not in vacated
        } | {state.path: item_id for item_id, state in confirmed.moved}
        self._warnings = (*scanned.warnings, *confirmed.warnings)
        self._passed_over, self._left_out = scanned.passed_over, scanned.left_out
        self._counts.update(
            unchanged=scanned.unchanged,
            moved=len(confirmed.moved),
            touched=len(confirmed.touched),
            removed=len(confirmed.removed),
        )
        for failure in scanned.failing:
            self._tell(failure)
        for failure in scanned.unreadable:
            self._fail(failure)
        restated = [*confirmed.moved, *confirmed.touched]
        read_now = [state.path for _, state in restated if state.path in self._failed_before]
        outbox, self._outbox = self._outbox, Outbox()
        self._committer.commit(
            Changes(
                restated=restated,
                removed=confirmed.removed,
                failed=outbox.failed,
                forgotten=[*scanned.forgotten, *read_now],
            )
        )
        with self._timed("compare"):
            hashes = {item.item_id: item.content_hash for item in (*known.values(), *removed)}
            self.to_read = (*confirmed.to_read, *self._copy(store, confirmed.copied, hashes))
        for content_hash, job in confirmed.alike:
            self._alike[content_hash, job.kind].append(job)

    def read(
        self,
        load_encoder: Callable[[], Encoder],
        store: Store,
        *,
        batch_size: int | None,
    ) -> None:
        """Decode, encode and store what has to be read; ``to_read`` is then what is left of it."""
        manifest = store.manifest
        unfinished = self._unfinished = UnfinishedFilms(store, self._choices)
        jobs, self.to_read = tuple(map(unfinished.job, self.to_read)), ()
        self._pace.count("load", 0, len(jobs))
        with self._timed("load"):
            encoder = self._encoder = self._encoder or load_encoder()
        batches: BatchEncoder[Assembly] = BatchEncoder(
            encoder,
            batch_size=batch_size,
            tokens=manifest.token_dim is not None,
            token_limit=manifest.token_limit,
        )
        pool = DecodePool(
            encoder.preprocess,
            fps=self._choices.fps,
            film_frames=self._choices.film_frames,
            workers=min(settings.decode_workers(), len(jobs)),
            timeout_s=settings.decode_timeout(),
            max_pixels=settings.max_pixels(),
            memory=settings.memory(),
            queue_size=max(_FEWEST_WAITING, batches.batch_size),
        )
        self._pace.begin(jobs, fps=self._choices.fps)
        began = time.perf_counter()
        busy_before = self._seconds["encode"]
        try:
            with batches, pool:
                for decoded in pool.decode(jobs, wait_s=_PATIENCE_S):
                    encoded = (
                        batches.flush() if decoded is None else self._decoded(decoded, batches)
                    )
                    self._encoded(encoded)
                    self._pace.read(
                        done=self._counts["closed"],
                        failed=len(self._failures),
                        units=self._counts["units"],
                        busy_s=busy_before + batches.busy_s,
                    )
                    self._commit_if_due()
                self._encoded(batches.flush())
        finally:
            self._seconds["encode"] += batches.busy_s
            self._seconds["read"] += time.perf_counter() - began
            self._idle_share = self._pace.idle_share(self._seconds["encode"])
        self.commit()
        # Where the one that was read failed, or had changed by then.
        self.to_read = tuple(job for jobs in self._alike.values() for job in jobs)
        self._alike.clear()

    def commit(self) -> None:
        """Hand over what is done."""
        # Emptied first: interrupted in between, work is lost and done again, never stored twice.
        outbox, self._outbox = self._outbox, Outbox()
        self._committed_at = time.monotonic()
        if self._unfinished is not None:
            outbox.kept += self._unfinished.progress(self._under_way.values())
        self._committer.commit(outbox.changes(), kept=outbox.kept, settled=outbox.settled)

    def tell_end(self) -> None:
        self._pace.end(done=self._counts["closed"], failed=len(self._failures))

    def report(self, *, interrupted: bool = False) -> IngestReport:
        seconds = self._seconds
        return IngestReport(
            added=self._counts["added"],
            updated=self._counts["updated"],
            unchanged=self._counts["unchanged"],
            moved=self._counts["moved"],
            touched=self._counts["touched"],
            removed=self._counts["removed"],
            failed=len(self._failures),
            failures=tuple(sorted(self._failures.items())),
            remarks=tuple(sorted(self._remarks.items())),
            warnings=self._warnings,
            passed_over=self._passed_over,
            left_out=self._left_out,
            units=self._counts["units"],
            units_per_second=self._counts["units"] / seconds["read"] if seconds["read"] else 0.0,
            seconds=time.perf_counter() - self._began,
            stages=StageSeconds(
                scan=seconds["scan"],
                compare=seconds["compare"],
                load=seconds["load"],
                decode=seconds["decode"],
                encode=seconds["encode"],
                store=self._committer.busy_s,
            ),
            device_idle_share=self._idle_share,
            interrupted=interrupted,
        )

    def _copy(
        self, store: Store, copied: Sequence[tuple[int, Job]], hashes: Mapping[int, str]
    ) -> list[Job]:
        """Store files whose content the library holds; returns those of which nothing is left.

        Args:
            hashes: of the items' contents; one may hold another content by now.
        """
        pictures = [pair for pair in copied if pair[1].kind == "image"]
        films = [pair for pair in copied if pair[1].kind != "image"]
        left = []
        for chunk in (*_chunks(pictures, _PICTURES_AT_ONCE), *_chunks(films, _FILMS_AT_ONCE)):
            items = store.copies([(item_id, job.state) for item_id, job in chunk])
            for (item_id, job), item in zip(chunk, items, strict=True):
                if item is None or item.content_hash != hashes[item_id]:
                    left.append(job)
                else:
                    self._add(item)
            self._commit_if_due()
        self.commit()
        return left

    def _decoded(
        self, decoded: Decoded, batches: BatchEncoder[Assembly]
    ) -> Iterator[EncodedUnits[Assembly]]:
        """Send a decoder's message on to the encoder; yields what is encoded by now."""
        job, message = decoded.job, decoded.message
        self._seconds["decode"] += message.seconds
        assembly = self._under_way.setdefault(job.path, Assembly(job, self._choices))
        if isinstance(message, Frames | Finished) and not assembly.is_void:
            assembly.take_decoded(message)
            yield from batches.add(assembly, message.pixels)
            return
        if isinstance(message, Opened) and self._unfinished is not None:
            self._outbox.settled += self._unfinished.open(assembly, message)
        if isinstance(message, Refused) and not assembly.is_void:
            self._refuse(assembly, message.reason, again=message.again, limit=message.limit)
        if isinstance(message, Refused | Finished):
            self._close(assembly)

    def _encoded(self, encoded: Iterable[EncodedUnits[Assembly]]) -> None:
        for units in encoded:
            assembly = units.owner
            self._counts["units"] += len(units.vectors)
            if assembly.is_void:
                continue
            norms = np.linalg.norm(units.vectors, axis=1)
            if not table_rows.is_one(norms).all():
                self._refuse(assembly, _UNUSABLE, again=True)
                if assembly.end is not None:
                    self._close(assembly)
                continue
            assembly.take_encoded(units)
            if (item := assembly.item()) is None:
                continue
            self._add(item)
            for job in self._alike.pop((item.content_hash, assembly.job.kind), ()):
                self._add(dataclasses.replace(item, state=job.state))
                self._commit_if_due()
            self._settle(assembly)
            self._close(assembly)

    def _settle(self, assembly: Assembly) -> None:
        """The film need not be taken up again."""
        if self._unfinished is not None and (film := self._unfinished.of(assembly)) is not None:
            self._outbox.settled.append(film)

    def _add(self, item: EncodedItem) -> None:
        """A file is done."""
        path = item.state.path
        if item.remark is not None:
            self._remarks[path] = item.remark
        if (old := self._live.get(path)) is not None:
            self._outbox.replaced.append((old, item))
            self._counts["updated"] += 1
        else:
            self._outbox.added.append(item)
            self._counts["added"] += 1
        self._outbox.units += len(item.vectors)
        if path in self._failed_before:
            self._outbox.forgotten.append(path)

    def _refuse(
        self, assembly: Assembly, reason: str, *, again: bool, limit: Limit | None = None
    ) -> None:
        """A file has failed.

        Its former content leaves the library if the new one is beyond reading, and stays if only
        the circumstances are in the way.
        """
        state = assembly.job.state
        if again and limit is None:
            state = FileState(state.path, state.bytes, TRY_AGAIN_NS)
        elif not again:
            self._settle(assembly)
            if (old := self._live.pop(state.path, None)) is not None:
                self._outbox.removed.append(old)
        self._fail(Failure(state, reason, self._limits.of(limit)))
        assembly.is_void = True

    def _close(self, assembly: Assembly) -> None:
        del self._under_way[assembly.job.path]
        self._counts["closed"] += 1
        self._pace.finish_file(assembly.job)

    def _fail(self, failure: Failure) -> None:
        self._tell(failure)
        if self._failed_before.get(failure.state.path) != failure:
            self._outbox.failed.append(failure)

    def _tell(self, failure: Failure) -> None:
        path = failure.state.path
        self._failures[path] = failure.told(is_kept=path in self._live)

    def _commit_if_due(self) -> None:
        is_time = time.monotonic() - self._committed_at > COMMIT_SECONDS
        # Within the bound on memory the encoder does not wait for a slow disk.
        if (is_time and self._committer.is_free) or self._outbox.units >= COMMIT_UNITS:
            self.commit()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - began


def _chunks(pairs: Sequence[tuple[int, Job]], count: int) -> Iterator[Sequence[tuple[int, Job]]]:
    for start in range(0, len(pairs), count):
        yield pairs[start : start + count]

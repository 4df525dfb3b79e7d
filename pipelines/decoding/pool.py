"""Decoder processes, and the threads that drive them.

Each process is driven by one thread, which hands it a file, receives what it decodes, and puts that
into one bounded queue. A decoder that crashes or falls silent costs the file it was at: the file is
refused with a reason, the decoder is started anew.

The processes share a budget of memory (``maxsight.pipelines.decoding.memory``). A picture that
takes more than the part of one waits until the others are done, and then has all of it.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from maxsight.errors import BackendError
from maxsight.models.pixels.preprocess import Preprocess
from maxsight.pipelines.decoding.memory import share
from maxsight.pipelines.decoding.messages import Alive, Finished, Frames, Message, Refused
from maxsight.pipelines.decoding.orders import Job, Order
from maxsight.pipelines.decoding.process import END_TIMEOUT_S, DecoderGone, DecoderProcess

# Files a process has been handed at a time: one it is at, and one so that it need not wait.
_AHEAD = 2


@dataclass(frozen=True)
class Decoded:
    """A message about a file."""

    job: Job
    message: Message


class DecodePool:
    """Decodes files in processes of its own.

    Args:
        preprocess: the encoder's wishes.
        fps: frames a second taken from films.
        film_frames: frames decoded of one film at most.
        workers: processes.
        timeout_s: seconds without a sign of life after which a decoder is stopped.
        max_pixels: refuse larger pictures.
        memory: bytes that the processes may allocate, all together; fewer run where they are few.
        queue_size: messages that wait for the reader before decoding pauses.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        fps: float,
        film_frames: int = 100_000,
        workers: int,
        timeout_s: float,
        max_pixels: int,
        memory: int,
        queue_size: int = 64,
    ) -> None:
        self._preprocess = preprocess
        self._memory = share(memory, workers=workers, max_pixels=max_pixels)
        self._order = Order(
            preprocess, fps, film_frames, max_pixels, self._memory.each, os.getpid()
        )
        self._hungry: list[Job] = []
        self._timeout_s = timeout_s
        self._results: queue.Queue[Decoded | BaseException | None] = queue.Queue(queue_size)
        self._jobs_lock = threading.Lock()
        self._closing = threading.Event()
        self._running: dict[int, DecoderProcess] = {}
        self._drivers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the decoders that run."""
        return sorted(self._running)

    def decode(
        self, jobs: Iterable[Job], *, wait_s: float | None = None
    ) -> Iterator[Decoded | None]:
        """Decode files; to be called once.

        Args:
            jobs: taken one by one, as decoders become free, from threads of the pool.
            wait_s: if nothing is decoded for this many seconds, yield None once.

        Yields:
            Messages. Those about one file come in order, the last one ``Finished`` or ``Refused``;
            those about different files are interleaved.

        Raises:
            BackendError: a decoder process cannot be started.
        """
        yield from self._decoded(iter(jobs), self._memory.workers, wait_s)
        if self._hungry:
            hungry, self._hungry = self._hungry, []
            self._order = replace(self._order, max_memory=self._memory.largest)
            yield from self._decoded(iter(hungry), 1, wait_s)

    def _decoded(
        self, source: Iterator[Job], count: int, wait_s: float | None
    ) -> Iterator[Decoded | None]:
        for number in range(count):
            driver = threading.Thread(
                target=self._drive, args=(source,), name=f"decode-{number}", daemon=True
            )
            self._drivers.append(driver)
            driver.start()
        while count:
            try:
                result = self._results.get(timeout=wait_s)
            except queue.Empty:
                yield None
                result = self._results.get()
            if result is None:
                count -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result

    def close(self) -> None:
        """Stop all decoders at once."""
        self._closing.set()
        for process in list(self._running.values()):
            process.kill()
        for driver in self._drivers:
            driver.join(END_TIMEOUT_S)

    def _drive(self, jobs: Iterator[Job]) -> None:
        try:
            self._drive_until_done(jobs)
            self._put(None)
        except BaseException as error:  # whatever it is, it belongs to whoever reads the results
            self._put(error)

    def _drive_until_done(self, jobs: Iterator[Job]) -> None:
        handed: deque[Job] = deque()
        process: DecoderProcess | None = None
        begun = False  # some of the first file's frames are out
        try:
            while not self._closing.is_set():
                while len(handed) < _AHEAD and (job := self._next(jobs)) is not None:
                    handed.append(job)
                    if process is not None:
                        process.hand(job)
                if not handed:
                    return
                if process is None:
                    process = self._start()
                    for job in handed:
                        process.hand(job)
                try:
                    message = process.receive(self._timeout_s, self._preprocess.gives)
                except DecoderGone as gone:
                    self._stop(process)
                    process = None
                    message = Refused(0.0, str(gone), gone.again, gone.hungry, limit=gone.limit)
                if isinstance(message, Refused) and message.hungry and not begun and self._has_more:
                    self._hungry.append(handed[0])
                elif not isinstance(message, Alive):
                    self._put(Decoded(handed[0], message))
                if isinstance(message, Finished | Refused):
                    handed.popleft()
                begun = isinstance(message, Frames) or (begun and isinstance(message, Alive))
        finally:
            if process is not None:
                self._stop(process)

    @property
    def _has_more(self) -> bool:
        """Whether a file may have more memory when the others are done."""
        return self._order.max_memory < self._memory.largest

    def _next(self, jobs: Iterator[Job]) -> Job | None:
        with self._jobs_lock:
            return None if self._closing.is_set() else next(jobs, None)

    def _start(self) -> DecoderProcess:
        process = DecoderProcess(self._order)
        self._running[process.pid] = process
        if self._closing.is_set():  # close() may have looked before it stood in the table
            process.kill()
        try:
            process.greet()
        except BackendError:
            self._stop(process)
            if not self._closing.is_set():
                raise
        return process

    def _stop(self, process: DecoderProcess) -> None:
        process.end()
        self._running.pop(process.pid, None)

    def _put(self, result: Decoded | BaseException | None) -> None:
        while not self._closing.is_set():
            try:
                self._results.put(result, timeout=0.2)
            except queue.Full:
                continue
            return

"""Pictures that are decoded one at a time: those of a query and of a contact sheet.

They come from strangers like any other, so a process of its own decodes them, within the limits of
ingestion. It is kept for the next picture, since a start takes some .1 s.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from maxsight import settings
from maxsight.errors import MediaError
from maxsight.index.records import FileState
from maxsight.pipelines.decoding.memory import share
from maxsight.pipelines.decoding.messages import Alive, Finished, Refused, Viewed
from maxsight.pipelines.decoding.orders import Job, Order, View
from maxsight.pipelines.decoding.process import NONSENSE, DecoderGone, DecoderProcess

if TYPE_CHECKING:
    from maxsight.models.pixels.preprocess import Preprocess

Answer = TypeVar("Answer", Finished, Viewed)


class LoneDecoder:
    """One decoder process, started when first needed and kept until :meth:`close`.

    Any thread may call it; it decodes one picture after the other. After ``close`` it may be used
    again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._process: DecoderProcess | None = None
        self._end: weakref.finalize[[], LoneDecoder] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pixels(self, path: str, preprocess: Preprocess) -> np.ndarray:
        """A picture as an encoder wants it.

        Returns:
            (n, height, width, 3) uint8: the picture, and the squares of a long one.

        Raises:
            MediaError: it cannot be decoded, or not within the limits.
            BackendError: no decoder process can be started.
        """
        job = Job(FileState(path, 0, 0), "image")
        return self._ask(job, Finished, preprocess.gives, preprocess).pixels

    def view(self, path: str, *, side: int, time: float | None = None) -> np.ndarray:
        """A picture as it is shown to a person. Raises as :meth:`pixels`.

        Args:
            path: of a picture, or of a film.
            side: pixels that the longer side has at most.
            time: of a film, seconds after its first frame.

        Returns:
            (height, width, 3) uint8.
        """
        job = View(path, side, time)
        shown: np.ndarray = self._ask(job, Viewed, job.gives).pixels[0]
        return shown

    def close(self) -> None:
        """End the process, after the pictures that other threads wait for."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                thread.submit(self._stop)
                thread.shutdown()

    def _ask(
        self,
        job: Job | View,
        kind: type[Answer],
        gives: Callable[[int, int], bool],
        preprocess: Preprocess | None = None,
    ) -> Answer:
        with self._lock:
            if self._thread is None:
                # The kernel ends a decoder with the thread that started it: one of its own.
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="lone-decoder")
            answer = self._thread.submit(self._answer, job, kind, gives, preprocess)
        try:
            return answer.result()
        except KeyboardInterrupt:
            # Nobody waits for this picture any more; closing would, for as long as it takes.
            process = self._process
            if not answer.cancel() and process is not None:
                process.kill()
            raise

    def _answer(
        self,
        job: Job | View,
        kind: type[Answer],
        gives: Callable[[int, int], bool],
        preprocess: Preprocess | None,
    ) -> Answer:
        """The work of the thread."""
        process = self._started(preprocess)
        timeout_s = settings.decode_timeout()
        try:
            process.hand(job)
            while isinstance(message := process.receive(timeout_s, gives), Alive):
                pass
        except DecoderGone as gone:
            self._stop()
            raise MediaError(str(gone)) from None
        if isinstance(message, Refused):
            raise MediaError(message.reason)
        if not isinstance(message, kind) or not len(message.pixels):
            self._stop()
            raise MediaError(NONSENSE)
        return message

    def _started(self, preprocess: Preprocess | None) -> DecoderProcess:
        """The process, which is started anew where it works by other settings."""
        limit = settings.max_pixels()
        if (process := self._process) is not None:
            wished = preprocess or process.order.preprocess  # showing a picture asks for none
            order = replace(process.order, preprocess=wished, max_pixels=limit, parent=os.getpid())
            if process.order == order and process.is_alive:
                return process
            self._stop()
        memory = share(settings.memory(), workers=1, max_pixels=limit).largest
        order = Order(preprocess, 1.0, 1, limit, memory, os.getpid())
        process = DecoderProcess(order)
        process.greet()
        self._process = process
        self._end = weakref.finalize(self, process.end)
        return process

    def _stop(self) -> None:
        self._process = None
        if self._end is not None:
            self._end()

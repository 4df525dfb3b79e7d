"""Decoder processes, and the threads that drive them.

Each process is driven by one thread, which hands it a file, receives what it decodes, and puts that
into one bounded queue. A decoder that crashes or falls silent costs the file it was at: the file is
refused with a reason, the decoder is started anew. Processes are started with ``subprocess`` and
not ``multiprocessing``: nothing of the caller's ``__main__`` is imported again, and no process that
holds threads or a CUDA context is forked.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self, cast

from maxsight import settings
from maxsight.errors import BackendError
from maxsight.models.preprocess import Preprocess
from maxsight.pipelines import messages
from maxsight.pipelines.messages import Alive, Finished, Job, Message, Order, Refused

# Files a process has been handed at a time: one it is at, and one so that it need not wait.
_AHEAD = 2

# A pipe this large (Linux' limit for ordinary users) takes several pictures, so that a decoder goes
# on with the next one while its thread waits for the interpreter.
_PIPE_BYTES = 1 << 20

_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Decoded:
    """A message about a file."""

    job: Job
    message: Message


class DecoderGone(Exception):
    """A decoder process has ended or fallen silent; ``str()`` is the reason for the file's failure.

    Attributes:
        again: the cause may lie outside the file.
    """

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class DecodePool:
    """Decodes files in processes of its own.

    Args:
        preprocess: the encoder's wishes.
        fps: frames a second taken from films.
        workers: processes.
        timeout_s: seconds without a sign of life after which a decoder is stopped.
        max_pixels: refuse larger pictures.
        queue_size: messages that wait for the reader before decoding pauses.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        fps: float,
        workers: int,
        timeout_s: float,
        max_pixels: int,
        queue_size: int = 64,
    ) -> None:
        self._preprocess = preprocess
        # A decoded picture takes up to four bytes a pixel, twice where it is converted; the rest
        # is for the interpreter and for films, whose decoders hold some dozens of frames.
        self._order = Order(preprocess, fps, max_pixels, 8 * max_pixels + (1 << 30), os.getpid())
        self._workers = workers
        self._timeout_s = timeout_s
        self._results: queue.Queue[Decoded | BaseException | None] = queue.Queue(queue_size)
        self._jobs_lock = threading.Lock()
        self._closing = threading.Event()
        self._running: dict[int, _Process] = {}
        self._drivers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        source = iter(jobs)
        count = self._workers
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
            driver.join(_END_TIMEOUT_S)

    def _drive(self, jobs: Iterator[Job]) -> None:
        try:
            self._drive_until_done(jobs)
            self._put(None)
        except BaseException as error:  # whatever it is, it belongs to whoever reads the results
            self._put(error)

    def _drive_until_done(self, jobs: Iterator[Job]) -> None:
        handed: deque[Job] = deque()
        process: _Process | None = None
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
                    message = process.receive(self._timeout_s)
                except DecoderGone as gone:
                    self._stop(process)
                    process = None
                    self._put(Decoded(handed.popleft(), Refused(0.0, str(gone), gone.again)))
                    continue
                if not isinstance(message, Alive):
                    self._put(Decoded(handed[0], message))
                if isinstance(message, Finished | Refused):
                    handed.popleft()
        finally:
            if process is not None:
                self._stop(process)

    def _next(self, jobs: Iterator[Job]) -> Job | None:
        with self._jobs_lock:
            return None if self._closing.is_set() else next(jobs, None)

    def _start(self) -> _Process:
        process = _Process(self._order, self._preprocess)
        self._running[process.pid] = process
        if self._closing.is_set():  # close() may have looked before it stood in the table
            process.kill()
        try:
            process.receive(_START_TIMEOUT_S)
        except DecoderGone as gone:
            self._stop(process)
            if not self._closing.is_set():
                raise BackendError(
                    f"a decoder process does not start: {gone}. Its last words: "
                    f"{process.last_words or 'none'}. Try: {sys.executable} -m "
                    "maxsight.pipelines.decode_worker </dev/null"
                ) from None
        return process

    def _stop(self, process: _Process) -> None:
        process.end()
        self._running.pop(process.pid, None)

    def _put(self, result: Decoded | BaseException | None) -> None:
        while not self._closing.is_set():
            try:
                self._results.put(result, timeout=0.2)
            except queue.Full:
                continue
            return


class _Process:
    """One decoder process, seen from its parent."""

    def __init__(self, order: Order, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in end)
        # -P: a file of the current folder named like a module (say PIL.py) must not be imported.
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "maxsight.pipelines.decode_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            pipesize=_PIPE_BYTES,
            env=_environment(),
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
        )
        self.pid = self._popen.pid
        self._stdin = cast(BinaryIO, self._popen.stdin)
        self._stdout = cast(BinaryIO, self._popen.stdout)
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._send(messages.pack_order(order))

    def hand(self, job: Job) -> None:
        """Give it a file; it takes them in order."""
        self._send(messages.pack_job(job))

    def receive(self, timeout_s: float) -> Message:
        """Its next message.

        Raises:
            DecoderGone: it ended, was silent for ``timeout_s`` seconds, or sent nonsense.
        """

        def read_exactly(buffer: memoryview) -> bool:
            while buffer:
                # Time counts only while this thread waits: a decoder is not silent because
                # nobody listens.
                if not self._poll.poll(1000 * timeout_s):
                    raise DecoderGone(
                        f"no sign of life from its decoder in {timeout_s:.0f} seconds; if disk or "
                        "machine are slow, raise MAXSIGHT_DECODE_TIMEOUT and run again",
                        again=True,
                    )
                count = os.readv(self._stdout.fileno(), [buffer])
                if not count:
                    return False
                buffer = buffer[count:]
            return True

        try:
            received = messages.read(read_exactly)
            if received is None:
                raise self._obituary()
            return messages.unpack(*received, self._preprocess)
        except (ValueError, KeyError, TypeError):
            raise DecoderGone("damaged: it drove its decoder mad", again=False) from None

    @property
    def last_words(self) -> str:
        """The last line it wrote to standard error."""
        if self._stderr.closed:
            return self._words
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - 4096))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def kill(self) -> None:
        """End it without waiting."""
        self._popen.kill()

    def end(self) -> None:
        """End it and give back what it held."""
        self._popen.kill()
        # One stuck in the kernel on a dead disk goes when the disk answers.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_END_TIMEOUT_S)
        self._words = self.last_words
        for stream in (self._stdin, self._stdout, self._stderr):
            stream.close()

    def _send(self, header: dict[str, object]) -> None:
        # If it is dead, receive() finds out, and of what.
        with contextlib.suppress(BrokenPipeError):
            messages.write(self._stdin, header)

    def _obituary(self) -> DecoderGone:
        code = self._popen.wait()
        if code == -signal.SIGKILL:
            return DecoderGone(
                "its decoder was killed, most likely because the machine ran out of memory; close "
                "other programs or lower MAXSIGHT_WORKERS, and run again",
                again=True,
            )
        if code < 0:
            return DecoderGone(
                f"it crashed its decoder ({signal.strsignal(-code)}): damaged, or made to harm",
                again=False,
            )
        return DecoderGone(
            f"its decoder stopped on an error of its own; please report it ({self.last_words})",
            again=False,
        )


def _environment() -> dict[str, str]:
    """The environment of a decoder: the modules its parent sees, and no threads beside its own."""
    package = Path(settings.__file__).parent.parent
    places = dict.fromkeys([*(place for place in sys.path if place), str(package)])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(places),
        "PYTHONWARNINGS": "ignore",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }

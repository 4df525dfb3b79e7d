"""One decoder process, seen from its parent.

Processes are started with ``subprocess`` and not ``multiprocessing``: nothing of the caller's
``__main__`` is imported again, and no process that holds threads or a CUDA context is forked.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, cast

from maxsight import settings, shortage
from maxsight.errors import BackendError
from maxsight.pipelines.decoding import messages
from maxsight.pipelines.decoding.messages import Message
from maxsight.pipelines.decoding.orders import Job, Order, View
from maxsight.pipelines.media.limits import Limit

# A pipe this large (Linux' limit for ordinary users) takes several pictures, so that a decoder goes
# on with the next one while its thread waits for the interpreter.
_PIPE_BYTES = 1 << 20

NONSENSE = "damaged: it drove its decoder mad"

_START_TIMEOUT_S = 60.0
# One that is stuck on a dead disk is left behind.
END_TIMEOUT_S = 5.0
# Longer than that cannot be waited for in one go.
_LONGEST_MS = (1 << 31) - 1


class DecoderGone(Exception):
    """A decoder process has ended or fallen silent; ``str()`` is the reason for the file's failure.

    Attributes:
        again: the cause may lie outside the file.
        hungry: it may be that it got too little memory.
        limit: that it ran into.
    """

    def __init__(
        self, reason: str, *, again: bool, hungry: bool = False, limit: Limit | None = None
    ) -> None:
        super().__init__(reason)
        self.again = again
        self.hungry = hungry
        self.limit = limit


class DecoderProcess:
    """One decoder process; every start is followed by :meth:`greet`.

    Args:
        order: how it works.

    Attributes:
        order: the same.
        pid: its process id.

    Raises:
        BackendError: the system refuses it.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        try:
            self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in end)
            self._popen = self._started()
        except OSError as error:
            raise shortage.named(error) or BackendError(
                f"a decoder process does not start: {error}"
            ) from None
        self.pid = self._popen.pid
        self._stdin = cast(BinaryIO, self._popen.stdin)
        self._stdout = cast(BinaryIO, self._popen.stdout)
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._send(messages.pack(order))

    def _started(self) -> subprocess.Popen[bytes]:
        try:
            # -P: a file of the current folder named like a module (say PIL) is not imported.
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "maxsight.pipelines.decoding.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                pipesize=_PIPE_BYTES,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
            )
        except BaseException:
            self._stderr.close()
            raise

    def greet(self) -> None:
        """Wait until it is ready for work.

        Raises:
            BackendError: it does not start.
        """
        try:
            self.receive(_START_TIMEOUT_S)
        except DecoderGone as gone:
            self.end()
            raise BackendError(
                f"a decoder process does not start: {gone}. Its last words: "
                f"{self.last_words or 'none'}. Try: {sys.executable} -m "
                "maxsight.pipelines.decoding.worker </dev/null"
            ) from None

    def hand(self, job: Job | View) -> None:
        """Give it a file; it takes them in order."""
        self._send(messages.pack(job))

    def receive(
        self, timeout_s: float, gives: Callable[[int, int], bool] = lambda width, height: False
    ) -> Message:
        """Its next message.

        Args:
            timeout_s: seconds without a sign of life after which it is given up.
            gives: whether the job it is at can give pixels of that width and height.

        Raises:
            DecoderGone: it ended, was silent for ``timeout_s`` seconds, or sent nonsense.
        """

        def read_exactly(buffer: memoryview) -> bool:
            while buffer:
                # Time counts only while this thread waits: a decoder is not silent because
                # nobody listens.
                if not self._poll.poll(min(1000 * timeout_s, _LONGEST_MS)):
                    raise DecoderGone(
                        f"no sign of life from its decoder in {timeout_s:.0f} seconds; if disk or "
                        "machine are slow, raise MAXSIGHT_DECODE_TIMEOUT and run again",
                        again=True,
                        limit="timeout",
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
            return messages.unpack(*received, gives)
        except (ValueError, KeyError, TypeError):
            raise DecoderGone(NONSENSE, again=False) from None

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._popen.poll() is None

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
        # One in the kernel goes when the disk answers.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(END_TIMEOUT_S)
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
                hungry=True,  # as codecs do that never look whether they got what they asked for
            )
        return DecoderGone(
            f"its decoder stopped on an error of its own; please report it ({self.last_words})",
            again=False,
        )


def _environment() -> dict[str, str]:
    """The environment of a decoder: the modules its parent sees, and no threads beside its own."""
    package = Path(settings.__file__).parent.parent
    paths = dict.fromkeys([*(path for path in sys.path if path), str(package)])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": "ignore",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }

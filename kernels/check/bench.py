"""What every step works with: the device, the sizes, and where rows go."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from maxsight.kernels.check.run import ROWS


class Bench:
    """One step's place.

    Attributes:
        device: the first GPU; the CPU in a dry run.
        dry: sizes are tiny and times mean nothing.
    """

    def __init__(self, step: str, folder: Path, *, dry: bool) -> None:
        self.step, self.folder, self.dry = step, folder, dry
        self.device = torch.device("cpu") if dry else torch.device("cuda", 0)
        self._began = time.perf_counter()

    def row(self, name: str, **values: object) -> None:
        """Write a row at once."""
        at = round(time.perf_counter() - self._began, 1)
        line = json.dumps({"step": self.step, "name": name, "at": at, **values}, default=str)
        with (self.folder / ROWS).open("a") as file:
            file.write(line + "\n")

    def skipped(self, name: str, why: str) -> None:
        """Name a part that cannot run here."""
        self.row(name, skipped=why)

    def attempt(self, name: str, work: Callable[[], dict[str, object]]) -> None:
        """Write what ``work`` gives as a row, or how it failed; go on unless the GPU is lost.

        Raises:
            RuntimeError: the GPU's context is lost, so that no later row of this process counts.
        """
        try:
            self.row(name, **work())
        except Exception as error:  # a case may raise anything, and the others shall run
            traceback.print_exc()
            lines = str(error).strip().splitlines()
            self.row(name, FAILED=type(error).__name__, why=lines[-1][:300] if lines else "")
            if not self.dry:
                torch.cuda.synchronize()  # raises again where the context is lost

    def wait(self) -> None:
        """Until the device has done all."""
        if not self.dry:
            torch.cuda.synchronize()


@contextmanager
def room(name: str) -> Iterator[None]:
    """Let another room compute meanwhile."""
    before = os.environ.get("MAXSIGHT_KERNELS")
    os.environ["MAXSIGHT_KERNELS"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["MAXSIGHT_KERNELS"]
        else:
            os.environ["MAXSIGHT_KERNELS"] = before

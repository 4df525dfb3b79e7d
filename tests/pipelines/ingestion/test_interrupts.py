import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from colour_grid import ColourGridEncoder

from maxsight.pipelines.ingestion.encode import BatchEncoder
from maxsight.pipelines.ingestion.interrupts import held_back


def test_ctrl_c_comes_after_the_block() -> None:
    done = []
    before = signal.getsignal(signal.SIGINT)

    def block() -> None:
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("within")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["within"]
    assert signal.getsignal(signal.SIGINT) is before


def test_where_it_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handing_over_a_batch_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    submit, handed = ThreadPoolExecutor.submit, []

    def interrupted(self: ThreadPoolExecutor, *args: Any) -> Future[Any]:
        os.kill(os.getpid(), signal.SIGINT)
        future = submit(self, *args)
        handed.append(future)
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    encoder = ColourGridEncoder()
    size = encoder.preprocess.size
    with (
        pytest.raises(KeyboardInterrupt),
        BatchEncoder[int](encoder, batch_size=1, tokens=False) as batches,
    ):
        list(batches.add(0, np.zeros((1, size, size, 3), np.uint8)))
    assert len(handed) == 1

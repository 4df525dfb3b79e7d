"""A property that many threads ask for at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from maxsight.index.loaded_once import loaded_once


class Holder:
    def __init__(self, both: threading.Barrier) -> None:
        self.both = both
        self.times = 0

    @loaded_once
    def value(self) -> list[int]:
        """What is loaded."""
        self.times += 1
        self.both.wait(10)
        return [self.times]


def test_a_value_is_loaded_once_and_objects_do_not_wait_for_each_other() -> None:
    both = threading.Barrier(2)
    holders = [Holder(both), Holder(both)]
    with ThreadPoolExecutor(8) as threads:
        values = list(threads.map(lambda n: holders[n % 2].value, range(8)))
    assert values == [[1]] * 8
    assert [holder.times for holder in holders] == [1, 1]
    assert values[0] is values[2] is holders[0].value

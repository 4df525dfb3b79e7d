"""Which inverted lists a filtered query visits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from maxsight.index.array_types import Floats, Mask, Rows


class Coverage:
    """Knows the list of every row, and so which lists hold an allowed row.

    The allowed rows nearest to a query lie farther away than the nearest of all, the farther the
    fewer they are. So where a share s of the rows is allowed, 1 / s times as many lists are visited
    as without a filter, and about as many allowed rows are seen as then rows of any kind.

    Lists that hold none are passed over and do not count: filters that have to do with the content,
    for which the nearest lists hold nothing, find as much as those that do not.

    Args:
        owner: (N,) list of each row.
        lists: how many there are.
    """

    def __init__(self, owner: npt.NDArray[np.int32], lists: int) -> None:
        self._owner = owner
        self._lists = lists

    def visits(
        self, allowed: Mask, probes: int, nearest: Callable[[int], tuple[Floats, Rows]]
    ) -> tuple[Floats, Rows]:
        """The lists to visit, nearest first.

        Args:
            allowed: (N,), some of it true.
            probes: lists that a search without a filter visits.
            nearest: gives the scores and numbers, each (Q, width), of the nearest lists.

        Returns:
            ``(scores, lists)``, each (Q, most): -1 where a query visits fewer than another.
        """
        held = np.bincount(self._owner[allowed], minlength=self._lists)
        share = held.sum() / len(self._owner)
        holding = np.append(held > 0, False)  # list -1, of which there is none, holds none
        wanted = min(math.ceil(probes / share), int(np.count_nonzero(holding)))
        width = min(self._lists, 2 * wanted)
        while True:
            near, lists = nearest(width)
            visited = holding[lists]
            count = np.cumsum(visited, axis=1)
            if width == self._lists or (count[:, -1] >= wanted).all():
                break
            width = min(self._lists, 4 * width)
        visited &= count <= wanted
        order = np.argsort(~visited, axis=1, kind="stable")[:, :wanted]
        kept = np.take_along_axis(visited, order, axis=1)
        return (
            np.take_along_axis(near, order, axis=1),
            np.where(kept, np.take_along_axis(lists, order, axis=1), -1),
        )

    def bytes(self) -> int:
        """Memory it holds."""
        return int(self._owner.nbytes)

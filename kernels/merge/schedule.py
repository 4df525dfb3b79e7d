"""How many tokens each layer of a transformer merges away, as data.

Source: ToMe (Bolya et al., 2023), section 3, and its published ``parse_r``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Linear:
    """From ``r * (1 - inflection)`` in the first layer to ``r * (1 + inflection)`` in the last.

    Attributes:
        r: the mean over the layers.
        inflection: -1 (all early, falling to none) to 1 (rising from none); 0 is constant.
    """

    r: int
    inflection: float


@dataclass(frozen=True)
class Keep:
    """Spread evenly so that a share of the unprotected tokens is left after the last layer.

    Attributes:
        share: above 0, at most 1.
    """

    share: float


Schedule = int | Sequence[int] | Linear | Keep


def schedule(spec: Schedule, layers: int, *, tokens: int, protected: int = 1) -> tuple[int, ...]:
    """The tokens that :func:`maxsight.kernels.merge.merge` removes in each layer.

    Args:
        spec: a number for every layer; a number a layer, followed by zeros where the list is
            shorter; :class:`Linear`; or :class:`Keep`.
        layers: of the transformer.
        tokens: that enter the first layer, protected ones counted.
        protected: as ``merge`` takes it.

    Returns:
        One number a layer, none above what ``merge`` can remove there: half of the unprotected
        tokens that are left. Where nothing is cut for that reason, ToMe's own numbers.

    Raises:
        ValueError: a negative number, a list longer than ``layers``, an inflection outside
            -1 ... 1, a share outside 0 ... 1 or 0 itself.

    Example:
        >>> schedule(8, 4, tokens=197)
        (8, 8, 8, 8)
        >>> schedule(Linear(8, -1), 4, tokens=197)
        (16, 10, 5, 0)
        >>> schedule(13, 12, tokens=50)
        (13, 13, 11, 6, 3, 1, 1, 0, 0, 0, 0, 0)
    """
    if layers < 0 or tokens < 0 or protected < 0:
        raise ValueError(
            f"layers, tokens and protected are counts, got {layers}, {tokens} and {protected}"
        )
    wanted = _wanted(spec, layers, max(tokens - protected, 0))
    removed = []
    for number in wanted:
        removed.append(removable(tokens, number, protected))
        tokens -= removed[-1]
    return tuple(removed)


def removable(tokens: int, r: int, protected: int) -> int:
    """``r``, or half of the unprotected tokens if that is less."""
    return min(r, max(tokens - protected, 0) // 2)


def _wanted(spec: Schedule, layers: int, free: int) -> list[int]:
    match spec:
        case int():
            numbers = [spec] * layers
        case Linear(r, inflection):
            if not -1 <= inflection <= 1:
                raise ValueError(f"an inflection lies in -1 ... 1, got {inflection}")
            numbers = _linear(r, inflection, layers)
        case Keep(share):
            if not 0 < share <= 1:
                raise ValueError(f"the share kept is above 0 and at most 1, got {share}")
            total = free - round(free * share)
            numbers = [total * (i + 1) // layers - total * i // layers for i in range(layers)]
        case _:
            numbers = list(spec)
            if len(numbers) > layers:
                raise ValueError(
                    f"a list of {len(numbers)} numbers for {layers} layers; shorten it"
                )
            numbers += [0] * (layers - len(numbers))
    if any(number < 0 for number in numbers):
        raise ValueError(f"tokens to merge are counts of 0 or more, got {spec}")
    return numbers


def _linear(r: int, inflection: float, layers: int) -> list[int]:
    if layers < 2:
        return [r] * layers
    first = int(r * (1 - inflection))
    step = (2 * r - 2 * first) / (layers - 1)
    return [int(first + step * layer) for layer in range(layers)]

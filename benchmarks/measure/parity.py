"""Whether two searches gave the same answer. Asserted before anything is timed."""

from __future__ import annotations

from collections.abc import Sequence


class ParityError(AssertionError):
    """Contenders disagree, so their times must not be compared."""


def assert_same_hits(
    contender: str,
    found: tuple[Sequence[int], Sequence[float]],
    truth: tuple[Sequence[int], Sequence[float]],
    *,
    tolerance: float,
) -> None:
    """Assert that two ranked answers are equal as far as arithmetic allows.

    Scores must agree place by place within ``tolerance``; ids must be the same, except that
    those whose scores lie within ``tolerance`` of the last place may have come in or dropped out.

    Args:
        contender: whose answer it is, for the message.
        found, truth: (ids, scores), best first.
        tolerance: of a score.

    Raises:
        ParityError: they differ.
    """
    (ids, scores), (true_ids, true_scores) = found, truth
    if len(ids) != len(true_ids):
        raise ParityError(f"{contender} returned {len(ids)} hits, not {len(true_ids)}")
    for place, (score, true_score) in enumerate(zip(scores, true_scores), start=1):
        if not abs(score - true_score) <= tolerance:  # a NaN fails too
            raise ParityError(
                f"{contender} scored place {place} {score:.6f}, not {true_score:.6f} "
                f"(tolerance {tolerance:g})"
            )
    if not true_scores:
        return
    border = true_scores[-1] + 2 * tolerance
    must = {i for i, score in zip(true_ids, true_scores) if score > border}
    if missing := must - set(ids):
        raise ParityError(f"{contender} missed {sorted(missing)}")
    if len(set(ids)) != len(ids):
        raise ParityError(f"{contender} returned an id twice: {list(ids)}")

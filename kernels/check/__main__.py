"""``python -m maxsight.kernels.check``."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from maxsight.kernels.check.run import run


def main() -> int:
    """Run the check, or with ``--step`` one of its steps in this process.

    Returns:
        0 if no step failed or was killed and no row says FAILED, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m maxsight.kernels.check")
    parser.add_argument("--seconds", type=float, default=600, help="of all steps together")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder of the rows")
    parser.add_argument(
        "--dry", action="store_true", help="tiny shapes in Triton's interpreter, without a GPU"
    )
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.dry and (why := interpreter_lacks(version("triton"), version("numpy"))):
        parser.error(why)
    if given.step is None:
        return run(given.out, seconds=given.seconds, dry=given.dry)
    from maxsight.kernels.check import steps
    from maxsight.kernels.check.bench import Bench

    getattr(steps, given.step)(Bench(given.step, given.out, dry=given.dry))
    return 0


def interpreter_lacks(triton: str, numpy: str) -> str | None:
    """Why Triton's interpreter cannot run with this numpy; None if it can."""
    if _numbers(triton) < (3, 8) and _numbers(numpy) >= (2, 4):
        return f"the interpreter of triton {triton} needs numpy below 2.4, and {numpy} is here"
    return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


if __name__ == "__main__":
    sys.exit(main())

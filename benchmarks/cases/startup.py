"""How long does a cold command take, against importing torch?

Whole processes, from their start to their end, in turns. The file system's cache is warm (every
command runs once before) and Python's compiled files are in place; what is cold is the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from maxsight.benchmarks.material import pictures
from maxsight.benchmarks.measure.interleave import interleave, ratio
from maxsight.benchmarks.measure.rows import Row, timed

_TEXT = "a red apple"
_TORCH = 'python -c "import torch"'


def run(data: Path, *, rounds: int = 11) -> list[Row]:
    """Measure on the library that ``maxsight demo`` makes.

    Args:
        data: folder for rendered material.
        rounds: how often each command runs.

    Returns:
        Wall time of each command, and as a multiple of ``import torch`` in the same round.
    """
    stranger = sorted(pictures.photographs(data, 6).iterdir())[0]
    with tempfile.TemporaryDirectory(prefix="maxsight-startup-") as scratch:
        demo, warm_cache = Path(scratch) / "demo", Path(scratch) / "cache"
        made = json.loads(_run(["demo", demo, "--json"], cache=warm_cache))
        inside = sorted((demo / "pictures").glob("*.webp"))[0]
        search: list[str | Path] = ["search", made["library"], "--json"]

        def cold_cache() -> Path:
            return Path(tempfile.mkdtemp(dir=scratch))

        commands: dict[str, tuple[Sequence[str | Path], Callable[[], Path]]] = {
            "maxsight --help": (["--help"], lambda: warm_cache),
            "maxsight search TEXT, asked before": ([*search, _TEXT], lambda: warm_cache),
            "maxsight search TEXT, new": ([*search, _TEXT], cold_cache),
            "maxsight search --image, in the library": (
                [*search, "--image", inside],
                lambda: warm_cache,
            ),
            "maxsight search --image, not in the library": (
                [*search, "--image", stranger],
                lambda: warm_cache,
            ),
        }
        _check([*search, _TEXT], warm_cache=warm_cache, cold_cache=cold_cache())
        contenders = {
            name: _contender(arguments, cache) for name, (arguments, cache) in commands.items()
        }
        contenders["python -c pass"] = _python("pass")
        contenders[_TORCH] = _python("import torch")
        for measure in contenders.values():
            measure(-1)
        seconds = interleave(contenders, rounds=rounds)

    case = f"demo, {made['report']['units']} pictures and frames"
    rows = [
        timed(times, benchmark="startup", case=case, contender=name)
        for name, times in seconds.items()
    ]
    rows += [
        ratio(
            seconds[name],
            seconds[_TORCH],
            benchmark="startup",
            case=case,
            contender=name,
            metric="time / import torch",
        )
        for name in commands
    ]
    return rows


def _check(arguments: Sequence[str | Path], *, warm_cache: Path, cold_cache: Path) -> None:
    """A text's answer must not depend on whether its vector was cached; this fills the cache."""
    answers = [
        [(hit["path"], hit["score"]) for hit in json.loads(_run(arguments, cache=cache))["hits"]]
        for cache in (warm_cache, cold_cache, warm_cache)
    ]
    if not answers[0] or answers.count(answers[0]) != len(answers):
        raise AssertionError(f"the same search gave different answers: {answers}")


def _run(arguments: Sequence[str | Path], *, cache: Path) -> str:
    """Output of ``maxsight ARGUMENTS`` with the given cache folder."""
    done = subprocess.run(
        [Path(sys.executable).with_name("maxsight"), *arguments],
        env=os.environ | {"MAXSIGHT_CACHE": str(cache)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def _contender(
    arguments: Sequence[str | Path], cache: Callable[[], Path]
) -> Callable[[int], float]:
    def measure(_: int) -> float:
        folder = cache()
        start = time.perf_counter()
        _run(arguments, cache=folder)
        return time.perf_counter() - start

    return measure


def _python(code: str) -> Callable[[int], float]:
    def measure(_: int) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    return measure

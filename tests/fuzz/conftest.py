"""How long a target runs: 100 examples in every run of the tests, a minute of each in `make fuzz`.

Hypothesis counts examples, not seconds. So `--fuzz-seconds` runs a target again and again, with the
seeds 0, 1, 2, ..., until its time is over. The same seeds draw the same examples: by the same
Hypothesis, and whatever was imported before. `--fuzz-seed` begins elsewhere.

CI must not fail by chance, and its machine may be faster than the one that tried the seeds. So with
`--fuzz-known` a target ends before the first seed that was never tried: `passed_rounds.json` holds
how many rounds of each passed. `--fuzz-note` writes that file.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers

# Hypothesis also draws constants that stand in the modules imported so far. Which those are depends
# on the tests that ran before in the process, so the same seed would draw other examples.
vars(providers)["is_local_module_file"] = lambda path: False

_PASSED = Path(__file__).with_name("passed_rounds.json")

# One round, of one seed. Explicit examples run in every run of the tests, not in every round.
settings.register_profile(
    "fuzz",
    max_examples=200,
    database=None,
    # An input that holds a reader for so long is a fault.
    deadline=timedelta(seconds=30),
    phases=[Phase.generate, Phase.shrink],
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuzz")
    group.addoption("--fuzz-seconds", type=float, default=0.0, help="wall time of each target")
    group.addoption("--fuzz-known", action="store_true", help="no seed that was never tried")
    group.addoption("--fuzz-note", action="store_true", help="note how many rounds passed")
    group.addoption("--fuzz-seed", type=int, default=0, help="the first round's seed")


# Where these tests are not named on the command line, pytest reads this file after the options.
def _option(config: pytest.Config, name: str) -> Any:
    return config.getoption(name, default=0)


def _is_target(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and hypothesis.is_hypothesis_test(item.obj)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the targets alone: other tests have nothing to draw."""
    if not _option(config, "--fuzz-seconds"):
        return
    config.hook.pytest_deselected(items=[item for item in items if not _is_target(item)])
    items[:] = [item for item in items if _is_target(item)]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    seconds = _option(pyfuncitem.config, "--fuzz-seconds")
    if seconds and _is_target(pyfuncitem):
        pyfuncitem.obj = _rounds(pyfuncitem, pyfuncitem.obj, seconds)
    return (yield)


def _rounds(item: pytest.Function, target: Any, seconds: float) -> Callable[..., None]:
    """The target, run until the time is over. Its number of examples goes into the report."""
    tried = 0
    inner = target.hypothesis.inner_test

    @functools.wraps(inner)
    def counted(*args: Any, **named: Any) -> Any:
        nonlocal tried
        tried += 1
        return inner(*args, **named)

    @functools.wraps(target)
    def repeated(**fixtures: Any) -> None:
        seed = first = _option(item.config, "--fuzz-seed")
        end = time.monotonic() + seconds
        last = _passed().get(item.nodeid, 1) if _option(item.config, "--fuzz-known") else None
        target.hypothesis.inner_test = counted
        try:
            while seed == first or (time.monotonic() < end and seed != last):
                hypothesis.seed(seed)(target)(**fixtures)
                seed += 1
        except BaseException:
            again = f"--hypothesis-profile=fuzz --fuzz-seconds=1 --fuzz-seed={seed}"
            item.add_report_section("call", "fuzz", f"Again: pytest '{item.nodeid}' {again}")
            raise
        finally:
            target.hypothesis.inner_test = inner
            item.user_properties.append(("fuzz", (tried, first, seed)))

    return repeated


def _passed() -> dict[str, int]:
    """How many rounds, from seed 0, each target has passed."""
    rounds: dict[str, int] = json.loads(_PASSED.read_text(encoding="utf-8"))
    return rounds


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rounds = {
        (outcome, report.nodeid): told
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, told in report.user_properties
        if name == "fuzz"
    }
    if not rounds:
        return
    terminalreporter.section("fuzz")
    for (_, target), (tried, first, end) in sorted(rounds.items()):
        terminalreporter.write_line(f"{target}: {tried:,} examples, seeds {first} to {end - 1}")
    if _option(terminalreporter.config, "--fuzz-note"):
        passed = {
            target: end
            for (outcome, target), (_, first, end) in rounds.items()
            if outcome == "passed" and first == 0
        }
        text = json.dumps(_passed() | passed, indent=2, sort_keys=True)
        _PASSED.write_text(text + "\n", encoding="utf-8")

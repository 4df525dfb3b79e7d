"""How long a target runs: 100 examples in every run of the tests, a minute of each in `make fuzz`.

Hypothesis counts examples, not seconds. So `--fuzz-seconds` runs a target again and again, with the
seeds 0, 1, 2, ..., until its time is over. The same seeds draw the same examples: CI tries what was
tried here. `--fuzz-seed` begins elsewhere.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings

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
        target.hypothesis.inner_test = counted
        try:
            while seed == first or time.monotonic() < end:
                hypothesis.seed(seed)(target)(**fixtures)
                seed += 1
        except BaseException:
            again = f"--hypothesis-profile=fuzz --fuzz-seconds=1 --fuzz-seed={seed}"
            item.add_report_section("call", "fuzz", f"Again: pytest '{item.nodeid}' {again}")
            raise
        finally:
            target.hypothesis.inner_test = inner
            item.user_properties.append(("fuzz", f"{tried:,} examples, seeds {first} to {seed}"))

    return repeated


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        (report.nodeid, said)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, said in report.user_properties
        if name == "fuzz"
    ]
    if reports:
        terminalreporter.section("fuzz")
    for target, said in sorted(reports):
        terminalreporter.write_line(f"{target}: {said}")

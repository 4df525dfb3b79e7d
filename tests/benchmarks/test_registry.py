import inspect
import re
from pathlib import Path

import pytest

from maxsight.benchmarks import registry
from maxsight.errors import UsageError

_DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@pytest.mark.parametrize("name", registry.BENCHMARKS)
def test_every_name_runs_with_a_folder_alone(name: str) -> None:
    benchmark = registry.load(name)
    first, *others = inspect.signature(benchmark.run).parameters.values()
    assert first.name == "data"
    assert all(other.default is not inspect.Parameter.empty for other in others)
    assert benchmark.question.endswith("?")


def test_the_docs_list_the_registry() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", _DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == list(registry.BENCHMARKS)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'speed'.*latency"):
        registry.load("speed")

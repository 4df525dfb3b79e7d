"""The pages of docs/ name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOPS = "maxsight", "kernels", "models", "index", "pipelines", "benchmarks", "tests", "docs"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "tests" / "README.md"]
# `kernels/maxsim/cpu.py`, `index/late/`, `kernels/{fde,merge}/gpu.py`, plain `store.py`.
_PATH = re.compile(rf"(?<![\w./<({{-])(?:{'|'.join(TOPS)})/[\w./*{{}},-]*")
_ANY = re.compile(r"NAME|OPERATION")  # stands for any: benchmarks/results/gpu-NAME.csv
_SOURCE = re.compile(r"`(?:[\w-]+/)*[\w-]+\.(?:py|cpp|h)`")
_LINK = re.compile(r"\[[^\]]*\]\((?![a-z]+:)([^)#\s]+)[^)]*\)")


def spelt_out(path: str) -> list[str]:
    """``a/{b,c}.py`` names two files."""
    before, brace, rest = path.partition("{")
    inside, _, after = rest.partition("}")
    return [f"{before}{one}{after}" for one in inside.split(",")] if brace else [path]


def is_there(path: str) -> bool:
    return any(ROOT.glob(path.rstrip("./,") if "*" in path else path.rstrip(".,")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = _LINK.sub("", text)
    paths = [path for path in _PATH.findall(prose) if not _ANY.search(path)]
    missing = {path for found in paths for path in spelt_out(found) if not is_there(path)}
    sources = {name.strip("`") for name in _SOURCE.findall(prose) if not _ANY.search(name)}
    for name in sources:
        if name.split("/")[0] not in TOPS and not any(
            any((ROOT / top).rglob(name)) for top in TOPS if top != "docs"
        ):
            missing.add(name)
    missing |= {link for link in _LINK.findall(text) if not (page.parent / link).exists()}
    assert not missing, f"{page.name} names {sorted(missing)}"

"""The pages of docs/, docstrings and comments name files, modules and names that are there."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import maxsight

ROOT = Path(__file__).resolve().parents[1]
TOPS = "maxsight", "kernels", "models", "index", "pipelines", "benchmarks", "tests", "docs"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "tests" / "README.md"]
# `kernels/maxsim/cpu.py`, `index/late/`, `kernels/{fde,merge}/gpu.py`, plain `store.py`.
_PATH = re.compile(rf"(?<![\w./<({{-])(?:{'|'.join(TOPS)})/[\w./*{{}},-]*")
_ANY = re.compile(r"NAME|OPERATION")  # stands for any: benchmarks/results/gpu-NAME.csv
_SOURCE = re.compile(r"`(?:[\w-]+/)*[\w-]+\.(?:py|cpp|h)`")
# maxsight.index.store.Store, `index.store`; the files `index.json` and maxsight.toml are none.
_NAME = re.compile(
    rf"(?<![\w./-])maxsight(?:\.[A-Za-z_]\w*)+|(?<=`)(?:{'|'.join(TOPS[1:6])})(?:\.[A-Za-z_]\w*)+"
)
_FILE_KINDS = "json", "lance", "toml"
_PYTHON = re.compile(r"(?<![\w./*-])(?:[\w-]+/)*[\w-]+\.py\b")
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


def said(file: Path) -> Iterator[str]:
    """The docstrings and comments of a source."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    with tokenize.open(file) as stream:
        for token in tokenize.generate_tokens(stream.readline):
            if token.type == tokenize.COMMENT:
                yield token.string


@cache
def statements(file: Path) -> list[ast.stmt]:
    return ast.parse(file.read_bytes()).body


def is_name(dotted: str) -> bool:
    """Whether a module, or something that one defines, has that name."""
    names = dotted.removeprefix("maxsight.").split(".")
    if names[0] in maxsight.__all__:
        return True
    module = ROOT if names[0] in TOPS else ROOT / "maxsight"
    while names and (module / names[0]).is_dir():
        module /= names.pop(0)
    is_file = bool(names) and (module / f"{names[0]}.py").is_file()
    module /= f"{names.pop(0)}.py" if is_file else "__init__.py"
    inside = statements(module) if module.is_file() else []
    for name in names:
        found = [node for node in inside if name in bound_by(node)]
        if not found:
            return False
        inside = getattr(found[-1], "body", [])
    return module.is_file()


def bound_by(node: ast.stmt) -> set[str]:
    """The names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    stored = (inner for inner in ast.walk(node) if isinstance(inner, ast.Name))
    return {inner.id for inner in stored if isinstance(inner.ctx, ast.Store)}


def wrong_names(text: str) -> set[str]:
    return {
        name
        for name in _NAME.findall(text)
        if name.rpartition(".")[2] not in _FILE_KINDS and not is_name(name)
    }


@pytest.mark.parametrize("top", TOPS[:6])
def test_every_file_and_name_that_a_source_names_exists(top: str) -> None:
    for file in sorted((ROOT / top).rglob("*.py")):
        text = "\n".join(said(file))
        missing = wrong_names(text)
        missing |= {
            name
            for name in _PYTHON.findall(text)
            if not (ROOT / name).exists()
            and not any(any((ROOT / place).rglob(name)) for place in TOPS)
        }
        assert not missing, f"{file} names {sorted(missing)}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_name_in_a_page_exists(page: Path) -> None:
    missing = wrong_names(page.read_text(encoding="utf-8"))
    assert not missing, f"{page.name} names {sorted(missing)}"


def test_wrong_names_are_seen() -> None:
    right = "``maxsight.index.store.Store.known``, `maxsight.open`, `pipelines.query.encoder`"
    assert not wrong_names(f"{right}, ``index.json``")
    wrong = {"pipelines.expansion", "maxsight.index.store.Shop", "maxsight.indexes"}
    assert wrong_names(f"``{'``, ``'.join(wrong)}``") == wrong

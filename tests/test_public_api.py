"""The names that users build on. A change here is a change for them: it belongs in CHANGELOG.md."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FUNCTIONS = ["__version__", "load", "open"]
VALUES = ["Embeddings", "Encoder", "Library", "MaxsightError", "Query", "Term"]
ANSWERS = ["Hit", "IngestReport", "LibraryInfo", "Moment", "SearchResult"]

# module -> what its __all__ lists
PUBLIC = {
    "maxsight": sorted([*FUNCTIONS, *VALUES, *ANSWERS]),
    "maxsight.doctor": ["Finding", "diagnose"],
    "maxsight.kernels.fde": ["Config", "encode_documents", "encode_queries"],
    "maxsight.kernels.maxsim": [
        "CodedTokens",
        "Int8Tokens",
        "Packing",
        "answers",
        "interact",
        "score",
        "score_pairs",
        "topk",
    ],
    "maxsight.kernels.merge": [
        "Keep",
        "Linear",
        "Merged",
        "Reduced",
        "Schedule",
        "attention",
        "merge",
        "reduce",
        "schedule",
    ],
    "maxsight.kernels.resample": ["available", "resize"],
    "maxsight.kernels.similarity": ["rescore", "topk"],
    "maxsight.pipelines.ingestion.ingest": [
        "IngestInterrupted",
        "IngestReport",
        "Progress",
        "StageSeconds",
        "ingest",
    ],
    "maxsight.pipelines.media.video": ["Frame", "VideoInfo", "frame_at", "probe", "sample_frames"],
}


def modules_with_all() -> set[str]:
    """Every module of ours that says what is public in it."""
    found = set()
    for top in ("maxsight", "kernels", "models", "index", "pipelines", "serve", "benchmarks"):
        for file in (ROOT / top).rglob("*.py"):
            inside = file.relative_to(ROOT / top)
            if top == "kernels" and file.stem in ("reference", "cpu", "gpu"):
                continue  # rooms, behind the functions of their folder
            if top == "kernels" and inside.parts[0] == "native":
                continue  # private: the operations are what others import
            if (ROOT / top / inside.parts[0]).is_symlink():
                continue  # a working folder, visited under its own name
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    parts = [] if top == "maxsight" else [top]
                    parts += inside.with_suffix("").parts
                    found.add(".".join(["maxsight", *parts]).removesuffix(".__init__"))
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_what_they_were(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name]
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in PUBLIC.items() for name in names]
)
def test_every_public_name_is_there(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    assert value is not None
    if isinstance(value, type) or callable(value):
        assert value.__doc__, f"{module}.{name} has no docstring"


def test_no_public_module_is_forgotten_here() -> None:
    assert modules_with_all() == set(PUBLIC)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module("maxsight").no_such_name  # noqa: B018


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert importlib.import_module("maxsight").__version__ == version("maxsight")

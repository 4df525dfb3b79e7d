"""The floors hold: imports look down, in no circle, through public names, and cost little."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKING_FOLDERS = ("kernels", "models", "index", "pipelines", "serve", "benchmarks")
# A floor may import what stands below it; models and index stand side by side.
FLOORS = {
    "maxsight.shown": -1,
    "maxsight.errors": 0,
    "maxsight.arguments": 1,
    "maxsight.machine": 0,
    "maxsight.mix": 0,
    "maxsight.version": 0,
    "maxsight.plain_files": 0,
    "maxsight.settings": 1,
    "maxsight.shortage": 1,
    "maxsight.strict_json": 1,
    "maxsight.kernels": 2,
    "maxsight.models": 3,
    "maxsight.index": 3,
    "maxsight.pipelines": 4,
    "maxsight.library": 5,
    "maxsight.serve": 6,
    "maxsight": 7,
    "maxsight.benchmarks": 8,
}
# What is in a folder, the lowest first; what one entry names stands side by side.
INNER_FLOORS = {
    "maxsight.index": (
        "array_types faiss_build loaded_once plan records",
        "files",
        "tables",
        "exact",
        "ann",
        "late",
        "derived",
        "snapshot_tokens",
        "snapshot",
        "building loading",
        "writing",
        "store",
        "verify",
    ),
    "maxsight.models": (
        "catalogue compose device embeddings hub options precision model_folder",
        "pixels towers",
        "encoder",
        "builtin open_clip vlm",
    ),
    "maxsight.pipelines": ("media", "decoding", "ingestion", "query", "search", "moments"),
}
# The verb `bench` exists to run the benchmarks, which themselves use the face.
ALLOWED_UPWARD = {("maxsight.cli.bench", "maxsight.benchmarks")}
# Programs that drive other people's tools, in environments of their own.
PEERS = "maxsight.benchmarks.peer"
MOST_LINES = 480
MOST_FILES = 20  # loose in one folder
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"}

HEAVY = {"torch", "open_clip", "transformers", "sentence_transformers", "av", "decord"}
HEAVIER_THAN_HELP = HEAVY | {"numpy", "PIL", "lance", "pyarrow", "faiss", "huggingface_hub"}
LIGHT = {
    "maxsight": HEAVIER_THAN_HELP,
    "maxsight.errors": HEAVIER_THAN_HELP,
    "maxsight.settings": HEAVIER_THAN_HELP,
    "maxsight.cli": HEAVIER_THAN_HELP,
    "maxsight.doctor": HEAVIER_THAN_HELP,
    "maxsight.library": HEAVY,
    "maxsight.index": HEAVY,
    "maxsight.models.encoder": HEAVY,
    "maxsight.models.pixels.preprocess": HEAVY,
    "maxsight.pipelines.search.search": HEAVY,
}


@dataclass(frozen=True)
class Import:
    """One name that a module imports, at line ``line``."""

    full: str  # maxsight.models.hub.fetch
    target: str  # the module of it that is a file of ours, maxsight.models.hub
    name: str | None  # what is taken from that module, None for the module itself
    line: int


@cache
def sources() -> dict[str, Path]:
    """Module name -> file, for everything that is installed."""
    found: dict[str, Path] = {}
    for top in ("maxsight", *WORKING_FOLDERS):
        prefix = "maxsight" if top == "maxsight" else f"maxsight.{top}"
        for folder, folders, files in os.walk(ROOT / top):  # does not follow links
            folders[:] = [name for name in folders if name != "__pycache__"]
            parts = Path(folder).relative_to(ROOT / top).parts
            for file in files:
                if file.endswith(".py"):
                    stem = [] if file == "__init__.py" else [file.removesuffix(".py")]
                    found[".".join([prefix, *parts, *stem])] = Path(folder) / file
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(sources()[module].read_text(encoding="utf-8"))


def nearest_module(name: str) -> str:
    """``maxsight.models.hub.fetch`` -> ``maxsight.models.hub``."""
    while name not in sources():
        name = name.rpartition(".")[0]
    return name


def imports(module: str) -> Iterator[Import]:
    """Everything of maxsight's that a module imports, wherever in it."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names: list[tuple[str, str | None]] = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [(f"{node.module}.{alias.name}", alias.name) for alias in node.names]
        else:
            continue
        for full, name in names:
            if full.split(".")[0] == "maxsight":
                target = nearest_module(full)
                taken = None if target == full else name
                yield Import(full, target, taken, node.lineno)


def floor_of(module: str) -> str:
    """The entry of FLOORS that a module belongs to."""
    while module not in FLOORS:
        module = module.rpartition(".")[0]
    return module


def test_there_is_something_to_look_at() -> None:
    assert {floor_of(module) for module in sources()} >= set(FLOORS) - {"maxsight.serve"}
    assert any(True for module in sources() for _ in imports(module))


def test_imports_only_look_down() -> None:
    upward = []
    for module in sources():
        here = floor_of(module)
        for found in imports(module):
            there = floor_of(found.full)
            if here == there or FLOORS[there] < FLOORS[here]:
                continue
            if (module, there) not in ALLOWED_UPWARD:
                upward.append(f"{sources()[module]}:{found.line} imports {found.full}")
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("folder", INNER_FLOORS)
def test_rooms_only_look_down(folder: str) -> None:
    floors = {
        name: floor for floor, names in enumerate(INNER_FLOORS[folder]) for name in names.split()
    }
    depth = len(folder.split("."))
    inside = [name for name in sources() if name.startswith(f"{folder}.")]
    assert {name.split(".")[depth] for name in inside} == floors.keys()
    upward = []
    for module in inside:
        here = module.split(".")[depth]
        for found in imports(module):
            parts = found.target.split(".")
            if not found.target.startswith(f"{folder}.") or parts[depth] == here:
                continue
            if floors[parts[depth]] > floors[here]:
                upward.append(f"{sources()[module]}:{found.line} imports {found.full}")
    assert not upward, "\n".join(upward)


def test_imports_make_no_circle() -> None:
    """Not even through a function, or for types alone: who reads one must read the other."""
    graph = {
        module: {
            found.target
            for found in imports(module)
            if found.target != module and (module, floor_of(found.full)) not in ALLOWED_UPWARD
        }
        for module in sources()
    }
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(graph[module]):
                walk(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        walk(module, ())


def test_private_names_stay_in_their_module() -> None:
    crossing = []
    for module in sources():
        bound: dict[str, str] = {}  # local name -> the module of ours it stands for
        for found in imports(module):
            if found.name is not None and is_private(found.name):
                crossing.append(f"{sources()[module]}:{found.line} takes {found.name}")
            if found.name is None:
                bound[found.target.rpartition(".")[2]] = found.target
            if is_private(found.target.rpartition(".")[2]):
                crossing.append(f"{sources()[module]}:{found.line} imports {found.target}")
        for node in ast.walk(tree(module)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in bound
                and is_private(node.attr)
            ):
                crossing.append(f"{sources()[module]}:{node.lineno} reads {ast.unparse(node)}")
    assert not crossing, "\n".join(crossing)


def test_private_attributes_stay_in_their_module() -> None:
    """``x._name`` is read where ``_name`` is defined, or by a class from its base as ``self``;
    other people's private names are theirs."""
    defined = {module: set(own_private_names(module)) for module in sources()}
    ours = set().union(*defined.values())
    crossing = [
        f"{sources()[module]}:{node.lineno} reads {ast.unparse(node)}"
        for module in sources()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and node.attr in ours - defined[module]
        and ast.unparse(node.value) not in ("self", "cls")
        and node.attr not in ("_replace", "_asdict", "_fields")  # public in named tuples
    ]
    assert not crossing, "\n".join(crossing)


def own_private_names(module: str) -> Iterator[str]:
    """Private functions, classes and attributes that a module defines."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.id if isinstance(node, ast.Name) else node.attr
        else:
            continue
        if is_private(name):
            yield name


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_native_code_is_reached_through_the_operations() -> None:
    """What is compiled, and what computes where nothing is, is the kernels' own business."""
    native = "maxsight.kernels.native"
    reaching = [
        f"{sources()[module]}:{found.line} imports {found.full}"
        for module in sources()
        if floor_of(module) != "maxsight.kernels"
        for found in imports(module)
        if (found.full + ".").startswith(f"{native}.")
    ]
    assert not reaching, "\n".join(reaching)


@pytest.mark.parametrize("operation", ["similarity", "maxsim", "merge", "fde"])
def test_every_operation_has_the_same_files(operation: str) -> None:
    """docs/kernels/adding-an-operation.md says what they hold."""
    own = {module.rpartition(".")[2] for module in sources() if f".kernels.{operation}." in module}
    rooms = {"reference", "cpu", "gpu"}
    assert own >= rooms | {"operators", "gpu_kernels", "gpu_cases"}


def test_the_report_knows_the_cases_and_no_operation_the_report() -> None:
    upward = [
        f"{sources()[module]}:{found.line} imports {found.full}"
        for module in sources()
        if module.startswith("maxsight.kernels.") and ".kernels.report" not in module
        for found in imports(module)
        if found.full.startswith("maxsight.kernels.report")
    ]
    assert not upward, "\n".join(upward)


def test_imports_are_absolute_and_through_maxsight() -> None:
    wrong = []
    files = [*sources().values(), *(ROOT / "tests").rglob("*.py"), *ROOT.glob("examples/*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                if node.level:
                    wrong.append(f"{file}:{node.lineno} is relative")
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                if name.split(".")[0] in WORKING_FOLDERS:
                    wrong.append(f"{file}:{node.lineno} imports {name} without maxsight")
    assert not wrong, "\n".join(wrong)


def in_a_fresh_process(program: str, *arguments: str) -> str:
    """Run where `import kernels` would find ours: with the root first on the path."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_module_is_loaded_under_a_bare_name() -> None:
    """Twice loaded would be two classes of one name; and other packages are called `kernels`."""
    modules = sorted(name for name in sources() if not name.startswith(PEERS))
    program = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""
    loaded = json.loads(in_a_fresh_process(program, json.dumps(modules)).splitlines()[-1])
    assert set(modules) <= set(loaded)
    bare = [name for name in loaded if name.split(".")[0] in WORKING_FOLDERS]
    assert not bare


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_stay_light(module: str) -> None:
    """What a command imports before it knows what it needs is what every command waits for."""
    program = (
        "import importlib, json, sys; importlib.import_module(sys.argv[1]); "
        "print(json.dumps([name for name in sys.modules if '.' not in name]))"
    )
    heavy = set(json.loads(in_a_fresh_process(program, module))) & LIGHT[module]
    assert not heavy, f"importing {module} loads {sorted(heavy)}"


def test_files_are_small_and_named_for_a_concept() -> None:
    for file in [*sources().values(), *(ROOT / "tests").rglob("*.py")]:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{file} has {lines} lines; split it by concept"
    for module, file in sources().items():
        vague = VAGUE_NAMES & set(module.split("."))
        assert not vague, f"{file} is named {vague}, which says nothing about what it holds"


def test_no_folder_is_crowded() -> None:
    """Built files and the demo's pictures apart."""
    apart = {"__pycache__", "pictures"}
    for top in ("maxsight", *WORKING_FOLDERS, "tests", "docs"):
        for folder, folders, files in os.walk(ROOT / top):
            folders[:] = [name for name in folders if name not in apart]
            loose = [name for name in files if not name.endswith(".so")]
            assert len(loose) <= MOST_FILES, f"{folder} has {len(loose)} files; make folders"


def test_every_package_is_installed() -> None:
    """setuptools is told every package by name; one left out is missing from the wheel."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {
        module if file.name == "__init__.py" else module.rpartition(".")[0]
        for module, file in sources().items()
    }
    assert sorted(tool["packages"]) == sorted(packages)
    folders = {f"maxsight.{name}": name for name in WORKING_FOLDERS if (ROOT / name).is_dir()}
    assert tool["package-dir"] == {"maxsight": "maxsight"} | folders
    for package in packages:
        assert sources().get(package), f"{package} has no __init__.py"


def test_every_data_file_is_installed() -> None:
    """A file beside the code that no pattern names works here and is missing from the wheel."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    named = {
        file
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
        for file in sources()[package].parent.glob(pattern)
    }
    for extension in tool["ext-modules"]:
        named |= {ROOT / path for path in (*extension["sources"], *extension["depends"])}
    for top in ("maxsight", *WORKING_FOLDERS):
        for folder, folders, files in os.walk(ROOT / top):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in files:
                file = Path(folder) / name
                if file.match("kernels/*/_*.so"):  # what the sources above were built into
                    continue
                assert file.suffix == ".py" or file in named, f"{file} is not in package-data"


def test_the_links_let_a_bare_checkout_work() -> None:
    for name in WORKING_FOLDERS:
        if (ROOT / name).is_dir():
            link = ROOT / "maxsight" / name
            assert link.is_symlink(), f"{link} is missing: ln -s ../{name} maxsight/{name}"
            assert os.readlink(link) == f"../{name}"

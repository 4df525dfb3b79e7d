"""environment.yml says what pyproject.toml says: same packages, same version ranges."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec, Version, VersionSpec

ROOT = Path(__file__).resolve().parents[1]
# The extras that the GPU environment takes in; `dev` asks for faiss-cpu through `cpu`.
EXTRAS = ("gpu", "video", "heif", "vlm", "dev")
CONDA_NAMES = {"pytorch-gpu": "torch", "matplotlib-base": "matplotlib"}
NOT_FROM_PYPI = {"python", "pip", "make"}


@dataclass(frozen=True)
class Environment:
    conda: dict[str, MatchSpec]  # by PyPI name
    pip: dict[str, Requirement]
    options: list[str]  # pip lines that are not requirements


def environment() -> Environment:
    document = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert document["channels"][0] == "conda-forge"
    conda: dict[str, MatchSpec] = {}
    pip: dict[str, Requirement] = {}
    options: list[str] = []
    for entry in document["dependencies"]:
        if isinstance(entry, str):
            spec = MatchSpec(entry)
            name = entry.split()[0]
            name = canonicalize_name(CONDA_NAMES.get(name, name))
            assert name not in conda, f"{name} stands twice"
            conda[name] = spec
            continue
        for line in entry["pip"]:
            if line.startswith("-"):
                options.append(line)
                continue
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            assert name not in pip, f"{name} stands twice"
            pip[name] = requirement
    return Environment(conda, pip, options)


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    return {
        canonicalize_name(requirement.name): requirement
        for requirement in requirements
        if requirement.name != "maxsight"
    }


def probes(specifiers: SpecifierSet) -> list[str]:
    """Versions at and around every bound, and far from all: two ranges that agree on them agree."""
    versions = {"0.0.1", "999"}
    for specifier in specifiers:
        release = [int(part) for part in specifier.version.split(".")]
        versions.add(".".join(map(str, release)))
        versions.add(".".join(map(str, [*release, 1])))
        for position in range(len(release)):
            for step in (-1, 1):
                near = [*release[: position + 1]]
                near[position] += step
                if near[position] >= 0:
                    versions.add(".".join(map(str, near)))
    return sorted(versions)


def test_every_dependency_stands_in_both() -> None:
    here = environment()
    both = set(here.conda) & set(here.pip)
    assert not both, f"conda and pip would both install {both}"
    listed = (set(here.conda) | set(here.pip)) - NOT_FROM_PYPI
    assert listed == set(declared())
    assert here.options == ["--editable ."]


def test_version_ranges_are_the_same() -> None:
    here, wanted = environment(), declared()
    for name, requirement in wanted.items():
        ours = requirement.specifier
        if name in here.pip:
            assert here.pip[name].specifier == ours, name
            assert str(here.pip[name].marker) == str(requirement.marker), name
            continue
        spec = here.conda[name].version
        assert spec is not None, f"{name} has no version in environment.yml"
        for text in probes(ours):
            allowed = VersionSpec(spec).matches(Version(text))
            assert allowed == ours.contains(text), f"{name} {text}: conda {spec}, pip {ours}"


def test_the_interpreter_is_one_that_pyproject_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = environment().conda["python"].version
    assert version is not None
    assert VersionSpec(version).matches(Version("3.11.9"))
    assert SpecifierSet(project["requires-python"]).contains("3.11.9")


def test_exactly_one_faiss_is_installed() -> None:
    here = environment()
    names = [name for name in (*here.conda, *here.pip) if name.startswith(("faiss", "libfaiss"))]
    assert names == ["faiss-gpu"]


def test_the_check_notices_a_difference() -> None:
    """The probes tell ranges apart that differ in one bound."""
    ours = SpecifierSet(">=2.9,<2.15")
    for other in (">=2.9", ">=2.8,<2.15", ">=2.9,<2.16", ">=2.9,<=2.15", ">2.9,<2.15"):
        theirs = SpecifierSet(other)
        assert any(ours.contains(v) != theirs.contains(v) for v in probes(ours)), other

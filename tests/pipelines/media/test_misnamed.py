"""Films and pictures under each other's suffix: their content decides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from brightening import write_film
from colour_grid import ColourGridEncoder
from PIL import Image

pytest.importorskip("av")

from maxsight.index.store import Store
from maxsight.pipelines.ingestion.ingest import ingest

ENCODER = ColourGridEncoder()


def test_content_decides_what_a_file_is(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    write_film(tmp_path / "film.mp4", seconds=3)
    write_film(tmp_path / "film.mkv", seconds=3)
    for name in ("film.gif", "film.avi", "film.jpg"):
        shutil.copy(tmp_path / "film.mp4", films / name)
    shutil.copy(tmp_path / "film.mkv", films / "matroska.png")
    for name, kind in (("gif.mp4", "GIF"), ("jpeg.mov", "JPEG"), ("png.jpg", "PNG")):
        Image.linear_gradient("L").convert("RGB").save(films / name, kind)
    library = tmp_path / "test.maxsight"
    with Store.create(
        library, encoder_uri=ENCODER.uri, fingerprint=ENCODER.fingerprint, dim=ENCODER.dim
    ) as store:
        report = ingest(store, lambda: ENCODER, [films])
        kinds = {Path(path).name: item.kind for path, item in store.known().items()}
    assert report.failures == ()
    assert kinds == {
        "film.gif": "video",
        "film.avi": "video",
        "film.jpg": "video",
        "matroska.png": "video",
        "gif.mp4": "image",
        "jpeg.mov": "image",
        "png.jpg": "image",
    }

"""Three hundred hostile files among three hundred good ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from colour_grid import ColourGridEncoder
from hostile import write_bad, write_good
from PIL import Image

from maxsight.index.store import Store
from maxsight.pipelines.ingestion.ingest import IngestReport, ingest

ENCODER = ColourGridEncoder()


@pytest.fixture(scope="module")
def mixture(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Path], list[Path], IngestReport, Path]:
    root = tmp_path_factory.mktemp("mixture")
    bad, good = write_bad(root / "files"), write_good(root / "files")
    library = root / "test.maxsight"
    with Store.create(
        library, encoder_uri=ENCODER.uri, fingerprint=ENCODER.fingerprint, dim=ENCODER.dim
    ) as store:
        report = ingest(store, lambda: ENCODER, [root / "files"])
    return bad, good, report, library


def test_every_bad_file_is_listed_and_no_good_one(
    mixture: tuple[list[Path], list[Path], IngestReport, Path],
) -> None:
    bad, good, report, _ = mixture
    assert len(bad) >= 300
    assert len(good) == 300
    assert sorted(map(str, bad)) == [path for path, _ in report.failures]
    assert report.failed == len(bad)
    assert report.added == len(good)


def test_reasons_are_in_a_persons_words(
    mixture: tuple[list[Path], list[Path], IngestReport, Path],
) -> None:
    _, _, report, library = mixture
    machine_talk = re.compile(r"Error\b|Errno|Traceback|0x[0-9a-f]{4}|<\w|b'|\bNone\b|report it")
    for path, reason in report.failures:
        assert 10 < len(reason) < 250, path
        assert not machine_talk.search(reason), (path, reason)
    reasons = {os.path.basename(path): reason for path, reason in report.failures}
    for name, words in {
        "cut-25-0-baseline.jpg": "truncated",
        "cut-35-1-rgb.png": "truncated",
        "cut-35-0-lossy.webp": "truncated",
        "cut-90-2-lzw.tif": "truncated",
        "cut-35-1-still.avif": "truncated",
        "empty.heic": "empty",
        "stranger-page.png": "web page",
        "stranger-drawing.jpg": "SVG",
        "bomb-60000.png": "60,000 x 60,000 pixels",
        "bomb.gif": "65,535 x 65,535 pixels",
        "bomb.tif": "100,000 x 100,000 pixels",
        "bomb.webp": "16,384 x 16,384 pixels",
        "bomb-real.tif": "20,000 x 20,000 pixels",
        "pipe.jpg": "named pipe",
        "socket.png": "socket",
        "device.jpg": "device",
        "ring.png": "leads back to itself",
        "gone.jpg": "does not exist",
        "sound-only.mp4": "only sound",
    }.items():
        assert words in reasons[name], (name, reasons[name])
    # The library remembers the same.
    with Store.open(library) as store:
        stored = {path: failure.reason for path, failure in store.failures().items()}
    assert stored == dict(report.failures)


def test_every_good_file_is_found_by_its_own_picture(
    mixture: tuple[list[Path], list[Path], IngestReport, Path],
) -> None:
    _, good, _, library = mixture
    pictures = []
    for path in good:
        with Image.open(path) as picture:
            pictures.append(picture.convert("RGB"))
    queries = ENCODER.encode_images(pictures).vectors.numpy()
    with Store.open(library) as store:
        hits = store.snapshot().search(queries, 1)
    assert [found[0].path for found in hits] == [str(path) for path in good]
    assert np.mean([found[0].score for found in hits]) > 0.99


def test_a_second_run_says_the_same(
    mixture: tuple[list[Path], list[Path], IngestReport, Path],
) -> None:
    _, good, first, library = mixture
    with Store.open(library, write=True) as store:
        second = ingest(store, lambda: ENCODER, [good[0].parent])
    assert second.unchanged == len(good)
    assert second.added == second.removed == second.updated == 0
    assert second.failures == first.failures

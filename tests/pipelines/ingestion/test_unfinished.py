"""Films that were begun by a run that was killed or interrupted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_grid import ColourGridEncoder
from decoders import support_environment

pytest.importorskip("av")

import av
from numbered_films import write_film

from maxsight.index.store import Store
from maxsight.index.writing import partial
from maxsight.pipelines.ingestion.ingest import IngestReport, ingest

ENCODER = ColourGridEncoder()

# An encoder that tells what it does, and takes its time from the 40th picture on.
CHILD = """
import sys, time
from colour_grid import ColourGridEncoder
from maxsight.index.store import Store
from maxsight.pipelines.ingestion import commit, ingest as job
job.COMMIT_SECONDS = 0.1
class Slow(ColourGridEncoder):
    count = 0
    def encode_images(self, pictures, **options):
        Slow.count += len(pictures)
        if Slow.count > 40:
            time.sleep(0.4)
        print("encoded", flush=True)
        return super().encode_images(pictures, **options)
with Store.open(sys.argv[1], write=True) as store:
    job.ingest(store, Slow, [sys.argv[2]], fps=10, batch_size=8)
"""


def create(path: Path) -> None:
    Store.create(
        path, encoder_uri=ENCODER.uri, fingerprint=ENCODER.fingerprint, dim=ENCODER.dim
    ).close()


def index(library: Path, films: Path, *, fps: float = 10) -> IngestReport:
    with Store.open(library, write=True) as store:
        return ingest(store, lambda: ENCODER, [films], fps=fps, batch_size=8)


def contents(library: Path) -> dict[str, tuple[bytes, list[tuple[float, float]]]]:
    """Name -> stored vectors and spans."""
    with Store.open(library) as store:
        snapshot = store.snapshot()
        return {
            Path(film.path).name: (
                snapshot.vectors(np.arange(film.rows.start, film.rows.stop)).tobytes(),
                [(start, end) for start, end in film.spans.tolist()],
            )
            for film in snapshot.films()
        }


def kept_bytes(library: Path) -> int:
    folder = library / partial.FOLDER
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.exists() else 0


def stopped(library: Path, films: Path, how: signal.Signals) -> None:
    """Index in another process until something is kept of a film, and stop it."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(library), str(films)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=support_environment(),
    )
    deadline = time.monotonic() + 60
    while kept_bytes(library) < 4000 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(how)
    _, words = child.communicate()
    assert child.returncode != 0, words.decode()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "film.mp4", range(330), codec="mpeg4", options={"bf": "2"})
    return folder


@pytest.fixture(scope="module")
def killed(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of a run that was killed; to be copied."""
    library = tmp_path_factory.mktemp("killed") / "killed.maxsight"
    create(library)
    stopped(library, films, signal.SIGKILL)
    return library


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "Ctrl-C"])
def test_a_film_goes_on_where_a_stopped_run_was(
    how: signal.Signals, films: Path, killed: Path, tmp_path: Path
) -> None:
    whole, library = tmp_path / "whole.maxsight", tmp_path / "stopped.maxsight"
    create(whole)
    assert index(whole, films).units == 110
    assert kept_bytes(whole) == 0
    if how == signal.SIGKILL:
        shutil.copytree(killed, library)
    else:
        create(library)
        stopped(library, films, how)
    with Store.open(library) as store:
        assert store.known() == {}
        (film,) = partial.found(library)
        kept = sum(len(stretch.vectors) for stretch in partial.load(library, film))
    assert kept >= 8
    report = index(library, films)
    assert report.added == 1
    assert report.units == 110 - kept
    assert contents(library) == contents(whole)
    assert kept_bytes(library) == 0


def test_what_does_not_fit_is_not_taken_up(films: Path, killed: Path, tmp_path: Path) -> None:
    folder, library = tmp_path / "films", tmp_path / "stopped.maxsight"
    shutil.copytree(films, folder)
    shutil.copytree(killed, library)
    assert index(library, folder, fps=5).units == 55  # read another way
    assert kept_bytes(library) > 0  # of a run at 10 frames a second, which may come yet
    with Store.open(library, write=True) as store:
        store.compact()
    assert kept_bytes(library) > 0
    films.rename(films.with_name("away"))
    with Store.open(library, write=True) as store:
        store.compact()
    films.with_name("away").rename(films)
    assert kept_bytes(library) == 0


def test_damage_costs_the_beginning(films: Path, killed: Path, tmp_path: Path) -> None:
    library = shutil.copytree(killed, tmp_path / "stopped.maxsight")
    (file,) = (library / partial.FOLDER).iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.write_bytes(content)
    assert index(library, films).units == 110
    assert kept_bytes(library) == 0


@pytest.mark.parametrize("change", [{"picture": 1}, {"clock": []}], ids=str)
def test_a_mark_that_leads_nowhere_costs_the_beginning(
    change: dict[str, object], films: Path, killed: Path, tmp_path: Path
) -> None:
    library = shutil.copytree(killed, tmp_path / "stopped.maxsight")
    (film,) = partial.found(library)
    first, *_ = partial.load(library, film)
    mark = json.loads(first.mark) | change
    keeper = partial.Keeper(library)
    keeper.remove(film)
    keeper.append(film, partial.Stretch(first.spans, first.vectors, first.tokens, json.dumps(mark)))
    assert index(library, films).units == 110
    assert kept_bytes(library) == 0


def test_a_film_of_too_many_frames_is_kept_up_to_there(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "bounded.maxsight"
    create(library)
    monkeypatch.setenv("MAXSIGHT_FILM_FRAMES", "20")
    assert index(library, films).units == 20
    with Store.open(library) as store:
        (row,) = store.items().to_pylist()
    assert row["settings"] == "fps=10 film_frames=20"
    assert row["remark"].startswith("read up to 0:02: it has more than the 20 frames")
    assert row["duration_s"] == pytest.approx(2, abs=0.1)


def test_an_hour_of_a_still_is_a_few_units(tmp_path: Path) -> None:
    folder, library = tmp_path / "films", tmp_path / "still.maxsight"
    folder.mkdir()
    with av.open(str(folder / "still.mp4"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8))
        for second in range(3600):
            frame.pts, frame.time_base = second, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    create(library)
    assert index(library, folder, fps=1).units == 12
    ((_, spans),) = contents(library).values()
    assert spans == [(start, start + 300) for start in range(0, 3600, 300)]

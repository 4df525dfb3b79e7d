"""``maxsight demo``: a small library of real pictures and a film, searched in three ways."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

import maxsight
from maxsight.errors import UsageError

if TYPE_CHECKING:
    from maxsight.pipelines.ingestion.report import IngestReport, Progress
    from maxsight.pipelines.moments.windows import Moment
    from maxsight.pipelines.search.search import Hit

_FILM_STILLS = (
    "sunrise.webp", "sailboat.webp", "rocket.jpg", "chelsea.jpg", "volcano.webp", "coffee.jpg",
    "grace-hopper.jpg", "pizza.webp", "elephant.webp", "castle.webp", "snowman.webp", "moon.jpg",
)  # fmt: skip
TEXTS = ("a cup of coffee", "a rocket launch", "musical instruments")
CHANGES = (
    ("red-apple.webp", "green"),
    ("man-firefighter.webp", "woman"),
    ("taxi.webp", "police"),
)
MOMENTS = ("a cat", "an elephant", "a volcano erupting")


@dataclass(frozen=True)
class Answer:
    """One query of the demo, how to ask it on the command line, and what came back."""

    kind: str
    command: str
    hits: list[Hit] | list[Moment]


@dataclass(frozen=True)
class Demo:
    """What the demo made and found."""

    folder: Path
    library: Path
    report: IngestReport
    answers: list[Answer]
    sheet: Path


def run(folder: Path, *, progress: Callable[[Progress], None] | None = None) -> Demo:
    """Build the demo's library in ``folder`` and search it.

    Args:
        folder: made if it is not there. What an earlier demo left there is used again.
        progress: as in ``Library.add``.

    Raises:
        UsageError: the folder cannot be made or written.
    """
    from maxsight.demo.films import make_film
    from maxsight.library.contact_sheet import write_sheet
    from maxsight.pipelines.query.language import Query, Term

    pictures = folder / "pictures"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        _copy_pictures(pictures)
    except OSError as error:
        raise UsageError(
            f"the demo cannot be put into {folder}: {error.strerror}; name a folder that can be "
            "made and written"
        ) from error
    film = folder / "film.mp4"
    if not film.exists():
        stills = [(name, Image.open(pictures / name).convert("RGB")) for name in _FILM_STILLS]
        make_film(stills, film, seed=7)
    path = folder / "demo.maxsight"
    answers: list[Answer] = []
    with maxsight.open(path) as library:
        report = library.add([pictures, film], progress=progress)
        for text in TEXTS:
            answers.append(Answer("text", f'search {path} "{text}"', library.search(text, k=3)))
        for name, change in CHANGES:
            image = pictures / name
            found = library.search(change, image=image, k=3)
            answers.append(Answer("change", f'search {path} "{change}" --image {image}', found))
        for text in MOMENTS:
            seen = library.moments(text, k=1)
            answers.append(Answer("moment", f'moments {path} "{text}"', seen))
        terms = (Term(text="vehicles"),)
        sheet = folder / "sheet.html"
        write_sheet(sheet, library.query(Query(terms, k=12)).hits, terms=terms)
    return Demo(folder, path, report, answers, sheet)


def _copy_pictures(folder: Path) -> None:
    """Files that are there already stay untouched, so that a second demo indexes nothing."""
    for source in resources.files("maxsight.demo").joinpath("pictures").iterdir():
        if not (folder / source.name).exists():
            with resources.as_file(source) as file:
                shutil.copyfile(file, folder / source.name)

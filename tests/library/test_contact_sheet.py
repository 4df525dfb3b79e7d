"""Contact sheets: one file, safe to open, honest about what cannot be shown."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import maxsight
from maxsight.demo.films import make_film
from maxsight.errors import UsageError
from maxsight.library.contact_sheet import write_sheet
from maxsight.pipelines.media import pictures
from maxsight.pipelines.moments.windows import Moment
from maxsight.pipelines.query.language import Term
from maxsight.pipelines.search.search import Hit

PICTURE = Path(maxsight.__file__).parent / "demo" / "pictures" / "bus.webp"


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def hit(path: str, rank: int = 1) -> Hit:
    return Hit(rank, path, "image", 0.5, None, None, 7)


def written(path: Path, hits: list[Hit] | list[Moment], *terms: Term) -> Page:
    write_sheet(path, hits, terms=terms or (Term(text="query"),))
    return Page(path.read_text(encoding="utf-8"))


def thumbnail(attributes: dict[str, str | None]) -> Image.Image:
    source = attributes["src"] or ""
    data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"), validate=True)
    return Image.open(io.BytesIO(data))


def test_thumbnails_are_the_pictures_and_nothing_is_fetched(tmp_path: Path) -> None:
    Image.new("RGB", (900, 300), (200, 30, 30)).save(tmp_path / "red.png")
    page = written(tmp_path / "s.html", [hit(str(tmp_path / "red.png"))])
    (shown,) = page.all("img")
    picture = thumbnail(shown)
    assert picture.size == (320, 107)
    red, green, blue = picture.convert("RGB").getpixel((160, 50))  # type: ignore[misc]
    assert red > 180
    assert max(green, blue) < 60
    assert page.all("script") == page.all("link") == []
    html = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"https?:", html)


def test_names_cannot_inject_markup(tmp_path: Path) -> None:
    name = '<img src=x onerror=alert(1)>"&.png'
    Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    page = written(
        tmp_path / "s.html", [hit(str(tmp_path / name))], Term(text="<script>alert(2)</script>")
    )
    assert page.all("script") == []
    assert all("onerror" not in attributes for attributes in page.all("img"))
    assert name in page.text


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Image.new("RGB", (8, 8)).save(path, "PNG")
    page = written(tmp_path / "s.html", [hit(path)])
    assert "caf\\xe9.png" in page.text
    assert (page.all("a")[0]["href"] or "").endswith("caf%E9.png")
    assert len(page.all("img")) == 1


def test_a_file_that_is_gone_says_so_and_the_others_are_shown(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "here.png")
    page = written(tmp_path / "s.html", [hit("/not/there.png"), hit(str(tmp_path / "here.png"), 2)])
    assert len(page.all("img")) == 1
    assert "vanished" in page.text


def test_what_cannot_be_decoded_is_named_and_costs_its_place_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "large.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    large, small = str(tmp_path / "large.png"), str(tmp_path / "small.png")
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "1000")
    query = Term(image=tmp_path / "large.png")
    missing = write_sheet(tmp_path / "s.html", [hit(large), hit(small, 2)], terms=(query,))
    assert list(missing) == [large]
    assert "300 x 200 pixels" in missing[large]
    page = Page((tmp_path / "s.html").read_text(encoding="utf-8"))
    assert len(page.all("img")) == 1
    assert page.text.count("above the limit") == 2


def test_no_picture_is_decoded_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "read_picture", lambda *_, **__: pytest.fail("decoded here"))
    shutil.copy(PICTURE, tmp_path / "bus.webp")
    assert len(written(tmp_path / "s.html", [hit(str(tmp_path / "bus.webp"))]).all("img")) == 1


def test_a_moment_shows_its_best_frame(tmp_path: Path) -> None:
    colours = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
    stills = [(name, Image.new("RGB", (64, 64), colour)) for name, colour in colours.items()]
    film = tmp_path / "film.mp4"
    shots = make_film(stills, film, seed=1)
    peak = (shots[1].start + shots[1].end) / 2
    moment = Moment(1, str(film), 3, shots[1].start, shots[1].end, peak, 2.0)
    page = written(tmp_path / "s.html", [moment])
    red, green, blue = thumbnail(page.all("img")[0]).convert("RGB").getpixel((160, 120))  # type: ignore[misc]
    assert green > 150
    assert max(red, blue) < 90
    assert f"#t={shots[1].start:g},{shots[1].end:g}" in (page.all("a")[0]["href"] or "")


def test_nothing_found(tmp_path: Path) -> None:
    assert "Nothing found" in written(tmp_path / "s.html", []).text


def test_nowhere_to_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no/such/folder"):
        write_sheet(tmp_path / "no/such/folder/s.html", [], terms=(Term(text="a"),))

"""Captioned pictures from free packages: what the built-in encoder learns from and is tested with.

Training reads Noto, Noto v1, Fluent, Fluent flat, FxEmoji, Twemoji, EmojiOne and Open Clip Art
(public domain, MIT, Apache-2.0, CC-BY-4.0). OpenMoji (CC-BY-SA) and Tux Paint's stamps (GPL-2) are
for tests only. Concepts are split by the head noun of their caption, the same way in every source,
so a held-out concept is unseen in every drawing style.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maxsight import strict_json
from maxsight.models.builtin.training import packages
from maxsight.models.pixels.preprocess import Preprocess, resize

SPLIT_SALT = "v1"
TEST_PERCENT, VALIDATION_PERCENT = 20, 8
# Colours are counted at one size, so that the count does not grow with the picture.
_MOST_JSON = 256 << 20  # bytes; the largest file of pictures in text has 40 MB
_PHOTOGRAPH_TEST = Preprocess(size=224, resize_mode="longest")


@dataclass(frozen=True)
class Picture:
    """One captioned drawing or photograph, not yet rendered.

    Attributes:
        style: the artist's hand: ``noto``, ``twemoji``, ..., ``openclipart``, ``tuxpaint``.
        key: unique within the style.
        caption: lower case, without a leading article.
        tags: further words.
        group: of an emoji, say ``animals-nature``.
        tone: skin tone of an emoji, 1 to 5.
        svg: the drawing, unless ``path`` names its file.
    """

    style: str
    key: str
    caption: str
    tags: tuple[str, ...] = ()
    group: str = ""
    tone: int | None = None
    svg: str | None = None
    path: Path | None = None

    @property
    def split(self) -> str:
        """ "train", "validation" or "test", by the head noun of the caption."""
        return split_of(head_noun(self.caption))


def training_pictures(data: Path) -> Iterator[Picture]:
    """Every picture the heads may learn from, of all splits; packages are fetched."""
    yield from clipart(data)
    for style in packages.TRAINING_EMOJI:
        yield from emoji(data, style)


_PHRASE_END = {"with", "of", "in", "on", "for", "from", "holding", "and", "at", "by", "without"}
_NOT_A_NOUN = {
    "a",
    "an",
    "the",
    "some",
    "clip",
    "art",
    "sheikh",
    "tuhin",
}  # the last two sign their files


def head_noun(caption: str) -> str:
    """The noun a caption is about, roughly: the last word before a preposition, without plural s.

    >>> head_noun("red apples with leaves: two of them")
    'apple'
    """
    phrase = re.sub(r"[“”\"!.?#()]", " ", caption.lower().split(":")[0].split(",")[0])
    words = [word for word in re.findall(r"[a-z']+", phrase) if word not in _NOT_A_NOUN]
    kept: list[str] = []
    for word in words:
        if word in _PHRASE_END and kept:
            break
        kept.append(word)
    noun = (kept or words or [caption])[-1]
    return noun[:-1] if len(noun) > 3 and noun.endswith("s") and not noun.endswith("ss") else noun


def split_of(noun: str) -> str:
    """``test`` for 20 % of head nouns, ``validation`` for 8 %, ``train`` for the rest, by md5."""
    percent = (
        int(hashlib.md5((SPLIT_SALT + noun).encode(), usedforsecurity=False).hexdigest()[:8], 16)
        % 100
    )
    if percent < TEST_PERCENT:
        return "test"
    return "validation" if percent < TEST_PERCENT + VALIDATION_PERCENT else "train"


def normalise_caption(text: str) -> str:
    """Lower case, without a leading article and a closing full stop."""
    return re.sub(r"^(an?|the|some) ", "", text.strip().rstrip(".!").lower())


def emoji(data: Path, style: str, *, tones: bool = True) -> Iterator[Picture]:
    """The emoji of one drawing style, skin tones included unless ``tones`` is false.

    ``style`` is a key of packages.TRAINING_EMOJI or packages.TEST_EMOJI. Names and tags come from
    emojibase, drawings from the iconify package of the style.
    """
    names = packages.fetch(packages.EMOJI_NAMES, data)
    drawings = packages.fetch({**packages.TRAINING_EMOJI, **packages.TEST_EMOJI}[style], data)
    groups = _read_json(names / "meta" / "groups.json")["groups"]
    icons = _Icons(drawings, joined_names=style == "fxemoji")
    for entry in _read_json(names / "en" / "data.json"):
        if "group" not in entry:
            continue
        # A two-person emoji has a list of tones; only pictures with one tone are kept.
        variants = (
            [x for x in entry.get("skins", []) if isinstance(x.get("tone"), int)] if tones else []
        )
        for variant in [entry, *variants]:
            svg = icons.find(variant["hexcode"], variant["label"])
            if svg is None:
                continue
            yield Picture(
                style=style,
                key=variant["hexcode"],
                caption=normalise_caption(variant["label"]),
                tags=tuple(entry.get("tags", ())),
                group=groups[str(entry["group"])],
                tone=variant.get("tone"),
                svg=svg,
            )


class _Icons:
    """The drawings of one iconify package, found by code point or by name."""

    def __init__(self, folder: Path, *, joined_names: bool) -> None:
        table = _read_json(folder / "icons.json")
        self._size = (table.get("width", 16), table.get("height", 16))
        self._icons: dict[str, dict[str, Any]] = dict(table["icons"])
        for alias, target in table.get("aliases", {}).items():
            if target.get("parent") in self._icons and len(target) == 1:  # no rotation, no flip
                self._icons[alias] = self._icons[target["parent"]]
        characters = folder / "chars.json"
        codes = _read_json(characters) if characters.exists() else {}
        self._by_code = {_without_variation_selector(code): name for code, name in codes.items()}
        self._joined = {name.replace("-", ""): name for name in self._icons} if joined_names else {}

    def find(self, hexcode: str, label: str) -> str | None:
        slug = _slug(label)
        candidates = (
            self._by_code.get(_without_variation_selector(hexcode)),
            slug,
            self._joined.get(slug.replace("-", "")),
        )
        for name in candidates:
            if name in self._icons:
                icon = self._icons[name]
                width, height = icon.get("width", self._size[0]), icon.get("height", self._size[1])
                return (
                    '<svg xmlns="http://www.w3.org/2000/svg" '
                    'xmlns:xlink="http://www.w3.org/1999/xlink" '
                    f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
                )
        return None


def _without_variation_selector(hexcode: str) -> str:
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def _slug(label: str) -> str:
    text = label.lower().replace("&", "and").replace("’", "").replace("'", "")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _read_json(path: Path) -> Any:
    return strict_json.parse(path.read_bytes(), most_bytes=_MOST_JSON)


_NOT_PICTURES = re.compile(
    r"(shapes/|special/|buttons|signs_and_symbols/(flags|signs)|decorations/|unsorted/|recreation/games/cards"
    r"|logos|computer/|geography/maps?)"
)


def clipart(data: Path) -> Iterator[Picture]:
    """Open Clip Art drawings whose title says what they show; keywords and folders become tags."""
    root = packages.fetch(packages.TRAINING_CLIPART, data) / "usr/share/openclipart/svg"
    for path in sorted(root.rglob("*.svg")):
        key = path.relative_to(root).as_posix()
        if _NOT_PICTURES.match(key):
            continue
        header = path.read_text(encoding="utf-8", errors="ignore")[:60_000]
        work = re.search(r"<cc:Work.*?<dc:title[^>]*>(.*?)</dc:title>", header, re.DOTALL)
        title = html.unescape(work.group(1)).strip() if work else ""
        title = re.sub(r"\.svg$", "", re.sub(r"[_\-]+", " ", title or path.stem))
        title = re.sub(r"\b\d+\b", "", title).strip().lower()
        if not 3 <= len(title) <= 60:
            continue
        keywords = [
            html.unescape(word).strip().lower()
            for word in re.findall(r"<rdf:li>(.*?)</rdf:li>", header)
        ]
        keywords = [
            word
            for word in keywords
            if 0 < len(word) < 30 and not word.startswith(("unsorted", "http"))
        ]
        folders = [folder.replace("_", " ") for folder in key.split("/")[:-1]]
        yield Picture(
            style="openclipart",
            key=key,
            caption=normalise_caption(title),
            tags=tuple(dict.fromkeys(keywords[:6] + folders))[:8],
            path=path,
        )


def stamps(data: Path) -> Iterator[Picture]:
    """Tux Paint's stamps, photographs and drawings, with English sentences. For tests only."""
    root = packages.fetch(packages.TEST_STAMPS, data) / "usr/share/tuxpaint/stamps"
    for text in sorted(root.rglob("*.txt")):
        key = text.relative_to(root).with_suffix("").as_posix()
        lines = text.read_text(encoding="utf-8").splitlines()
        images = [
            text.with_suffix(suffix)
            for suffix in (".png", ".svg")
            if text.with_suffix(suffix).exists()
        ]
        if lines and images and "symbols/alphabets" not in key:
            yield Picture(
                style="tuxpaint", key=key, caption=normalise_caption(lines[0]), path=images[0]
            )


def is_photograph(picture: Picture, image: Image.Image) -> bool:
    """Whether a stamp is a photograph: no drawing file, no cartoon, and many distinct colours.

    Args:
        picture: any; what is not a stamp is not a photograph.
        image: RGB, the rendered picture on white.
    """
    if picture.style != "tuxpaint" or picture.path is None or "cartoon" in picture.key:
        return False
    if picture.path.with_suffix(".svg").exists():
        return False
    pixels = resize(image, _PHOTOGRAPH_TEST)
    coarse = (pixels.reshape(-1, 3) >> 3).astype(np.int32)
    colours = coarse[:, 0] << 10 | coarse[:, 1] << 5 | coarse[:, 2]
    foreground = colours[colours != 0x7FFF]
    return bool(len(np.unique(foreground)) > 2.2 * max(1, len(foreground)) ** 0.5)


def render(picture: Picture, size: int) -> Image.Image:
    """The picture as an RGB image on white; drawings get a longer side of about ``size`` pixels.

    Raises ValueError where the drawing cannot be rendered (a handful of clip art files are broken).
    """
    if picture.svg is not None:
        image = _render_svg(picture.svg, size)
    elif picture.path is not None and picture.path.suffix == ".svg":
        # Clip art is often a small drawing on an A4 page: render the page larger, keep the drawing.
        page = _render_svg(picture.path.read_text(encoding="utf-8", errors="replace"), 2 * size)
        image = page.crop(page.getchannel("A").getbbox()) if page.mode == "RGBA" else page
    elif picture.path is not None:
        image = Image.open(picture.path)
    else:
        raise ValueError(f"{picture.style}/{picture.key} has neither a drawing nor a file")
    if min(image.size) == 0:
        raise ValueError(f"{picture.style}/{picture.key} is an empty drawing")
    if image.mode in ("P", "PA", "LA", "RGBA"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    return image.convert("RGB")


def _render_svg(svg: str, size: int) -> Image.Image:
    import resvg_py

    # System fonts would make the corpus depend on the machine; without dpi, sizes in mm or pt are
    # refused.
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, dpi=96.0, skip_system_fonts=True
    )
    return Image.open(io.BytesIO(bytes(png)))

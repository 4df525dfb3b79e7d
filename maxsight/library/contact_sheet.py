"""Contact sheets: hits as a self-contained page of thumbnails."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from maxsight.errors import MediaError, UsageError
from maxsight.shown import shown

if TYPE_CHECKING:
    from maxsight.pipelines.decoding.lone import LoneDecoder
    from maxsight.pipelines.moments.windows import Moment
    from maxsight.pipelines.query.language import Term
    from maxsight.pipelines.search.search import Hit

_SIDE = 320  # pixels; sharp at 160 on a dense screen
_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent) }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px;
  padding: 0 1rem }
header { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin-bottom: 1.4rem }
header .term { border: 1px solid var(--line); border-radius: 99px; padding: .3rem .8rem }
header figure.term { border-radius: 10px; padding: .3rem; margin: 0 }
header img { height: 72px; display: block; border-radius: 6px }
main { display: grid; gap: 1.1rem; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)) }
main figure { margin: 0; border: 1px solid var(--line); border-radius: 10px; overflow: hidden }
main a { display: grid; place-items: center; aspect-ratio: 1; background: #8881 }
main img { max-width: 100%; max-height: 100%; object-fit: contain }
figcaption { padding: .5rem .7rem; overflow-wrap: anywhere }
figcaption small { display: flex; justify-content: space-between; opacity: .7;
  white-space: nowrap; font-variant-numeric: tabular-nums }
.missing { padding: 1rem; opacity: .7; text-align: center }
"""


def write_sheet(
    path: Path, hits: Sequence[Hit | Moment], *, terms: Sequence[Term]
) -> dict[str, str]:
    """Write one HTML file that needs no other: what was asked, and a thumbnail a hit.

    A film shows the frame at its moment. Pictures and films are decoded in a process of their own,
    within the limits of ingestion. A file that is gone or cannot be read says so in its place.

    Args:
        path: of the page; its folder must exist.
        hits: in the order they are shown.
        terms: of the query.

    Returns:
        Path -> reason of each file that is not shown.

    Raises:
        UsageError: the page cannot be written there.
        BackendError: no decoder process can be started.
    """
    from maxsight.pipelines.decoding.lone import LoneDecoder

    heading = ", ".join(("−" if t.weight < 0 else "") + _term_words(t) for t in terms)
    with LoneDecoder() as decoder:
        thumbnails = _Thumbnails(decoder)
        asked = "".join(_term_figure(term, thumbnails) for term in terms)
        found = "".join(_figure(hit, thumbnails) for hit in hits)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(shown(heading))} – maxsight</title><style>{_STYLE}</style>"
        f"<header>{asked}</header><main>{found or '<p>Nothing found.</p>'}</main></html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the contact sheet cannot be written to {path}: {error.strerror}"
        ) from error
    return thumbnails.missing


def clock(seconds: float) -> str:
    """Seconds as ``m:ss.t``, the precision a cut is found with."""
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"


def _term_words(term: Term) -> str:
    if term.text is not None:
        return term.text
    return term.image.name if term.image is not None else "a vector"


def _term_figure(term: Term, thumbnails: _Thumbnails) -> str:
    sign = "−" if term.weight < 0 else "+"
    weight = "" if abs(term.weight) == 1 else f" ×{abs(term.weight):g}"
    words = escape(shown(_term_words(term)), quote=True)
    if term.image is None:
        return f'<span class="term">{sign} {words}{weight}</span>'
    return f'<figure class="term">{thumbnails.tag(str(term.image), None, words)}</figure>{weight}'


def _figure(hit: Hit | Moment, thumbnails: _Thumbnails) -> str:
    name = escape(shown(Path(hit.path).name), quote=True)
    when = ""
    if hit.start is not None and hit.end is not None:
        when = f"<span>{clock(hit.start)}–{clock(hit.end)}</span>"
    target = "file://" + quote(hit.path.encode("utf-8", "surrogateescape"))
    if when:
        target += f"#t={hit.start:g},{hit.end:g}"
    full = escape(shown(hit.path), quote=True)
    # A moment is shown at its best frame, a film among pictures at the frame that was found.
    time = getattr(hit, "peak", hit.start)
    return (
        f'<figure><a href="{target}" title="{full}">{thumbnails.tag(hit.path, time, name)}</a>'
        f"<figcaption>{name}<small><span>{hit.rank} · {hit.score:.3f}</span>{when}</small>"
        "</figcaption></figure>"
    )


class _Thumbnails:
    """Pictures for one page, and those that could not be had."""

    def __init__(self, decoder: LoneDecoder) -> None:
        self.missing: dict[str, str] = {}
        self._decoder = decoder

    def tag(self, path: str, time: float | None, name: str) -> str:
        """Markup of a picture, or of the reason why there is none."""
        from PIL import Image

        try:
            if not os.path.exists(path):
                raise MediaError("vanished since it was indexed")
            pixels = self._decoder.view(path, side=_SIDE, time=time)
        except MediaError as error:
            self.missing[path] = str(error)
            return f'<span class="missing">{escape(shown(str(error)))}</span>'
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=82, optimize=True)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        return f'<img src="data:image/jpeg;base64,{data}" alt="{name}" loading="lazy">'

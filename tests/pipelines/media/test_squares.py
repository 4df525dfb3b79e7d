"""Long pictures: all of them is looked at, and ordinary ones are looked at as before."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from colour_grid import ColourGridEncoder
from decoders import LIMIT
from hostile import photographs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import maxsight
from maxsight.index.store import Store
from maxsight.models.pixels.preprocess import Preprocess, resize
from maxsight.pipelines.ingestion.ingest import ingest
from maxsight.pipelines.media import squares
from maxsight.pipelines.media.pictures import decode_picture

PREPROCESS = Preprocess(size=32)
PICTURES = Path(maxsight.__file__).parent / "demo" / "pictures"


def decoded(
    image: Image.Image, form: str = "PNG", preprocess: Preprocess = PREPROCESS
) -> np.ndarray:
    out = io.BytesIO()
    image.save(out, form)
    return decode_picture(out.getvalue(), preprocess, max_pixels=LIMIT)[0]


def stripes(count: int, side: int = 40) -> Image.Image:
    """Squares of ``count`` grey levels in a row."""
    levels = np.linspace(10, 250, count).astype(np.uint8)
    return Image.fromarray(np.repeat(np.repeat(levels[None], side, 0), side, 1)).convert("RGB")


@settings(max_examples=50)
@given(st.integers(1, 400), st.integers(1, 400))
def test_every_pixel_of_a_long_picture_is_in_a_square(width: int, height: int) -> None:
    number = squares.count(width, height)
    long, short = max(width, height), min(width, height)
    if long < 2 * short:
        assert number == 0
        return
    places = np.zeros((height, width, 3), np.uint8)
    axis = np.arange(long) if width > height else np.arange(long)[:, None]
    places[..., 0], places[..., 1] = axis // 256, axis % 256
    seen: set[int] = set()
    pieces = list(squares.cut(Image.fromarray(places), number))
    assert 3 <= len(pieces) == number <= squares.MOST
    for piece in pieces:
        values = np.asarray(piece).astype(int)
        seen |= set((256 * values[..., 0] + values[..., 1]).ravel().tolist())
        assert min(piece.size) == short
        assert long > squares.MOST * short or piece.width == piece.height
    assert seen == set(range(long))


def test_a_picture_below_two_to_one_is_looked_at_as_before() -> None:
    photograph = photographs()[0]
    for size in ((400, 400), (399, 200), (200, 399)):
        image = photograph.resize(size)
        assert np.array_equal(decoded(image)[0], resize(image, PREPROCESS))
        assert len(decoded(image)) == 1


@pytest.mark.parametrize("turn", [None, Image.Transpose.ROTATE_90])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_squares_go_from_end_to_end(mode: str, form: str, turn: Image.Transpose | None) -> None:
    preprocess = Preprocess(size=32, resize_mode=mode)  # type: ignore[arg-type]
    strip = stripes(4, side=640)  # a JPEG of this size is decoded at a fraction of it
    if turn is not None:
        strip = strip.transpose(turn)
    whole, *pieces = decoded(strip, form, preprocess)
    assert np.abs(whole - resize(strip, preprocess).astype(float)).max() <= 3
    levels = [piece.mean() for piece in pieces][:: -1 if turn else 1]
    assert levels == pytest.approx(range(10, 251, 40), abs=3)
    edge = pieces[1].astype(float).mean(axis=(1 if turn else 0, 2))
    assert abs(edge[18] - edge[13]) > 75  # sharp: not made from a picture of 32 pixels


def test_what_is_longer_than_the_most_squares() -> None:
    pixels = decoded(stripes(124))
    assert pixels.shape == (1 + squares.MOST, 32, 32, 3)
    assert pixels[1:].mean((1, 2, 3)) == pytest.approx(np.linspace(13, 247, 31), abs=2)


def test_an_encoder_that_takes_any_shape_gets_one_picture() -> None:
    assert len(decoded(stripes(4), preprocess=Preprocess(size=32, resize_mode="fit"))) == 1


def test_a_long_picture_owns_several_units(tmp_path: Path) -> None:
    """From the file to the library, copied, removed and found again, with tokens and without."""
    encoder = ColourGridEncoder()
    photograph = photographs()[0].resize((300, 100))
    for token_dim in (None, encoder.token_dim):
        folder = tmp_path / f"tokens-{token_dim}"
        (folder / "photos").mkdir(parents=True)
        photograph.save(folder / "photos" / "long.png")
        photograph.crop((0, 0, 150, 100)).save(folder / "photos" / "short.png")
        library = folder / "l.maxsight"
        with Store.create(
            library,
            encoder_uri=encoder.uri,
            fingerprint=encoder.fingerprint,
            dim=encoder.dim,
            token_dim=token_dim,
            token_limit=4 if token_dim else None,
        ) as store:
            assert ingest(store, lambda: encoder, [folder / "photos"]).units == 7
            assert ingest(store, lambda: encoder, [folder / "photos"]).unchanged == 2
            shutil.copy(folder / "photos" / "long.png", folder / "photos" / "copy.png")
            assert ingest(store, lambda: pytest.fail("held"), [folder / "photos"]).added == 1
            snapshot = store.snapshot()
            assert (snapshot.item_count, snapshot.unit_count) == (3, 13)
            assert snapshot.films() == []
            boxes = [(0, 0, 300, 100), *((x, 0, x + 100, 100) for x in range(0, 201, 50))]
            parts = [photograph.crop(box) for box in boxes]
            expected = encoder.encode_images(parts).vectors.numpy()
            for name in ("long.png", "copy.png"):
                (item,) = snapshot.find_items(path=str(folder / "photos" / name))
                vectors = snapshot.item_vectors(item)
                assert (vectors * expected).sum(1) == pytest.approx([1] * 6, abs=1e-3)
            hits = snapshot.search(expected, 1)
            assert [hit[0].start for hit in hits] == [None] * 6
            if token_dim is not None:
                lengths = np.diff(snapshot.tokens.held.offsets)
                assert lengths.tolist() == [4] * 13
            store.compact()
        with maxsight.open(library) as opened:
            assert not opened.verify().problems


def test_what_stands_at_an_end_is_found(tmp_path: Path) -> None:
    """A thing at one end of a strip comes before plain pictures, by its picture and its word."""
    thing = Image.open(PICTURES / "bus.webp").convert("RGBA")
    ground = (200, 215, 235)

    def lay(name: str, size: tuple[int, int], place: tuple[int, int], side: int) -> None:
        image, small = Image.new("RGB", size, ground), thing.resize((side, side))
        image.paste(small, place, small)
        image.save(tmp_path / name)

    lay("alone.png", (512, 512), (56, 56), 400)
    lay("strip-2to1.png", (1024, 512), (5, 130), 250)
    lay("strip-4to1.png", (2048, 512), (20, 56), 400)
    lay("strip-10to1.png", (5120, 512), (4700, 56), 400)
    lay("phone-9to20.png", (540, 1200), (120, 5), 300)
    for number, colour in enumerate([ground, (90, 140, 90), (120, 90, 70), (60, 60, 70)]):
        Image.new("RGB", (512, 512), colour).save(tmp_path / f"plain-{number}.png")
    with maxsight.open(tmp_path / "l.maxsight") as library:
        library.add([tmp_path], tokens=True)
        long = {"strip-2to1.png", "strip-4to1.png", "strip-10to1.png", "phone-9to20.png"}
        for rerank in ("off", "on"):
            by_word = library.search("a bus", k=5, rerank=rerank)
            assert {Path(hit.path).name for hit in by_word} == {"alone.png", *long}
        by_picture = library.search(image=PICTURES / "bus.webp", k=5)
        assert {Path(hit.path).name for hit in by_picture} == {"alone.png", *long}
        # As near as where the thing is alone, or nearly so.
        assert min(hit.score for hit in by_picture) > 0.75
        assert all(hit.start is None for hit in by_picture)

"""The picture that a query starts from: what cannot be one is said in a query's words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from maxsight.errors import UsageError
from maxsight.index.store import Store
from maxsight.models import encoder as encoders
from maxsight.pipelines.decoding.lone import LoneDecoder
from maxsight.pipelines.query.reference import encode_reference


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("reference") / "s.maxsight"
    with Store.create(path, encoder_uri="none", fingerprint="f", dim=384) as store:
        yield store


@pytest.fixture(scope="module")
def decoder() -> Iterator[LoneDecoder]:
    with LoneDecoder() as decoder:
        yield decoder


def nothing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.touch()


def words(path: Path) -> None:
    path.write_text("no picture")


def half(path: Path) -> None:
    Image.effect_noise((200, 200), 90).save(path, "BMP")
    path.write_bytes(path.read_bytes()[:60])


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nothing, "there is no file .*/x.jpg to search by"),
        (Path.mkdir, "x.jpg is a folder: give one picture"),
        (os.mkfifo, "x.jpg is not a regular file"),
        (empty, r"x.jpg is empty \(0 bytes\)"),
        (loop, "x.jpg cannot be read: Too many levels of symbolic links"),
        (words, "cannot search by the picture .*/x.jpg: not a picture"),
        (half, "cannot search by the picture .*/x.jpg: "),
    ],
)
def test_no_picture(
    store: Store, decoder: LoneDecoder, tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "x.jpg")
    with pytest.raises(UsageError, match=reason) as raised:
        encode_reference(
            store.snapshot(),
            tmp_path / "x.jpg",
            encoder=lambda: encoders.load("builtin"),
            decoder=decoder,
        )
    assert raised.value.exit_code == 2
    assert "rename" not in str(raised.value)


def test_a_web_address_is_not_read(store: Store, decoder: LoneDecoder) -> None:
    address = Path("https://example.com/bus.jpg")
    with pytest.raises(UsageError, match="web address, which is not read: download"):
        encode_reference(
            store.snapshot(), address, encoder=lambda: encoders.load("builtin"), decoder=decoder
        )


def test_too_large_for_the_limits(
    store: Store, decoder: LoneDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (300, 200)).save(tmp_path / "large.png")
    monkeypatch.setenv("MAXSIGHT_MAX_PIXELS", "1000")
    with pytest.raises(UsageError, match="300 x 200 pixels, above the limit"):
        encode_reference(
            store.snapshot(),
            tmp_path / "large.png",
            encoder=lambda: encoders.load("builtin"),
            decoder=decoder,
        )

"""A library names an encoder: what is loaded for it, and what is not until the user says so."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import open_clip
import pytest
from PIL import Image
from shell import Shell
from tiny_clips import ARCHITECTURES, save_model

import maxsight
from maxsight.errors import (
    EncoderMismatch,
    LibraryError,
    UnknownEncoder,
    UntrustedEncoder,
    WeightsMissing,
)
from maxsight.index.files import sealed_json
from maxsight.index.tables.manifest import FILE_NAME

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("tiny-vit", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("red", "blue"):
        Image.new("RGB", (64, 48), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing was used yet, and a hub that cannot be reached."""
    monkeypatch.setenv("MAXSIGHT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MAXSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "state"


@pytest.fixture(scope="module")
def made(model: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library, the state and the cache of its maker."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXSIGHT_STATE", str(root / "state"))
        patch.setenv("MAXSIGHT_CACHE", str(root / "cache"))
        uri = f"open_clip:local-dir:{model}"
        with maxsight.open(root / "l.maxsight", encoder=uri, device="cpu") as opened:
            opened.add([pictures])
            opened.search("cached")
    return root


@pytest.fixture
def library(made: Path, tmp_path: Path, state: Path) -> Path:
    """Made by the user's own hand, with a folder as its encoder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "l.maxsight"


def rewrite(library: Path, **fields: Any) -> None:
    """What a stranger would write into a library: sealed anew."""
    content = json.loads((library / FILE_NAME).read_text()) | fields
    sealed_json.write(library / FILE_NAME, content)


def search(library: Path, text: str = "", *, trust: bool = False) -> int:
    """How many files are found; by default for a text that nobody searched for yet."""
    text = text or f"something new, {next(_NUMBERS)}"
    with maxsight.open(library, device="cpu", trust_encoder=trust) as opened:
        return len(opened.search(text))


def test_ones_own_library_is_used_as_ever(library: Path, state: Path, tmp_path: Path) -> None:
    assert search(library) == 2
    moved = tmp_path / "moved.maxsight"
    shutil.move(library, moved)
    assert search(moved) == 2
    for file in state.rglob("*.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_strangers_library_loads_nothing_until_it_is_allowed(library: Path, state: Path) -> None:
    shutil.rmtree(state)  # the library comes from another machine
    with pytest.raises(UntrustedEncoder) as caught:
        search(library)
    message = str(caught.value)
    for word in (str(library), "open_clip:local-dir:", "--trust-encoder", "trust_encoder=True"):
        assert word in message
    assert caught.value.exit_code == 3
    with maxsight.open(library) as opened:
        assert len(opened.search("cached")) == 2, "what is cached needs no encoder"
        assert opened.info().images == 2
        assert opened.verify().problems == ()
        assert len(opened.items()) == 2
        with pytest.raises(UntrustedEncoder):
            opened.search("not cached")
    assert search(library, trust=True) == 2
    assert search(library, "and now it is known") == 2


def test_naming_the_encoder_is_asking_for_it(library: Path, state: Path, model: Path) -> None:
    shutil.rmtree(state)
    uri = f"open_clip:local-dir:{model}"
    with maxsight.open(library, encoder=uri, device="cpu") as opened:
        assert len(opened.search("something else")) == 2
    assert search(library) == 2


def test_a_folder_is_known_for_one_library_alone(
    library: Path, model: Path, tmp_path: Path
) -> None:
    """The same path in a stranger's library may name what he put there."""
    other = tmp_path / "other.maxsight"
    shutil.copytree(library, other)
    rewrite(other, library_id="00000000-0000-4000-8000-000000000000")
    with pytest.raises(UntrustedEncoder):
        search(other)
    rewrite(library, encoder_uri=f"open_clip:local-dir:{model.parent / 'elsewhere'}")
    with pytest.raises(UntrustedEncoder):
        search(library)


@pytest.mark.parametrize("scheme", ["open_clip:local-dir:", "st:"])
def test_a_relative_folder_is_where_the_user_is(
    scheme: str, model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``./model`` of a stranger's folder is not the ``./model`` that was used before."""
    here, theirs = tmp_path / "here", tmp_path / "theirs"
    for place in (here, theirs):
        shutil.copytree(model, place / "model")
    monkeypatch.chdir(here)
    library = here / "l.maxsight"
    with maxsight.open(library, encoder="open_clip:local-dir:model", device="cpu") as opened:
        opened.add([pictures])
    assert search(library) == 2
    monkeypatch.chdir(theirs)
    rewrite(library, encoder_uri=f"{scheme}model")
    with pytest.raises(UntrustedEncoder, match="theirs/model"):
        search(library)


def test_a_folder_named_from_where_one_stood_is_found_from_elsewhere(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    library = tmp_path / "l.maxsight"
    uri = f"open_clip:local-dir:{model.name}"
    with maxsight.open(library, encoder=uri, device="cpu") as opened:
        opened.add([pictures])
    maxsight.open(library, encoder=uri)
    monkeypatch.chdir(tmp_path)
    assert search(library) == 2
    with pytest.raises(EncoderMismatch):
        maxsight.open(library, encoder=uri)  # which means another folder here
    maxsight.open(library, encoder=f"open_clip:local-dir:{model}")
    rewrite(library, encoder_uri=uri)
    maxsight.open(library, encoder=uri)


def test_a_name_of_the_hub_is_known_for_every_library(library: Path) -> None:
    """With any options; and a folder of that name, in a stranger's folder, is another thing."""
    from maxsight.index.tables.manifest import Manifest
    from maxsight.library import known_encoders

    rewrite(library, encoder_uri="hf-hub:someone/clip")
    with pytest.raises(UntrustedEncoder, match="hf-hub:someone/clip"):
        search(library)
    known_encoders.remember(Manifest.read(library))
    with pytest.raises(WeightsMissing, match="someone/clip"):  # which is not here
        search(library)
    rewrite(library, encoder_uri="hf-hub:someone/clip?merge=3", library_id="another")
    with pytest.raises(WeightsMissing, match="someone/clip"):
        search(library)


def test_a_folder_under_a_name_of_the_hub(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maxsight.index.tables.manifest import Manifest
    from maxsight.library import known_encoders

    monkeypatch.chdir(tmp_path)
    rewrite(library, encoder_uri="st:someone/clip")
    known_encoders.remember(Manifest.read(library))
    with pytest.raises(WeightsMissing):
        search(library)
    (tmp_path / "someone" / "clip").mkdir(parents=True)
    with pytest.raises(UntrustedEncoder, match=str(tmp_path / "someone" / "clip")):
        search(library)


def test_what_others_may_write_counts_for_nothing(library: Path, state: Path) -> None:
    (file,) = state.rglob("*.json")
    file.chmod(0o666)
    with pytest.raises(UntrustedEncoder):
        search(library)
    file.chmod(0o600)
    assert search(library) == 2
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(UntrustedEncoder):
        search(library)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UntrustedEncoder):
        search(library)


def test_a_state_folder_that_cannot_be_written_is_told(
    model: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MAXSIGHT_STATE", str(tmp_path / "file"))
    library = tmp_path / "l.maxsight"
    with maxsight.open(library, encoder=f"open_clip:local-dir:{model}", device="cpu") as opened:
        assert opened.add([pictures]).added == 2
    assert "cannot remember" in caplog.text
    with pytest.raises(UntrustedEncoder):
        search(library)


def test_builtin_is_always_known(pictures: Path, tmp_path: Path, state: Path) -> None:
    library = tmp_path / "b.maxsight"
    with maxsight.open(library, device="cpu") as opened:
        opened.add([pictures])
    assert not state.exists()
    assert search(library) == 2


def test_the_command_line_asks(library: Path, state: Path, tmp_path: Path) -> None:
    shutil.rmtree(state)
    shell = Shell(tmp_path)
    answer = shell("search", library, "a bus")
    assert answer.code == 3
    assert "--trust-encoder" in answer.err
    assert shell("search", library, "a bus", "--trust-encoder", "--device", "cpu").code == 0


# --- library.json -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": "24"},
        {"dim": 0},
        {"dim": -1},
        {"dim": True},
        {"dim": 24.0},
        {"dim": 10**30},
        {"dim": None},
        {"dim": [24]},
        {"token_dim": "24"},
        {"token_dim": 0},
        {"token_limit": -1},
        {"mix": [1, 2]},
        {"mix": "alike"},
        {"mix": {"alike": "1"}},
        {"mix": {"alike": True}},
        {"library_id": 7},
        {"library_id": ""},
        {"encoder_uri": None},
        {"encoder_uri": "st:a\x1b[2Jb"},
        {"encoder_uri": "st:a\0b"},
        {"encoder_uri": "st:" + "a" * 10_000_000},
        {"fingerprint": {}},
        {"created": 7},
        {"created": "yesterday"},
        {"schema": True},
        {"schema": "2"},
    ],
    ids=lambda fields: "-".join(f"{name}={str(value)[:12]!r}" for name, value in fields.items()),
)
def test_a_field_of_another_kind_is_one_message(library: Path, fields: dict[str, Any]) -> None:
    rewrite(library, **fields)
    with pytest.raises(LibraryError, match=FILE_NAME) as caught:
        maxsight.open(library)
    assert len(str(caught.value)) < 1000
    assert "\x1b" not in str(caught.value)


def test_bytes_that_are_no_manifest(library: Path) -> None:
    for text in ("[" * 200_000, '{"a":' * 200_000, "NaN", "[]", "7", "", '{"dim": 1e999}'):
        (library / FILE_NAME).write_text(text)
        with pytest.raises(LibraryError, match=FILE_NAME):
            maxsight.open(library)


@pytest.mark.parametrize(
    "mix", [{"alike": 1, "unlike": 1, "other": 1}, {"alike": -1, "unlike": 1}, {"alike": 1}]
)
def test_a_mix_that_cannot_be(mix: dict[str, Any], pictures: Path, tmp_path: Path) -> None:
    library = tmp_path / "t.maxsight"
    with maxsight.open(library, device="cpu") as opened:
        opened.add([pictures], tokens=True)
    rewrite(library, mix=mix)
    with pytest.raises(LibraryError, match="mix"):
        search(library)


def test_a_dimension_that_is_not_the_encoders(library: Path) -> None:
    """The fingerprint is one whose texts are cached; the width is not theirs."""
    rewrite(library, dim=25)
    with pytest.raises((EncoderMismatch, LibraryError)):
        search(library, "cached")
    with pytest.raises((EncoderMismatch, LibraryError)):
        search(library)


def test_a_fingerprint_of_an_earlier_release_opens(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """roberta-ViT-B-32 was named without QuickGELU, and built with it; here a small one like it."""
    cached = tmp_path / "hub" / "models--someone--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("c" * 40)
    shutil.copytree(model, cached / "snapshots" / ("c" * 40))
    quick = ARCHITECTURES["tiny-vit"] | {"quick_gelu": True}
    tags = {"t": open_clip.pretrained._pcfg(hf_hub="someone/tiny/")}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-vit", tags)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-vit", quick)
    library = tmp_path / "l.maxsight"
    with maxsight.open(library, encoder="open_clip:tiny-vit/t", device="cpu") as opened:
        opened.add([pictures])
        (former,) = opened.encoder.former_fingerprints
    rewrite(library, fingerprint=former)
    assert search(library) == 2
    rewrite(library, fingerprint=former[::-1])
    with pytest.raises(EncoderMismatch):
        search(library)


# --- names --------------------------------------------------------------------------------------

ODD = [
    *("", ":", "?", "??", "nothing", "s3:bucket/x", "file:///etc", "https://a/b", "builtin:x"),
    *("hf-hub:", "hf-hub:a", "hf-hub:a/..", "hf-hub:../b", "hf-hub:a/b/c", "hf-hub:a b/c"),
    *("hf-hub:a%2fb/c", "hf-hub:/a/b", "hf-hub:a//b", "hf-hub:a/b.git", "hf-hub:a/b\nc"),
    *("open_clip:", "open_clip:../x", "open_clip:/etc", "open_clip:a/../b", "open_clip:a\0b/c"),
    *("open_clip:hf-hub:a/b/c", "open_clip:hf-hub:a/b", "open_clip:ViT-B-32/", "open_clip:/openai"),
    *("open_clip:local-dir:", "open_clip:local-dir:a\0b", "open_clip:local-dir:" + "a" * 300),
    *("open_clip:local-dir:~nobody-of-that-name/x", "open_clip:local-dir:" + "a/" * 2400),
    *("st:", "st:..", "st:../..", "st:a/b/c", "st:a\0b", "st:a b", "st:~nobody-of-that-name/x"),
    *("st:" + "a" * 10_000, "hf-hub:" + "a" * 10_000, "open_clip:" + "a" * 10_000, "a" * 10_000),
    *("st:a\x1b[31mb", "st:a\x85b", "open_clip:\u202ea/b", "st:a%00b", "st:é", "hf-hub:é/ü"),
    *("builtin?merge=" + "9" * 5000, "builtin?a=b", "builtin?merge", "st:a/b?merge=nan%"),
]


@pytest.mark.parametrize("uri", ODD, ids=lambda uri: ascii(uri)[:40])
def test_an_odd_name_is_one_message(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody is asked for it."""
    import socket

    asked: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *args: asked.append(args))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://192.0.2.1")
    with pytest.raises((UnknownEncoder, WeightsMissing)) as caught:
        maxsight.load(uri, device="cpu")
    assert asked == []
    message = str(caught.value)
    assert len(message) < 2000
    assert "\n" not in message
    assert "\x1b" not in message


def test_folders_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for scheme in ("st:", "open_clip:local-dir:"):
        with pytest.raises((UnknownEncoder, WeightsMissing)):
            maxsight.load(f"{scheme}{tmp_path / 'a'}", device="cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

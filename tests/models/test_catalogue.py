"""The encoders that are offered, against what open_clip says of them, and a hub's cache."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest
from open_clip.pretrained import get_pretrained_cfg

from maxsight.models import catalogue
from maxsight.models.builtin import weights
from maxsight.models.encoder import load
from maxsight.models.options import parse


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def keep(cache: Path, repository: str, **files: str | bytes) -> None:
    """A repository as the hub's client keeps it: named links to blobs named by content."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    for number, (name, content) in enumerate(files.items()):
        blob = folder / "blobs" / f"{number:064x}"
        blob.write_bytes(content.encode() if isinstance(content, str) else content)
        (snapshot / name.replace("__", ".")).symlink_to(blob)


def test_open_clip_publishes_what_is_offered(cache: Path) -> None:
    for entry in catalogue.recommended():
        scheme, name, _ = parse(entry.uri)
        if scheme != "open_clip":
            continue
        architecture, _, tag = name.rpartition("/")
        published, config = (
            get_pretrained_cfg(architecture, tag),
            open_clip.get_model_config(architecture),
        )
        assert published["hf_hub"].rstrip("/") == entry.repository
        assert config["embed_dim"] == entry.dim
        assert config["vision_cfg"].get("image_size", 224) == entry.pixels
        assert not entry.is_here


def test_the_builtin_encoder_is_as_it_is_listed(cache: Path) -> None:
    entry = catalogue.recommended()[0]
    encoder = load(entry.uri, device="cpu")
    assert (encoder.dim, encoder.preprocess.size) == (entry.dim, entry.pixels)
    assert encoder.token_dim is not None
    size = sum(weights.locate(file).stat().st_size for file in weights.ALL)
    assert size == pytest.approx(entry.bytes, rel=0.02)


def test_the_cache_is_listed(cache: Path) -> None:
    keep(cache, "timm/ViT-B-16-SigLIP2", open_clip_model__safetensors=b"x" * 70)
    keep(
        cache,
        "someone/their-clip",
        open_clip_config__json="{}",
        open_clip_pytorch_model__bin=b"x" * 50,
        README__md="---\nlicense: cc-by-4.0\n---\n",
    )
    keep(cache, "someone/text", modules__json="[]", model__safetensors=b"x" * 20)
    keep(cache, "someone/unknown", model__safetensors=b"x")
    keep(cache, "someone/unfinished", modules__json="[]")
    (siglip,) = [
        entry for entry in catalogue.recommended() if "SigLIP2/" in entry.uri and entry.is_here
    ]
    assert siglip.bytes == 70
    found = {entry.uri: (entry.bytes, entry.licence) for entry in catalogue.others()}
    assert found == {"hf-hub:someone/their-clip": (50, "cc-by-4.0"), "st:someone/text": (20, "")}


def test_no_cache_at_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache / "nowhere"))
    assert catalogue.others() == []
    assert [entry.uri for entry in catalogue.recommended() if entry.is_here] == ["builtin"]

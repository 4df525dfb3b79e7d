"""On a machine with an NVIDIA GPU, it gives what the CPU gives. `make gpu-check` runs these."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.push_to_hf_hub import save_config_for_hf
from PIL import Image
from safetensors.torch import save_file

from maxsight.index import faiss_build
from maxsight.models.encoder import Encoder, load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

TEXTS = ["a red bus in the rain", "two cats", "", "a street at night " * 30]


def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    sizes = [(300, 451), (97, 640), (33, 17), (224, 224)]
    return [Image.fromarray(generator.integers(0, 256, (*s, 3), np.uint8)) for s in sizes]


def compare(name: str, *, similarity: float) -> None:
    on_cpu, on_gpu = load(name, device="cpu"), load(name, device="cuda")
    assert on_gpu.device.type == "cuda"
    assert on_gpu.fingerprint == on_cpu.fingerprint
    tokens = on_cpu.token_dim is not None

    def encode(encoder: Encoder) -> list[torch.Tensor]:
        results = []
        for made in (
            encoder.encode_images(pictures(), tokens=tokens),
            encoder.encode_text(TEXTS, tokens=tokens),
        ):
            results += [made.vectors.cpu()]
            if made.tokens is not None and made.offsets is not None:
                results += [made.tokens.cpu(), made.offsets.cpu()]
        return results

    for exact, ours in zip(encode(on_cpu), encode(on_gpu), strict=True):
        assert ours.dtype == exact.dtype
        assert ours.shape == exact.shape
        if exact.dtype == torch.int64:
            assert torch.equal(ours, exact)
        else:
            assert (ours * exact).sum(1).min() > similarity


def test_open_clip(tmp_path: Path) -> None:
    config = tmp_path / "gpu-vit.json"
    architecture = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 96, "layers": 4, "width": 128, "patch_size": 16},
        "text_cfg": {"context_length": 32, "width": 64, "heads": 2, "layers": 4},
    }
    config.write_text(json.dumps(architecture))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    model = open_clip.create_model("gpu-vit")
    save_config_for_hf(model, tmp_path / "open_clip_config.json", architecture)
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    compare(f"open_clip:local-dir:{tmp_path}", similarity=0.999)


def test_builtin() -> None:
    compare("builtin", similarity=0.99)


def test_faiss_flat() -> None:
    if not faiss_build.gpu_count():
        pytest.skip("this FAISS has no GPU code or sees no GPU")
    faiss = faiss_build.load()
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((20_000, 512), dtype=np.float32)
    queries = generator.standard_normal((64, 512), dtype=np.float32)
    on_cpu = faiss.IndexFlatIP(512)
    on_cpu.add(vectors)
    on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, on_cpu)
    scores, rows = on_cpu.search(queries, 10)
    gpu_scores, gpu_rows = on_gpu.search(queries, 10)
    np.testing.assert_allclose(gpu_scores, scores, rtol=1e-3)
    assert (gpu_rows == rows).mean() > 0.999

"""clip-retrieval's own search service, answering over a pipe. Run by its environment's interpreter.

Each request goes through its own ``KnnService.query`` (the handler behind its HTTP address, HTTP
left out) with its options for duplicates and safety off, and its parquet metadata provider gives
the paths. Left out is its text encoder, which must be fetched: it accepts an embedding instead.

Usage: python clip_retrieval_worker.py FOLDER flat|autofaiss
       with vectors.npy (N, D) and queries.npy (Q, D) in FOLDER. ``autofaiss`` is the index that
       its own ``clip-retrieval index`` chooses; ``flat`` is an exact one in the same place.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import pathlib
import sys
import time

import faiss
import numpy as np
import pandas  # type: ignore[import-not-found,import-untyped,unused-ignore]
from clip_retrieval.clip_back import (  # type: ignore[import-not-found]
    ClipResource,
    KnnService,
    load_index,
    load_metadata_provider,
)
from clip_retrieval.clip_index import clip_index  # type: ignore[import-not-found]


def build(folder: pathlib.Path, kind: str) -> pathlib.Path:
    """Lay out embeddings and metadata as its ``inference`` step does, then index them."""
    vectors = np.load(folder / "vectors.npy")
    embeddings, index = folder / "embeddings", folder / f"index-{kind}"
    (embeddings / "img_emb").mkdir(parents=True, exist_ok=True)
    (embeddings / "metadata").mkdir(exist_ok=True)
    np.save(embeddings / "img_emb" / "img_emb_0.npy", vectors)
    paths = [f"/pictures/{number:08}.jpg" for number in range(len(vectors))]
    pandas.DataFrame({"image_path": paths}).to_parquet(
        embeddings / "metadata" / "metadata_0.parquet"
    )
    index.mkdir(exist_ok=True)
    if kind == "flat":
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        faiss.write_index(flat, str(index / "image.index"))
        (index / "metadata").mkdir(exist_ok=True)
        (embeddings / "metadata" / "metadata_0.parquet").rename(
            index / "metadata" / "metadata_0.parquet"
        )
    else:
        clip_index(str(embeddings), str(index))
    return index


def main(folder: pathlib.Path, kind: str) -> None:
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        index = build(folder, kind)
        metadata, _ = load_metadata_provider(str(index), False, False, None, ["image_path"], False)
    image_index = load_index(str(index / "image.index"), False)
    resource = ClipResource(
        device="cpu",
        model=None,
        preprocess=None,
        tokenizer=None,
        model_txt_mclip=None,
        safety_model=None,
        violence_detector=None,
        metadata_provider=metadata,
        image_index=image_index,
        text_index=None,
        ivf_old_to_new_mapping=None,
        columns_to_return=["image_path"],
        metadata_is_ordered_by_ivf=False,
        aesthetic_embeddings=None,
    )
    service = KnnService(clip_resources={"synthetic": resource})
    queries = np.load(folder / "queries.npy").tolist()
    version = importlib.metadata.version("clip-retrieval")
    say({"version": version, "setup": time.perf_counter() - start})
    for line in sys.stdin:
        number, k = json.loads(line)
        start = time.perf_counter()
        hits = service.query(
            embedding_input=queries[number],
            num_images=k,
            num_result_ids=k,
            deduplicate=False,
        )
        seconds = time.perf_counter() - start
        ids = [int(pathlib.PurePath(hit["image_path"]).stem) for hit in hits]
        say({"seconds": seconds, "ids": ids, "scores": [hit["similarity"] for hit in hits]})


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])

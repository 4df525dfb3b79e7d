"""All that a writer does, where hard links cannot be made; run in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from maxsight.index.building import vector_index
from maxsight.index.records import Changes
from maxsight.index.store import Store
from maxsight.index.verify.verify import verify


def load(name: str, path: Path):  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder: str, copied: str) -> None:
    here = Path(__file__).parent
    load("no_links", here.parent / "support/processes/no_links.py").forbid_links()
    samples = load("samples", here / "conftest.py").Samples()
    (Path(folder) / "probe").touch()
    with pytest.raises(PermissionError):
        os.link(Path(folder) / "probe", Path(folder) / "probe2")
    Store.create(Path(folder) / "new", encoder_uri="t", fingerprint="f", dim=samples.dim).close()
    for library in (Path(folder) / "new", Path(copied)):
        with Store.open(library, write=True) as store:
            first = len(store.known())
            ids = store.apply(Changes(added=[samples.item(f"/n/{n}", f"{n}") for n in range(9)]))
            store.apply(Changes(removed=ids[:2], replaced=[(ids[3], samples.item("/n/3", "x"))]))
            vector_index.build(store.snapshot(), "IVF2,Flat")
            store.compact(grace_seconds=0)
            assert len(store.known()) == first + 7
        assert not verify(library).problems
        assert not verify(library, repair=True).problems
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])

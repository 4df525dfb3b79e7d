"""What ``library.json`` keeps, and what it may not say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxsight.errors import LibraryError
from maxsight.index.files import sealed_json
from maxsight.index.store import Store
from maxsight.index.tables.manifest import FILE_NAME, Manifest
from maxsight.mix import Mix


def test_a_library_remembers_its_limit_and_its_mix(tmp_path: Path) -> None:
    mix = Mix(alike=2.0, unlike=0.25, low=0.7, high=0.8)
    path = tmp_path / "s"
    Store.create(
        path, encoder_uri="e", fingerprint="f", dim=3, token_dim=2, token_limit=16, mix=mix
    ).close()
    with Store.open(path) as store:
        assert (store.manifest.token_limit, store.manifest.mix) == (16, mix)
    fields = json.loads((path / FILE_NAME).read_text())
    del fields["token_limit"], fields["mix"], fields["checksum"]
    (path / FILE_NAME).write_text(json.dumps(fields | {"schema": 1}))
    older = Manifest.read(path)
    assert (older.token_limit, older.mix) == (None, None)


@pytest.mark.parametrize(
    "mix", [{"alike": 1.0}, {"alike": -1.0, "unlike": 1.0}, {"alike": 1.0, "unlike": 1.0, "of": 1}]
)
def test_a_mix_that_cannot_be_is_refused_by_name(tmp_path: Path, mix: dict[str, float]) -> None:
    path = tmp_path / "s"
    Store.create(path, encoder_uri="e", fingerprint="f", dim=3, token_dim=2).close()
    fields = json.loads((path / FILE_NAME).read_text())
    del fields["checksum"]
    sealed_json.write(path / FILE_NAME, fields | {"mix": mix})
    with pytest.raises(LibraryError, match=rf"{FILE_NAME} is damaged .*a mix that cannot be"):
        Manifest.read(path)

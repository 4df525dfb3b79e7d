"""What all tests share: none reads or changes what its user decided."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Encoders are remembered in a folder of this run."""
    before = os.environ.get("MAXSIGHT_STATE")
    os.environ["MAXSIGHT_STATE"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["MAXSIGHT_STATE"]
    else:
        os.environ["MAXSIGHT_STATE"] = before

"""Compiled kernels are this user's own: Triton runs whatever its cache holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maxsight.errors import BackendError
from maxsight.kernels.launch import require_own_cache


def test_a_cache_that_others_may_write_is_refused(tmp_path: Path) -> None:
    require_own_cache(str(tmp_path / "not-there-yet"))
    own = tmp_path / "own"
    own.mkdir(mode=0o755)
    require_own_cache(str(own))
    shared = tmp_path / "home" / ".triton" / "cache"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    for given in ((str(shared), None), (None, str(tmp_path / "home"))):
        with pytest.raises(BackendError, match="TRITON_CACHE_DIR") as caught:
            require_own_cache(*given)
        assert str(shared) in str(caught.value)
    shared.chmod(0o1777)  # as /tmp is: a name is its maker's, the next one anyone's
    with pytest.raises(BackendError):
        require_own_cache(str(shared), "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a folder away")
def test_a_cache_of_another_user_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(BackendError, match="other users"):
        require_own_cache(str(tmp_path))

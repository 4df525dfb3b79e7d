"""The interpreter that the Triton rooms are tested in is right itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from interpreter import run_interpreted


def test_bfloat16_is_what_torch_says() -> None:
    run_interpreted(Path(__file__).with_name("interpreted_bfloat16.py"))


def test_a_failure_in_the_interpreter_is_a_failure_here(tmp_path: Path) -> None:
    """And the process is one in which kernels are interpreted and tensors go to the GPU room."""
    file = tmp_path / "failing.py"
    file.write_text(
        "import os\n"
        "from maxsight.kernels import dispatch\n"
        "def test_where_we_are():\n"
        "    assert dispatch.interprets() and os.environ['MAXSIGHT_KERNELS'] == 'gpu'\n"
        "def test_wrong():\n"
        "    assert 'kernel' == 'right'\n"
    )
    with pytest.raises(pytest.fail.Exception, match="1 failed, 1 passed"):
        run_interpreted(file)

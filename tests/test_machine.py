"""What this process may use of the machine, as control groups have it."""

from __future__ import annotations

from pathlib import Path

from maxsight.machine import available_memory, file_cache


def test_files_that_a_container_has_read_are_not_taken_for_used(tmp_path: Path) -> None:
    stat = tmp_path / "memory.stat"
    stat.write_text("anon 100\nactive_file 30\ninactive_file 500\n", encoding="ascii")
    assert file_cache(tmp_path) == 500  # version 2
    stat.write_text("inactive_file 5\ntotal_inactive_file 700\n", encoding="ascii")
    assert file_cache(tmp_path) == 700  # version 1, groups below included
    assert file_cache(tmp_path / "none") == 0


def test_less_is_available_than_there_is() -> None:
    available, limit = available_memory()
    assert 0 < available <= limit

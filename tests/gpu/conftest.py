"""What runs on a GPU machine that lacks packages: the rest, and it says what it left out."""

from __future__ import annotations

from importlib.util import find_spec

_NEEDS = {
    "test_gpu_indexes.py": ("faiss", "lance"),
    "test_gpu_parity.py": ("faiss", "lance", "open_clip"),
}
_lacking = {
    file: [package for package in packages if find_spec(package) is None]
    for file, packages in _NEEDS.items()
}
# They import these at their head: collected, they would stop every other test.
collect_ignore = [file for file, packages in _lacking.items() if packages]


def pytest_report_header() -> list[str]:
    return [
        f"{file}: skipped, {', '.join(_lacking[file])} not installed" for file in collect_ignore
    ]

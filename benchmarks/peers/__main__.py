"""``python -m maxsight.benchmarks.peers DIRECTORY [NAME...]``: install the other tools."""

from __future__ import annotations

import sys
from pathlib import Path

from maxsight.benchmarks.peers.tools import install

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m maxsight.benchmarks.peers DIRECTORY [NAME...]")
    left_out = install(Path(sys.argv[1]).absolute(), sys.argv[2:])
    sys.exit(f"not installed: {', '.join(left_out)}" if left_out else 0)

"""``python -m maxsight.benchmarks NAME``: a benchmark with options of its own."""

from __future__ import annotations

import sys

from maxsight.benchmarks import registry
from maxsight.benchmarks.command import command
from maxsight.errors import UsageError


def main() -> None:
    """Run the benchmark that the first argument names; the others are its options."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        names = ", ".join(registry.BENCHMARKS)
        sys.exit(f"usage: python -m maxsight.benchmarks NAME [--help]; there are {names}")
    try:
        benchmark = registry.load(sys.argv.pop(1))
    except UsageError as error:
        sys.exit(str(error))
    command(benchmark.run)


if __name__ == "__main__":
    main()

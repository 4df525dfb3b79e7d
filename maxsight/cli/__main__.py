"""``python -m maxsight.cli``, the same as ``maxsight``."""

from maxsight.cli import main

if __name__ == "__main__":
    main()

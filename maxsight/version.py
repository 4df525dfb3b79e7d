"""The version of this maxsight, as in pyproject.toml."""

VERSION = "0.1.0"

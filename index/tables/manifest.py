"""``library.json``: what a library is, readable without opening its tables."""

from __future__ import annotations

import math
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maxsight import strict_json
from maxsight.errors import LibraryError, LibraryNotFound, SchemaTooNew
from maxsight.index.files import sealed_json
from maxsight.mix import Mix

SCHEMA = 3
FILE_NAME = "library.json"

# Wider than any encoder's vectors; as long as the longest path.
MOST_DIMENSIONS, _MOST_CHARACTERS = 1 << 16, 4096


@dataclass(frozen=True)
class Manifest:
    """Fixed when a library is created.

    Attributes:
        schema: version of the folder's layout; docs/storage.md describes each.
        library_id: a random UUID that copies of the folder share.
        encoder_uri: what the vectors were made by, as a user names it.
        fingerprint: of that encoder; queries must be encoded by one with the same.
        dim: D, width of the vectors.
        token_dim: d, width of the token vectors; None if the library stores none.
        token_limit: of tokens a unit; what is above it was merged. None: all are kept.
        mix: how vectors and tokens are weighed, by the encoder; None if nobody measured it.
        created: UTC, to the second.
    """

    schema: int
    library_id: str
    encoder_uri: str
    fingerprint: str
    dim: int
    token_dim: int | None
    created: datetime
    token_limit: int | None = None
    mix: Mix | None = None

    @classmethod
    def new(
        cls,
        *,
        encoder_uri: str,
        fingerprint: str,
        dim: int,
        token_dim: int | None,
        token_limit: int | None = None,
        mix: Mix | None = None,
    ) -> Manifest:
        """The manifest of a library that is about to be created.

        Raises:
            ValueError: a dimension or a limit below 1.
        """
        given = (("dim", dim), ("token_dim", token_dim), ("token_limit", token_limit))
        for name, value in given:
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        created = datetime.now(UTC).replace(microsecond=0)
        library_id = str(uuid.uuid4())
        return cls(
            SCHEMA,
            library_id,
            encoder_uri,
            fingerprint,
            dim,
            token_dim,
            created,
            token_limit,
            mix,
        )

    @classmethod
    def read(cls, library: Path) -> Manifest:
        """Read the manifest of the library at ``library``.

        Raises:
            LibraryNotFound: there is no folder, or it is not a library.
            SchemaTooNew: a newer maxsight wrote it.
            LibraryError: the file is damaged or cannot be read.
        """
        file = library / FILE_NAME
        try:
            fields = strict_json.read(file)
            version = fields["schema"]
            if type(version) is not int or version < 1:
                raise ValueError(f"schema is {repr(version)[:80]}")
        except (FileNotFoundError, NotADirectoryError):
            raise LibraryNotFound(
                f"{library} is not a library: it has no {FILE_NAME}; "
                f"`maxsight index {library} PATH...` makes one"
            ) from None
        except OSError as error:
            raise LibraryError(f"cannot read {file}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(file, error) from error
        if version > SCHEMA:
            raise SchemaTooNew(
                f"{library} has schema {version} and this maxsight reads up to {SCHEMA}: upgrade "
                "it (pip install -U maxsight), or index into a new library"
            )
        try:
            # Schema 1 had none.
            if (version > 1 or "checksum" in fields) and not sealed_json.is_sealed(fields):
                raise ValueError("its checksum does not fit what it says")
            return cls(
                version,
                _text(fields, "library_id"),
                _text(fields, "encoder_uri"),
                _text(fields, "fingerprint"),
                _count(fields, "dim", most=MOST_DIMENSIONS),
                _count_or_none(fields, "token_dim", most=MOST_DIMENSIONS),
                datetime.fromisoformat(_text(fields, "created")),
                # The first libraries named neither.
                _count_or_none(fields, "token_limit", most=1 << 31),
                _mix(fields.get("mix")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(file, error) from error

    def write(self, library: Path) -> None:
        """Write the file so that a reader sees all of it or none.

        Raises:
            OSError: the disk refused; what stood there stands.
        """
        fields = asdict(self) | {"created": self.created.isoformat()}
        sealed_json.write(library / FILE_NAME, fields)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_CHARACTERS:
        raise ValueError(f"{name} must be a text of up to {_MOST_CHARACTERS:,} characters")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise ValueError(f"{name} has control characters: {value[:200]!r}")
    return value


def _count(fields: Mapping[str, Any], name: str, *, most: int) -> int:
    value = fields[name]
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(
            f"{name} must be a whole number from 1 to {most:,}, not {repr(value)[:80]}"
        )
    return value


def _count_or_none(fields: Mapping[str, Any], name: str, *, most: int) -> int | None:
    return None if fields.get(name) is None else _count(fields, name, most=most)


def _mix(given: Any) -> Mix | None:
    if given is None:
        return None
    if not isinstance(given, dict) or not all(
        type(number) in (int, float) and math.isfinite(number) for number in given.values()
    ):
        raise ValueError(f"mix must name finite numbers, not {repr(given)[:80]}")
    try:
        return Mix(**{name: float(number) for name, number in given.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"it names a mix that cannot be: {error}") from error


def _damaged(file: Path, error: Exception) -> LibraryError:
    return LibraryError(
        f"{file} is damaged ({type(error).__name__}: {error}): restore it from a backup, "
        "or delete the library's folder and index again"
    )

"""Every error maxsight raises on purpose, in one tree.

    MaxsightError                  exit code 3
    ├── UsageError                 exit code 2: the arguments do not make sense together
    │   └── FilterError            a --where expression the library cannot evaluate
    ├── EncoderError               the encoder cannot be had
    │   ├── UnknownEncoder         no encoder of that name
    │   ├── UntrustedEncoder       a library names it, and nobody here has used it yet
    │   ├── WeightsMissing         its weights are not on this machine and cannot be fetched
    │   └── WeightsCorrupted       its weights are not the ones this release was measured with
    ├── LibraryError               the library cannot be used
    │   ├── BudgetError            it needs more memory than it may take
    │   ├── LibraryNotFound        nothing there, or not a library
    │   ├── LibraryLocked          another process is writing to it
    │   ├── SchemaTooNew           written by a newer maxsight
    │   └── EncoderMismatch        its vectors were made by another encoder
    ├── DatasetError               training or benchmark material cannot be fetched or read
    ├── BackendError               a compiled dependency is missing or broken (FAISS, a codec)
    └── MediaError                 one file cannot be read; batches record it and go on

Every message says what was given, what is allowed and what to do next.
"""

from __future__ import annotations

from maxsight.shown import shown


class MaxsightError(Exception):
    """Base of all errors raised on purpose. Names in their messages are as ``shown`` gives them."""

    exit_code = 3

    def __str__(self) -> str:
        return shown(super().__str__())


class UsageError(MaxsightError, ValueError):
    """The arguments do not make sense, alone or together."""

    exit_code = 2


class FilterError(UsageError):
    """A ``where`` expression is not SQL over the item columns."""


class EncoderError(MaxsightError):
    """An encoder cannot be loaded."""


class UnknownEncoder(EncoderError, UsageError):
    """No encoder answers to that URI."""

    exit_code = 2


class UntrustedEncoder(EncoderError):
    """A library names an encoder that was not used on this machine before."""


class WeightsMissing(EncoderError):
    """Weights are not on this machine and cannot be fetched."""


class WeightsCorrupted(EncoderError):
    """A weight file is not the file this release was measured with."""


class LibraryError(MaxsightError):
    """A library cannot be used."""


class BudgetError(LibraryError):
    """It needs more memory than it may take (``MAXSIGHT_MEMORY``)."""


class LibraryNotFound(LibraryError):
    """The path holds no library."""


class LibraryLocked(LibraryError):
    """Another process is writing to the library."""


class SchemaTooNew(LibraryError):
    """The library was written by a newer maxsight."""


class EncoderMismatch(LibraryError):
    """The library's vectors were made by a different encoder."""


class DatasetError(MaxsightError):
    """Training or benchmark material cannot be fetched or read."""


class BackendError(MaxsightError):
    """A compiled dependency is missing, doubled or broken."""


class MediaError(MaxsightError):
    """One file cannot be read. ``str(error)`` is a reason a person understands."""

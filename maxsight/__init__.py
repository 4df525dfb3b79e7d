"""maxsight: find a picture, a changed picture, a moment.

    import maxsight

    with maxsight.open("photos.maxsight", encoder="builtin") as library:
        library.add(["~/Pictures"])
        hits = library.search("a red bus in the rain", k=10)

Names are loaded when they are first used: importing maxsight costs a few milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from maxsight.version import VERSION

if TYPE_CHECKING:
    from maxsight.errors import MaxsightError
    from maxsight.library import Library, open
    from maxsight.library.info import LibraryInfo
    from maxsight.models.embeddings import Embeddings
    from maxsight.models.encoder import Encoder, load
    from maxsight.pipelines.ingestion.report import IngestReport
    from maxsight.pipelines.moments.windows import Moment
    from maxsight.pipelines.query.language import Query, Term
    from maxsight.pipelines.search.search import Hit, SearchResult

__version__ = VERSION

__all__ = [
    "Embeddings",
    "Encoder",
    "Hit",
    "IngestReport",
    "Library",
    "LibraryInfo",
    "MaxsightError",
    "Moment",
    "Query",
    "SearchResult",
    "Term",
    "__version__",
    "load",
    "open",
]

_HOME = {
    "Embeddings": "maxsight.models.embeddings",
    "Encoder": "maxsight.models.encoder",
    "Hit": "maxsight.pipelines.search.search",
    "IngestReport": "maxsight.pipelines.ingestion.report",
    "Library": "maxsight.library",
    "LibraryInfo": "maxsight.library.info",
    "MaxsightError": "maxsight.errors",
    "Moment": "maxsight.pipelines.moments.windows",
    "Query": "maxsight.pipelines.query.language",
    "SearchResult": "maxsight.pipelines.search.search",
    "Term": "maxsight.pipelines.query.language",
    "load": "maxsight.models.encoder",
    "open": "maxsight.library",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'maxsight' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

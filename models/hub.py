"""Files of a Hugging Face repository: from the cache at once, from the network if there is one.

The hub's own client retries an unreachable host for half a minute a file. Here the cache is read
without asking the network, and the network is asked once, for a few seconds, whether it is there.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from ssl import SSLError

from maxsight.errors import WeightsMissing

_SECONDS_TO_ANSWER = 4.0


def fetch(repository: str, filenames: Sequence[str], *, encoder: str) -> Path:
    """The first of ``filenames`` that the cache holds, else the first that the repository has.

    Args:
        repository: ``owner/name`` on the hub.
        filenames: in order of preference.
        encoder: the URI that needs the file, for the message.

    Raises:
        WeightsMissing: not cached, and the hub is off, out of reach or has no such file.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    cache = constants.HF_HUB_CACHE
    for filename in filenames:
        found = try_to_load_from_cache(repository, filename, cache_dir=cache)
        if isinstance(found, str):
            return Path(found)
    reason = why_unreachable()
    if reason is None:
        try:
            for filename in filenames[:-1]:
                try:
                    return Path(hf_hub_download(repository, filename, cache_dir=cache))
                except EntryNotFoundError:
                    continue
            return Path(hf_hub_download(repository, filenames[-1], cache_dir=cache))
        except OSError as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
    raise WeightsMissing(_missing(encoder, repository, " or ".join(filenames), cache, reason))


def fetch_folder(
    repository: str,
    patterns: Sequence[str],
    *,
    complete_with: Sequence[str] = (),
    encoder: str,
) -> Path:
    """A local folder with the repository's files that match ``patterns``, at least one.

    Args:
        repository: ``owner/name`` on the hub.
        patterns: of file names.
        complete_with: more patterns, of the files that are fetched last: where the cache holds one
            of these it is taken to hold all.
        encoder: the URI that needs the files, for the message.

    Raises:
        WeightsMissing: as ``fetch``.
    """
    from huggingface_hub import constants, snapshot_download

    cache = constants.HF_HUB_CACHE
    try:
        folder = Path(snapshot_download(repository, cache_dir=cache, local_files_only=True))
        if any(next(folder.glob(pattern), None) for pattern in complete_with or patterns):
            return folder
    except FileNotFoundError:
        pass  # nothing of this repository is cached
    reason = why_unreachable()
    if reason is None:
        try:
            return Path(
                snapshot_download(
                    repository, cache_dir=cache, allow_patterns=[*patterns, *complete_with]
                )
            )
        except OSError as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
    raise WeightsMissing(_missing(encoder, repository, " or ".join(patterns), cache, reason))


def why_unreachable() -> str | None:
    """Why the hub cannot be asked right now, or None if it answers. Takes four seconds at most."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    host = constants.ENDPOINT
    answer: list[str | None] = []

    # In a thread of its own because a name server that stays silent ignores every timeout.
    def ask() -> None:
        request = urllib.request.Request(host, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS_TO_ANSWER):
                answer.append(None)
        except urllib.error.HTTPError:
            answer.append(None)  # a refusal is an answer; the download will say what it thinks
        except OSError as error:
            cause = getattr(error, "reason", error)
            # The hub's client may trust certificates that the standard library does not.
            answer.append(None if isinstance(cause, SSLError) else f"{host}: {cause}")

    thread = threading.Thread(target=ask, name="hub-reachable", daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_ANSWER)
    return answer[0] if answer else f"{host} did not answer within {_SECONDS_TO_ANSWER:.0f} s"


def content_hash(path: Path) -> str:
    """sha256 of a file (hex). The hub's cache names large files by theirs, which is then read
    from the name; otherwise the file is read, at about a gigabyte a second."""
    import hashlib

    name = path.resolve().name
    if path.is_symlink() and len(name) == 64 and set(name) <= set("0123456789abcdef"):
        return name
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _missing(encoder: str, repository: str, files: str, cache: str, reason: str) -> str:
    return (
        f"{encoder} needs {files} of {repository}, which is not in {os.fspath(cache)} and cannot "
        f"be fetched ({reason}). Connect to the network once, set HF_HUB_CACHE to a folder that "
        "has it, or use --encoder builtin, which works offline."
    )

"""Files of a Hugging Face repository: from the cache at once, from the network if there is one.

The hub's own client retries an unreachable host for half a minute a file. Here the cache is read
without asking the network, and the network is asked once, for a few seconds, whether it is there.
"""

from __future__ import annotations

import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from ssl import SSLError
from threading import get_ident
from typing import Any

from maxsight import plain_files
from maxsight.errors import UnknownEncoder, WeightsMissing

_SECONDS_TO_ANSWER = 4.0

# Held by what fetches, and by what must not: the client's switch is one for the whole process.
_network = threading.RLock()


def is_repository(name: str, *, with_owner: bool = True) -> bool:
    """Whether a name can be a repository's on the hub, ``OWNER/NAME``: no path and no address.

    Args:
        with_owner: refuse the few old names that have none, such as ``roberta-base``.
    """
    owner, slash, own = name.rpartition("/")
    parts = [owner, own] if slash else [own]
    return (not with_owner or bool(slash)) and all(
        re.fullmatch(r"\w[\w.-]{0,95}", part, flags=re.ASCII)
        and not part.endswith((".", "-", ".git"))
        and ".." not in part
        and "--" not in part
        for part in parts
    )


def folder_at(text: str, *, encoder: str) -> Path:
    """The path that a user writes, with ``~`` for a home.

    Args:
        encoder: the URI, for the message.

    Raises:
        UnknownEncoder: no such path can be.
    """
    try:
        path = Path(text).expanduser()
        path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long; no such home; a NUL
        reason = getattr(error, "strerror", None) or error
        raise UnknownEncoder(f"{encoder!r} names no folder that can be: {reason}") from error
    return path


@contextmanager
def sealed() -> Iterator[None]:
    """Meanwhile the hub's client reaches nobody, and transformers runs no code of a repository.

    Both hold whatever a model's files name and however deep: some of transformers' classes load
    others without handing on that code is not trusted, and then ask on the terminal.
    """
    from huggingface_hub import constants

    with _network, _without_code():
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


@contextmanager
def _without_code() -> Iterator[None]:
    import importlib.util

    if importlib.util.find_spec("transformers") is None:
        yield
        return
    from transformers import dynamic_module_utils as dynamic

    seconds, run, here = dynamic.TIME_OUT_REMOTE_CODE, dynamic.get_class_in_module, get_ident()

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if get_ident() != here:
            return run(name, *args, **options)
        raise ValueError(f"{name} is code of the model's own")

    dynamic.TIME_OUT_REMOTE_CODE = 0  # of waiting for an answer: it does not ask, and refuses
    dynamic.get_class_in_module = refuse
    try:
        yield
    finally:
        dynamic.TIME_OUT_REMOTE_CODE = seconds
        dynamic.get_class_in_module = run


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

    _require_repository(repository, encoder)
    cache = constants.HF_HUB_CACHE
    for filename in filenames:
        found = try_to_load_from_cache(repository, filename, cache_dir=cache)
        if isinstance(found, str):
            return Path(found)
    with _network:
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

    _require_repository(repository, encoder)
    cache = constants.HF_HUB_CACHE
    try:
        folder = Path(snapshot_download(repository, cache_dir=cache, local_files_only=True))
        if any(next(folder.glob(pattern), None) for pattern in complete_with or patterns):
            return folder
    except FileNotFoundError:
        pass  # nothing of this repository is cached
    wanted = [*patterns, *complete_with]
    with _network:
        reason = why_unreachable()
        if reason is None:
            try:
                return Path(snapshot_download(repository, cache_dir=cache, allow_patterns=wanted))
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
    from the name; otherwise the file is read, at about a gigabyte a second. A name elsewhere says
    nothing: whoever made the folder chose it."""
    import hashlib

    from huggingface_hub import constants

    target = path.resolve()
    is_named_so = path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", target.name)
    if is_named_so and target.is_relative_to(Path(constants.HF_HUB_CACHE).resolve()):
        return target.name
    with plain_files.open_to_read(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_repository(name: str, encoder: str) -> None:
    if not is_repository(name, with_owner=False):
        raise UnknownEncoder(
            f"{encoder}: {name[:200]!r} names no repository of the Hugging Face hub; it must read "
            "OWNER/NAME"
        )


def _missing(encoder: str, repository: str, files: str, cache: str, reason: str) -> str:
    return (
        f"{encoder} needs {files} of {repository}, which is not in {os.fspath(cache)} and cannot "
        f"be fetched ({reason}). Connect to the network once, set HF_HUB_CACHE to a folder that "
        "has it, or use --encoder builtin, which works offline."
    )

"""FAISS indexes in files. What one of a stranger says is checked before a search trusts it.

FAISS looks through what it reads, and is told to take no more memory than the file has bytes. What
it does not compare is compared here: that the index is of the kind and the sizes that its factory
string makes, and that its lists name rows that there are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maxsight import plain_files
from maxsight.errors import LibraryError
from maxsight.index import faiss_build
from maxsight.index.ann import faiss_kinds

# Sizes that a factory string decides, where an index has them.
_SIZES = ("d", "metric_type", "nlist", "code_size", "by_residual")


def write(index: Any, file: Path) -> None:
    """Write an index into a new file."""
    with file.open("xb") as stream:  # by its number: FAISS takes names in UTF-8 alone
        faiss_build.load().write_index(index, _by_number(stream.fileno()))


def read(file: Path, like: Any) -> Any:
    """An index of the same factory string as ``like``, from a file.

    Raises:
        LibraryError: FAISS cannot read the file, or it holds something else.
    """
    faiss = faiss_build.load()
    before = faiss.get_deserialization_vector_byte_limit()
    try:
        with plain_files.open_to_read(file) as stream:
            size = stream.seek(0, 2)
            # Nothing in a file takes more than the file has; 1 MiB for what is made beside.
            faiss.set_deserialization_vector_byte_limit(size + 2**20)
            # Lists in a file of their own are looked for beside the number, and so not found.
            index = faiss.read_index(_by_number(stream.fileno()), faiss.IO_FLAG_ONDISK_SAME_DIR)
    except (OSError, RuntimeError, MemoryError) as error:
        raise LibraryError(
            f"{file} cannot be read ({faiss_kinds.reason(error)}): make the index again"
        ) from None
    finally:
        faiss.set_deserialization_vector_byte_limit(before)
    if wrong := _difference(index, like):
        raise LibraryError(f"{file} holds {wrong}: make the index again")
    return index


def _difference(index: Any, like: Any) -> str | None:
    """What of an index is not as in one of its factory string; None if nothing is."""
    faiss = faiss_build.load()
    core, same = faiss_kinds.core_of(index), faiss_kinds.core_of(like)
    for given, made in ((index, like), (core, same)):
        if not _is_alike(given, made):
            return f"a {type(given).__name__}, not a {type(made).__name__}"
        for name in _SIZES:
            if (found := getattr(given, name, None)) != (right := getattr(made, name, None)):
                return f"a {type(given).__name__} of {name} {found}, not {right}"
    if core is not index and (wrong := _chain_problem(index, core)):
        return wrong
    if core.ntotal != index.ntotal:
        return f"{core.ntotal:,} rows for {index.ntotal:,}"
    if isinstance(core, faiss.IndexIVF):
        return _lists_problem(core, same)
    if isinstance(core, faiss.IndexHNSW):
        storage, stored = (faiss.downcast_index(each.storage) for each in (core, same))
        if not _is_alike(storage, stored) or storage.ntotal != core.ntotal:
            return f"a graph of {core.ntotal:,} rows over {storage.ntotal:,}"
        core = storage
    if hasattr(core, "codes") and core.codes.size() < core.ntotal * core.code_size:
        return f"{core.codes.size():,} bytes of codes for {core.ntotal:,} rows"
    return None


def _is_alike(given: Any, made: Any) -> bool:
    # FAISS reads a flat index by inner product as one of a class of its own.
    return type(given).__name__.removesuffix("IP") == type(made).__name__.removesuffix("IP")


def _chain_problem(index: Any, core: Any) -> str | None:
    """What is wrong with the rotations before an index."""
    faiss = faiss_build.load()
    width = index.d
    for place in range(index.chain.size()):
        step = faiss.downcast_VectorTransform(index.chain.at(place))
        if step.d_in != width:
            return f"a rotation of {step.d_in} dimensions after {width}"
        if hasattr(step, "A") and step.is_trained and step.A.size() < step.d_in * step.d_out:
            return f"a rotation of {step.A.size():,} numbers"
        width = step.d_out
    return None if width == core.d else f"an index of {core.d} dimensions after {width}"


def _lists_problem(core: Any, same: Any) -> str | None:
    """What is wrong with the lists of an inverted file."""
    faiss = faiss_build.load()
    lists, made = (faiss.downcast_InvertedLists(each.invlists) for each in (core, same))
    quantizer, right = (faiss.downcast_index(each.quantizer) for each in (core, same))
    if not _is_alike(quantizer, right) or quantizer.d != core.d:
        return f"lists named by a {type(quantizer).__name__}, not a {type(right).__name__}"
    if type(lists) is not type(made) or lists.nlist != core.nlist or quantizer.ntotal > core.nlist:
        return f"{lists.nlist:,} lists, named by {quantizer.ntotal:,} centroids, not {core.nlist:,}"
    if lists.code_size != made.code_size:
        return f"lists of {lists.code_size} bytes a row, not {made.code_size}"
    if lists.compute_ntotal() != core.ntotal:
        return f"{lists.compute_ntotal():,} rows in its lists, and {core.ntotal:,} in all"
    try:
        core.make_direct_map(True)  # which looks at every row's number
        core.make_direct_map(False)
    except RuntimeError as error:
        return f"rows that there are not ({faiss_kinds.reason(error)})"
    return None


def _by_number(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"

"""FAISS indexes in files. What one of a stranger says is checked before a search trusts it.

FAISS looks through what it reads, and is told to take no more memory than the file has bytes. What
it does not compare is compared here: that the index is of the kind and the sizes that its factory
string makes, and that its lists name each row that there is once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from maxsight import plain_files
from maxsight.errors import LibraryError
from maxsight.index import faiss_build
from maxsight.index.ann import faiss_calls, faiss_kinds

# Numbers that a factory string decides, of an index or of its quantizer, where they have them.
_NUMBERS = (
    *("d", "metric_type", "nlist", "code_size", "by_residual"),
    *("M", "M2", "nbits", "ksub", "dsub", "qtype", "bits", "nb_bits", "qb"),
    *("bbs", "implem", "qbs", "qbs2", "skip"),
)
_QUANTIZERS = ("pq", "sq", "rq", "lsq", "prq", "plsq", "rabitq")


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
    if wrong := _numbers_problem(index, like):
        return wrong
    faiss = faiss_build.load()
    if isinstance(index, faiss.IndexPreTransform):
        if wrong := _chain_problem(index, like):
            return wrong
        core, same = faiss_kinds.core_of(index), faiss_kinds.core_of(like)
        if core.ntotal != index.ntotal:
            return f"{core.ntotal:,} rows for {index.ntotal:,}"
        return _difference(core, same)
    if isinstance(index, faiss.IndexIVF):
        return _lists_problem(index, like)
    if isinstance(index, faiss.IndexHNSW):
        storage, stored = (faiss.downcast_index(each.storage) for each in (index, like))
        if storage.ntotal != index.ntotal:
            return f"a graph of {index.ntotal:,} rows over {storage.ntotal:,}"
        return _difference(storage, stored)
    if hasattr(index, "center") and index.center.size() not in (0, index.d):
        return f"a centre of {index.center.size():,} numbers for {index.d} dimensions"
    rows = index.ntotal
    if hasattr(index, "ntotal2"):  # of fast scans: up to whole blocks
        rows = -(-rows // index.bbs) * index.bbs
        if index.ntotal2 != rows:
            return f"blocks of {index.ntotal2:,} rows for {rows:,}"
    if hasattr(index, "codes") and index.codes.size() < rows * index.code_size:
        return f"{index.codes.size():,} bytes of codes for {index.ntotal:,} rows"
    return None


def _numbers_problem(index: Any, like: Any) -> str | None:
    """Which of its own numbers, or of its quantizer's, is another than the string makes."""
    pairs = [(index, like)]
    pairs += [
        (getattr(index, name), getattr(like, name))
        for name in _QUANTIZERS
        if hasattr(index, name) and hasattr(like, name)
    ]
    for given, made in pairs:
        if not _is_alike(given, made):
            return f"a {type(given).__name__}, not a {type(made).__name__}"
        for name in _NUMBERS:
            found, right = getattr(given, name, None), getattr(made, name, None)
            if isinstance(right, int) and found != right:
                return f"a {type(given).__name__} of {name} {found}, not {right}"
    return None


def _is_alike(given: Any, made: Any) -> bool:
    # FAISS reads a flat index by inner product as one of a class of its own.
    return type(given).__name__.removesuffix("IP") == type(made).__name__.removesuffix("IP")


def _chain_problem(index: Any, like: Any) -> str | None:
    """What is wrong with the rotations before an index."""
    faiss = faiss_build.load()
    if index.chain.size() != like.chain.size():
        return f"{index.chain.size():,} rotations, not {like.chain.size():,}"
    for number in range(index.chain.size()):
        step, made = (faiss.downcast_VectorTransform(of.chain.at(number)) for of in (index, like))
        # FAISS reads rotations of some classes as one of the class above them.
        is_alike = type(step) in (type(made), faiss.LinearTransform)
        if not is_alike or not isinstance(made, type(step)):
            return f"a {type(step).__name__} before it, not a {type(made).__name__}"
        width, turned = step.d_in, step.d_out
        if (width, turned) != (made.d_in, made.d_out):
            return f"a rotation of {width} to {turned}, not {made.d_in} to {made.d_out} dimensions"
        if hasattr(step, "A") and step.is_trained and step.A.size() < width * turned:
            return f"a rotation of {step.A.size():,} numbers"
        if getattr(step, "have_bias", False) and step.b.size() != turned:
            return f"a rotation with {step.b.size():,} numbers to add"
        if isinstance(step, faiss.CenteringTransform) and step.mean.size() != width:
            return f"a mean of {step.mean.size():,} numbers"
        if isinstance(step, faiss.RemapDimensionsTransform) and not np.array_equal(
            faiss.vector_to_array(step.map), faiss.vector_to_array(made.map)
        ):
            return "other dimensions than its name says"
    return None


def _lists_problem(core: Any, same: Any) -> str | None:
    """What is wrong with the lists of an inverted file."""
    faiss = faiss_build.load()
    lists, made = (faiss.downcast_InvertedLists(each.invlists) for each in (core, same))
    quantizer, right = (faiss.downcast_index(each.quantizer) for each in (core, same))
    if wrong := _difference(quantizer, right):
        return f"lists named by {wrong}"
    if type(lists) is not type(made) or lists.nlist != core.nlist or quantizer.ntotal > core.nlist:
        return f"{lists.nlist:,} lists, named by {quantizer.ntotal:,} centroids, not {core.nlist:,}"
    if lists.code_size != made.code_size:
        return f"lists of {lists.code_size} bytes a row, not {made.code_size}"
    if lists.compute_ntotal() != core.ntotal:
        return f"{lists.compute_ntotal():,} rows in its lists, and {core.ntotal:,} in all"
    try:
        core.make_direct_map(True)  # which looks at every row's number
        found = core.direct_map.array
        in_no_list = core.ntotal and faiss_calls.held(found.data(), (found.size(),)).min() < 0
        core.make_direct_map(False)
    except RuntimeError as error:
        return f"rows that there are not ({faiss_kinds.reason(error)})"
    return "rows that are in no list, and others in two" if in_no_list else None


def _by_number(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"

"""Token merging: fewer tokens for transformers, fewer vectors for an index.

``merge`` removes r tokens of each image by bipartite matching (ToMe), ``rounds`` repeats it (AIM),
``schedule`` says how many in which layer, ``attention`` counts merged tokens as often as what they
stand for, ``unmerge`` puts them back. ``reduce`` does the same for packed documents of any length.
"""

from maxsight.kernels.merge.attention import attention
from maxsight.kernels.merge.merge import merge
from maxsight.kernels.merge.reduce import reduce
from maxsight.kernels.merge.schedule import Keep, Linear, Schedule, schedule
from maxsight.kernels.merge.values import Merged, Reduced

__all__ = [
    "Keep",
    "Linear",
    "Merged",
    "Reduced",
    "Schedule",
    "attention",
    "merge",
    "reduce",
    "schedule",
]

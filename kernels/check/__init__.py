"""The kernels on a GPU that they have not met: do they run and agree, and how fast are they?

    python -m maxsight.kernels.check --seconds 600 --out FOLDER

Needs torch, triton, numpy and ``maxsight.kernels``; what else a step can use is used where it is
installed. Steps stand in order of worth. Each runs in a process of its own, which is killed at its
limit, so that one that hangs or dies costs no other. FOLDER/rows.jsonl has every row as it comes,
FOLDER/check.json all of them with how each step ended.
"""

"""Version numbers of what the pipeline computes: a promise that the same number means the same results.

Workflow tools see neither imported modules nor the difference between a fix and a reworded line. So every rule carries
the number of what it runs; a new number runs it again, and nothing else does. `tests/test_golden.py` holds the promise:
short runs of everything below are compared with recorded results, and a change of behaviour under an old number fails
there, naming the number to raise.
"""

from __future__ import annotations

VERSIONS: dict[str, int] = {
    "tasks": 1,  # test tasks: their parameters and points
    "training:components": 3,
    "training:set-encoder": 1,
    "training:gpt2": 1,
    "training:mamba2": 1,
    "training:mamba2-causal": 1,
    "training:assignment": 1,
    "training:criterion": 2,
    "scores:em": 1,
    "scores:spectral": 1,
    "scores:tgmm": 4,
    "scores:sample-mean": 1,
    "scores:bayes": 2,
    "scores:two-round-em": 1,
    "scores:gradient": 1,
    "scores:variational": 1,
    "scores:moments": 1,
    "scores:spectral-em": 1,
    "scores:truth": 1,
    "summary": 3,
    "theory:em": 1,
    "theory:power": 1,
    "theory:sizes": 1,
    "theory:sorted-floor": 1,
    "theory:fisher": 1,
    "probes": 2,
    "real-data": 1,  # fits of well-known data sets
    "ablation": 1,
    "figures": 3,
    "tables": 4,
    "answers": 1,  # sentences to the reviewers
    "paper": 1,
    "plane": 1,  # the tasks of the page's live part
    "page": 2,
}


def version(stage: str) -> int:
    """The number of a stage, such as ``"tasks"``, or of a stage and a kind, such as ``"scores:em"``."""
    return VERSIONS[stage]

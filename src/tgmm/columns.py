"""Names that files of results share: columns of scores and summaries, metrics, the method that is the floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# What tells the cells of a study apart, and what tells the methods apart that were run on a cell.
CELL = ["scale", "taskset", "covariance", "d", "K", "N", "shift", "shift_value"]
METHOD = ["method", "family", "recipe", "seed"]
# What a method's estimate of a task is measured by; the last two are of the method's run.
METRICS = [
    "mean_error", "weight_error", "scale_error", "l2_error", "l2_error_reference", "weight_cross_entropy", "accuracy",
    "log_likelihood", "log_likelihood_heldout", "log_likelihood_reference", "dropped_reference", "seconds",
    "iterations",
]  # fmt: skip
# Averages of the reference evaluator's own metrics are over the tasks that it keeps.
REFERENCE = ["l2_error_reference", "log_likelihood_reference"]
# Metrics that the summary also gives as nats a point below the floor's on the same task, under a name with this ending.
LIKELIHOODS = ["log_likelihood", "log_likelihood_heldout"]
DEFICIT = "_deficit"

SCORE_COLUMNS = [*CELL, "task_id", *METHOD, *METRICS, "failed", "failure_reason"]
STATISTICS = ["mean", "median", "low", "high", "quantile_90", "n_tasks", "n_failed", "failure_share", "failure_reason"]
SUMMARY_COLUMNS = [*CELL, *METHOD, "metric", *STATISTICS]

# What `tgmm probe` measures, a row a quantity, variant, reference, block, head and K; and the picture of one task.
PROBE_LABELS = ("quantity", "variant", "reference", "layer", "head", "best", "K")
PROBE_COLUMNS = (
    "scale", "family", "covariance", "d", "N", "seed", *PROBE_LABELS, "mean", "median", "low", "high", "n_tasks",
)  # fmt: skip
PICTURE_COLUMNS = (
    "scale", "family", "seed", "d", "K", "N", "task_id", "l2_error", "block", "head", "part", "item", "component",
    "x", "y", "responsibility", "attention",
)  # fmt: skip
# What columns of tables hold; all others hold numbers or truth values.
TEXTS = {"data",
    "scale", "taskset", "covariance", "shift", "method", "family", "recipe", "metric", "failure_reason", "quantity",
    "variant", "reference", "part", "change", "measure", "mixtures", "approach", "heads_claimed",
}  # fmt: skip
WHOLE = {"d", "K", "N", "seed", "task_id", "n_tasks", "n_failed"}
# Columns without a value that is missing, and those of tables of task sets besides.
COMPLETE = {"d", "seed", "task_id", "scale", "method", "metric"}
COMPLETE_CELLS = {"taskset", "covariance", "K", "N", "shift", "shift_value"}

ORACLE = "em-oracle"  # EM from the truth, the floor of likelihood methods
SAMPLE_MEAN = "sample-mean"  # the trivial estimate
# The methods that every network is compared with, task by task.
NOT_APPLICABLE = "not applicable"  # how the reason begins where a method has no estimate to give: a gap, no failure
BASELINES = ["em", "em-restarts", "spectral", ORACLE, SAMPLE_MEAN]
# Roles that networks play in the paper's claims, and what a recipe is called in that role.
TRANSFORMER = "transformer"
ROLES = {
    TRANSFORMER: "{}",
    "without-axes": "{} without axes",
    "mamba2": "{}, Mamba2",
    "mamba2-both-ways": "{}, Mamba2 in both directions",
    "trained-at-32": "{}, trained at N = 32",
    "trained-at-64": "{}, trained at N = 64",
    "em-steps": "{}, then EM steps",
}
# Roles that task sets play in them -> the task sets' names unless the settings say others.
TASKSET_ROLES = {
    "effectiveness": "effectiveness",
    "backbone": "effectiveness",
    "sample_size": "sample-size",
    "mean_shift": "mean-shift",
    "anisotropic": "anisotropic",
}


def over(metric: str, baseline: str) -> str:
    """Return the name under which the summary holds the ratio of a method's mean to a baseline's on the same tasks."""
    return f"{metric} / {baseline}"


def over_seeds(metric: str) -> str:
    """Return the name under which the summary holds a metric's mean over several trainings of one recipe."""
    return f"{metric}, all seeds"


def reads(
    summary: Sequence[str] = SUMMARY_COLUMNS, tables: Sequence[str] = (), written: Sequence[str] = ()
) -> Callable[[Callable], Callable]:
    """Say which columns a function that draws an artefact needs, in attributes of the function.

    They are those of the summary of the scores (or of the measurement in its place; none where it is not read), of each
    further table, and those that a table writes to its CSV file.
    """

    def mark(function: Callable) -> Callable:
        function.summary, function.tables, function.written = list(summary), list(tables), list(written)
        return function

    return mark

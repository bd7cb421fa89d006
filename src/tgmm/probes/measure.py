"""Measures how far a trained component-token network does what EM does; the figure only reads this table.

Columns of the table, one row a quantity, variant, reference, block, head and K: ``PROBE_COLUMNS``. ``mean`` and
``median`` are over tasks, ``low`` and ``high`` a 95 % bootstrap interval of the mean.

==================== ============================== ============================== ==================================
quantity             variant                        reference                      layer
==================== ============================== ============================== ==================================
probe_means_error    trained, untrained             truth                          0 (seeds), block 1 ... L
probe_weights_error  trained, untrained             truth                          the same
probe_means_r2       trained, untrained             truth                          the same
probe_weights_r2     trained, untrained             truth                          the same
readout_means_r2     network                        truth                          block 1 ... L
readout_weights_r2   network                        truth                          the same
l2_error             network, em, oracle            truth                          block; 1 + EM steps; 0 (oracle)
scatter_correlation  trained, untrained             own, truth                     block 1 ... L - 1
gather_correlation   trained, untrained             own, previous, truth           block 1 ... L
update_cosine        network, em                    truth                          block that makes the update, 2 ... L
update_cosine        network                        em, em beside truth            the same
update_distance      network                        em                             the same
reordered            network                        last                           block 1 ... L
==================== ============================== ============================== ==================================

The errors of a probe are (1/K) sum_k |predicted - true mean_k|^2 / d and (1/K) sum_k (predicted - true weight_k)^2. R^2
is one minus that error over the variance of the targets at the same K; the read-out's, that of the network's own
estimates. A probe is fitted for each K. Attention is
compared with responsibilities under the read-out of the same block ("own"), of the block before ("previous") and under
the true parameters. An update is the difference of two successive read-outs; it is compared with the EM step from the
first of them, with the direction to the truth, and ("em beside truth") with the EM step after the direction to the
truth has been taken out of both, as any improvement points there. Its distance from the EM step is in units of the EM
step's length: a block that does an EM step has 0, one that does nothing 1. "reordered" is the share of tasks in which
a block's read-out names the components in another order than the last block's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tgmm.aggregate import bootstrap_interval
from tgmm.columns import PICTURE_COLUMNS, PROBE_COLUMNS, PROBE_LABELS
from tgmm.errors import UserError
from tgmm.methods.em import EMSettings, estimate_em, run_em_steps
from tgmm.metrics import l2_error, mean_error, weight_error
from tgmm.mixture import Mixture, responsibilities
from tgmm.probes.trace import FIT, TEST, TracedTasks, load_networks, trace_tasks
from tgmm.settings import MOST_RESAMPLES, FamilyName, Name, Seed, Settings, several
from tgmm.tasks.sampler import COVARIANCES
from tgmm.tasks.shifts import MOST_COMPONENTS

PENALTIES = tuple(10.0**power for power in range(-6, 2))  # of the mean squared error of standardised features
VALIDATION_SHARE = 0.25
DEFAULT_COMPONENTS = 3  # K of the picture
Row = dict[str, Any]


class ProbeSettings(Settings):
    """What is measured."""

    family: FamilyName = Field(description="The trained family.")
    covariance: Literal[COVARIANCES] = Field(description="Covariance of its tasks.")
    dimension: int = Field(ge=1, le=10_000, description="Dimension d of the points.")
    n_components: several(Annotated[int, Field(ge=1, le=MOST_COMPONENTS)]) = Field(description="Numbers of components.")
    longest: int = Field(ge=2, le=10**6, description="Number of points N.")
    tasks: int = Field(ge=1, le=10**6, description="Tasks for each K and purpose.")
    em_steps: int = Field(ge=0, le=10**4, description="EM steps beside the network's blocks.")
    bootstrap: int = Field(ge=1, le=MOST_RESAMPLES, description="Bootstrap resamples behind an interval.")
    seed: Seed = Field(description="Of the study.")
    scale: Name | Literal[""] = Field("", description="The scale of the study.")
    picture_components: int = Field(DEFAULT_COMPONENTS, ge=1, le=MOST_COMPONENTS, description="K of the picture.")


def measure_probes(model: Path, settings: dict[str, Any]) -> tuple[pd.DataFrame, list[TracedTasks]]:
    """Measure a trained family.

    Parameters
    ----------
    model : the family's folder.
    settings : what :class:`ProbeSettings` has.

    Returns
    -------
    table : DataFrame with ``PROBE_COLUMNS``.
    tests : the trained network's passes over the test tasks, for the picture.
    """
    settings = ProbeSettings.read(settings, "settings of tgmm probe").plain()
    rows: list[Row] = []
    traced = {}
    for variant, network in load_networks(model, settings).items():
        fits, tests = trace_tasks(network, settings, FIT), trace_tasks(network, settings, TEST)
        rows += [*probe_rows(fits, tests, variant), *attention_rows(fits, tests, variant)]
        traced[variant] = tests
    for test in traced["trained"]:
        rows += [*error_rows(test, settings), *update_rows(test)]
    return _table(rows, settings), traced["trained"]


def probe_rows(fits: list[TracedTasks], tests: list[TracedTasks], variant: str) -> Iterator[Row]:
    """Linear probes of means and weights, fitted on one set of tasks and applied to another, layer by layer."""
    for fit, test in zip(fits, tests, strict=True):
        for layer, (tokens, unseen) in enumerate(zip(fit.trace.tokens, test.trace.tokens, strict=True)):
            for name, target in (("means", _means), ("weights", _weights)):
                predicted, true = fit_probe(_normalised(tokens), target(fit))(_normalised(unseen)), target(test)
                errors = (predicted - true).square().mean((1, 2))
                labels = {"variant": variant, "reference": "truth", "layer": layer, "K": test.n_components}
                yield {"quantity": f"probe_{name}_error", "values": errors, **labels}
                yield {"quantity": f"probe_{name}_r2", "values": explained(errors, true), **labels}


def explained(errors: Tensor, targets: Tensor) -> Tensor:
    """Each task's share in R^2, (B,): its targets' squared deviation less its error, over the variance of all targets.

    The mean over tasks is R^2; that a task whose targets are far out also has large errors cancels in each share.

    Parameters
    ----------
    errors : Tensor (B,), mean squared errors.
    targets : Tensor (B, K, T).
    """
    deviations = (targets - targets.mean((0, 1))).square().mean((1, 2))
    return (deviations - errors) / deviations.mean()


def attention_rows(fits: list[TracedTasks], tests: list[TracedTasks], variant: str) -> Iterator[Row]:
    """Correlation of every head's attention with responsibilities; the best head is chosen on the other tasks."""
    for kind, block, reference in _comparisons(len(fits[0].trace.estimates)):
        chosen = torch.cat([_correlations(part, kind, block, reference) for part in fits]).mean(0).argmax().item()
        for test in tests:
            for head, values in enumerate(_correlations(test, kind, block, reference).unbind(1)):
                yield {
                    "quantity": f"{kind}_correlation", "variant": variant, "reference": reference, "layer": block,
                    "head": head, "best": head == chosen, "K": test.n_components, "values": values,
                }  # fmt: skip


def _comparisons(n_blocks: int) -> Iterator[tuple[str, int, str]]:
    """Kind of attention, block (from 1) and what it is compared with."""
    for block in range(1, n_blocks + 1):
        if block < n_blocks:
            yield from (("scatter", block, reference) for reference in ("own", "truth"))
        references = ("own", "truth") if block == 1 else ("own", "previous", "truth")
        yield from (("gather", block, reference) for reference in references)


def _correlations(part: TracedTasks, kind: str, block: int, reference: str) -> Tensor:
    """Per task and head, (B, H)."""
    own = block - 1 if reference == "own" else block - 2
    mixture = part.truth if reference == "truth" else part.estimates[own]
    shares = responsibilities(mixture, part.points.double())
    if kind == "gather":
        return correlation(part.trace.gather[block - 1], over_points(shares))
    return correlation(part.trace.scatter[block - 1], shares)


def error_rows(test: TracedTasks, settings: dict[str, Any]) -> Iterator[Row]:
    """The l2-error after every block, after every EM step from the first read-out, and of EM from the truth."""
    paths = {
        "network": test.estimates,
        "em": em_path(test.estimates[0], test.points, settings["em_steps"]),
    }
    oracle = estimate_em(
        test.points.double(), test.n_components, EMSettings(start="truth", covariance=settings["covariance"]),
        seed=settings["seed"], index=torch.arange(len(test.points)), truth=test.truth,
    ).mixture  # fmt: skip
    common = {"quantity": "l2_error", "reference": "truth", "K": test.n_components}
    for variant, path in paths.items():
        for layer, mixture in enumerate(path, start=1):
            yield {**common, "variant": variant, "layer": layer, "values": l2_error(mixture, test.truth)}
    yield {**common, "variant": "oracle", "layer": 0, "values": l2_error(oracle, test.truth)}
    for layer, mixture in enumerate(test.estimates, start=1):
        means = explained(mean_error(mixture, test.truth), test.truth.means)
        weights = explained(weight_error(mixture, test.truth), _weights(test))
        labels = {**common, "variant": "network", "layer": layer}
        yield {**labels, "quantity": "readout_means_r2", "values": means}
        yield {**labels, "quantity": "readout_weights_r2", "values": weights}


def update_rows(test: TracedTasks) -> Iterator[Row]:
    """Each block's change of the read-out beside the EM step from the same place and the direction to the truth."""
    for block, (before, after) in enumerate(zip(test.estimates[:-1], test.estimates[1:], strict=True), start=2):
        place = parameter_vector(before)
        network = parameter_vector(after) - place
        em = parameter_vector(em_path(before, test.points, 1)[1]) - place
        truth = parameter_vector(test.truth) - place
        cosines = {("network", "truth"): cosine(network, truth), ("em", "truth"): cosine(em, truth)}
        cosines["network", "em"] = cosine(network, em)
        cosines["network", "em beside truth"] = cosine(without(network, truth), without(em, truth))
        common = {"layer": block, "K": test.n_components}
        for (variant, reference), values in cosines.items():
            yield {**common, "quantity": "update_cosine", "variant": variant, "reference": reference, "values": values}
        distance = (network - em).norm(dim=1) / em.norm(dim=1).clamp_min(1e-12)
        yield {**common, "quantity": "update_distance", "variant": "network", "reference": "em", "values": distance}
    for block, moved in enumerate(test.reordered, start=1):
        labels = {"variant": "network", "reference": "last", "layer": block, "K": test.n_components}
        yield {**labels, "quantity": "reordered", "values": moved.double()}


def _normalised(tokens: Tensor) -> Tensor:
    """Tokens as every part of the network that reads them sees them: normalised over their features."""
    return torch.nn.functional.layer_norm(tokens.double(), tokens.shape[-1:])


def _means(part: TracedTasks) -> Tensor:
    return part.truth.means


def _weights(part: TracedTasks) -> Tensor:
    return part.truth.weights[..., None]


def _table(rows: list[Row], settings: dict[str, Any]) -> pd.DataFrame:
    labels = pd.DataFrame([{name: row.get(name) for name in PROBE_LABELS} for row in rows])
    labels = labels.fillna({"reference": "", "head": -1, "best": False}).astype({"head": int, "best": bool})
    statistics = pd.DataFrame([_statistics(row["values"].numpy(), settings) for row in rows])
    common = {
        "scale": settings.get("scale", ""), "family": settings["family"], "covariance": settings["covariance"],
        "d": settings["dimension"], "N": settings["longest"], "seed": settings["seed"],
    }  # fmt: skip
    return pd.concat([labels, statistics], axis=1).assign(**common)[list(PROBE_COLUMNS)]


def _statistics(values: np.ndarray, settings: dict[str, Any]) -> Row:
    low, high = bootstrap_interval(values[:, None], settings["bootstrap"], settings["seed"])
    return {
        "mean": values.mean(), "median": np.median(values), "low": low[0], "high": high[0], "n_tasks": len(values),
    }  # fmt: skip


# --- linear probes: ridge regression from hidden tokens to parameters (Alain and Bengio 2016), in closed form -------


@dataclass(frozen=True)
class LinearProbe:
    """An affine map from features to targets, and the penalty that it was fitted with."""

    model: Pipeline
    penalty: float

    def __call__(self, features: Tensor) -> Tensor:
        """Predictions (B, K, T) from features (B, K, F)."""
        predicted = torch.from_numpy(self.model.predict(features.flatten(0, 1).double().numpy()))
        return predicted.reshape(*features.shape[:2], -1)


def fit_probe(features: Tensor, targets: Tensor) -> LinearProbe:
    """A probe for the tokens of all tasks; the penalty is that of least error on the last quarter of the tasks.

    Parameters
    ----------
    features : Tensor (B, K, F), the tokens of B tasks.
    targets : Tensor (B, K, T).
    """
    split = round(len(features) * (1.0 - VALIDATION_SHARE))
    probes = [fit_ridge(features[:split], targets[:split], penalty) for penalty in PENALTIES]
    best = min(probes, key=lambda probe: (probe(features[split:]) - targets[split:]).square().mean().item())
    return fit_ridge(features, targets, best.penalty)


def fit_ridge(features: Tensor, targets: Tensor, penalty: float) -> LinearProbe:
    """Minimise the mean squared error plus ``penalty`` times the squared coefficients of features of unit variance."""
    features, targets = (part.flatten(0, 1).double().numpy() for part in (features, targets))
    count = len(features)
    alpha = penalty * count * count / (count - 1)  # scikit-learn sums errors, and its unit variance is the biased one
    return LinearProbe(make_pipeline(StandardScaler(), Ridge(alpha)).fit(features, targets), penalty)


# --- quantities, each a number a task ---------------------------------------------------------------------------------


def correlation(attention: Tensor, reference: Tensor) -> Tensor:
    """Pearson's correlation over the components and points of each task, (B, H); zero where either is constant.

    Parameters
    ----------
    attention : Tensor (B, H, K, N).
    reference : Tensor (B, K, N).
    """
    attention = attention.double().flatten(2)
    reference = reference.double().flatten(1)[:, None].expand_as(attention)
    attention = attention - attention.mean(2, keepdim=True)
    reference = reference - reference.mean(2, keepdim=True)
    product = attention.norm(dim=2) * reference.norm(dim=2)
    return torch.where(product > 0, (attention * reference).sum(2) / product.clamp_min(1e-300), 0.0)


def over_points(responsibilities: Tensor) -> Tensor:
    """Each component's responsibilities as shares of their sum over the points, what EM's M-step weights points by."""
    return responsibilities / responsibilities.sum(2, keepdim=True).clamp_min(1e-300)


def em_path(start: Mixture, points: Tensor, steps: int) -> list[Mixture]:
    """The mixtures after 0, 1, ..., ``steps`` EM steps from a start."""
    path = [start]
    for _ in range(steps):
        path.append(run_em_steps(path[-1], points.double(), 1))
    return path


def parameter_vector(mixture: Mixture) -> Tensor:
    """Means and weights as one vector (B, K (d + 1)), in which squared distances add up as in the l2-error."""
    means = mixture.means / mixture.dimension**0.5
    return torch.cat([means.flatten(1), mixture.weights], dim=1)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the angle between two vectors of each task, (B,)."""
    return torch.nn.functional.cosine_similarity(first, second, dim=1, eps=1e-12)


def without(vectors: Tensor, direction: Tensor) -> Tensor:
    """The part (B, P) of each task's vector that is orthogonal to a direction (B, P)."""
    unit = torch.nn.functional.normalize(direction, dim=1, eps=1e-12)
    return vectors - (vectors * unit).sum(1, keepdim=True) * unit


# --- one task for a picture --------------------------------------------------------------------------------------


def picture_table(tests: list[TracedTasks], table: pd.DataFrame, settings: dict[str, Any]) -> pd.DataFrame:
    """The picture's numbers, for tasks in two dimensions.

    The task is not picked for its looks: of the test tasks with K = ``settings["picture_components"]`` it is the one
    whose final error is the median. The head is the best of the last attention of points over components, as chosen
    for the table.

    Parameters
    ----------
    tests : the trained network's passes, and
    table : the measurements, both from :func:`tgmm.probes.measure.measure_probes`.
    settings : the same settings.
    """
    n_components = settings.get("picture_components", DEFAULT_COMPONENTS)
    found = [test for test in tests if test.n_components == n_components]
    if settings["dimension"] != 2 or not found:
        raise UserError(f"a picture needs tasks with d = 2 and K = {n_components}")
    test = found[0]
    errors = l2_error(test.estimates[-1], test.truth)
    task = errors.argsort()[len(errors) // 2].item()
    block, head = best_scatter_head(table)
    path = em_path(test.estimates[0][[task]], test.points[[task]], settings["em_steps"])
    rows = _point_rows(test, task, test.trace.scatter[block - 1][task, head])
    rows += _mean_rows("truth", [test.truth[[task]]], first=0)
    rows += _mean_rows("network", [estimate[[task]] for estimate in test.estimates], first=1)
    rows += _mean_rows("em", path, first=0)
    common = {
        "scale": settings.get("scale", ""), "family": settings["family"], "seed": settings["seed"], "d": 2,
        "K": n_components, "N": settings["longest"], "task_id": task, "l2_error": errors[task].item(),
        "block": block, "head": head,
    }  # fmt: skip
    return pd.DataFrame(rows).assign(**common).reindex(columns=list(PICTURE_COLUMNS))


def best_scatter_head(table: pd.DataFrame) -> tuple[int, int]:
    """The last block in which points attend to components, and its head nearest to the read-out's responsibilities."""
    rows = table[(table["quantity"] == "scatter_correlation") & (table["reference"] == "own") & table["best"]]
    rows = rows[rows["variant"] == "trained"]
    if rows.empty:
        raise UserError("a picture needs a network of at least two blocks")
    last = rows[rows["layer"] == rows["layer"].max()].iloc[0]
    return int(last["layer"]), int(last["head"])


def _point_rows(test: TracedTasks, task: int, attention: Tensor) -> list[dict]:
    """Rows of the task's points; ``attention`` is (K, N)."""
    shares = responsibilities(test.truth[[task]], test.points[[task]].double())[0]
    return [
        {
            "part": "point", "item": item, "component": component, "x": point[0], "y": point[1],
            "responsibility": shares[component, item].item(), "attention": attention[component, item].item(),
        }
        for item, point in enumerate(test.points[task].tolist())
        for component in range(test.n_components)
    ]  # fmt: skip


def _mean_rows(part: str, path: list[Mixture], first: int) -> list[dict]:
    """Rows of the means along a path of mixtures of one task."""
    means = torch.stack([mixture.means[0] for mixture in path]).tolist()
    return [
        {"part": part, "item": item, "component": component, "x": x, "y": y}
        for item, step in enumerate(means, start=first)
        for component, (x, y) in enumerate(step)
    ]

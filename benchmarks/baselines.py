"""Time and error of the batched ten-start EM beside a loop over scikit-learn's GaussianMixture, on the same tasks.

Run from the repository's root: ``python benchmarks/baselines.py --tasks 1280``. Both see every task, and the whole loop
is timed. They do not do the same: the batched EM holds the variances at one, which they are, and scikit-learn fits a
variance for every component besides, which it cannot be told to leave.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import torch
import typer
from sklearn.mixture import GaussianMixture

from tgmm import metrics
from tgmm.methods.em import EMSettings, estimate_em
from tgmm.mixture import Mixture
from tgmm.tasks.sampler import sample_mixtures, sample_points


def clocks() -> np.ndarray:
    """Wall time and processor time (all threads), seconds; the second is the steadier one on a busy machine."""
    return np.array([time.perf_counter(), time.process_time()])


def batched(points: torch.Tensor, n_components: int, starts: int, tolerance: float) -> tuple[Mixture, np.ndarray]:
    """Estimates of all tasks and the seconds taken."""
    settings = EMSettings(start="k-means++", starts=starts, tolerance=tolerance)
    index = torch.arange(len(points))
    estimate_em(points[:8], n_components, settings, seed=1, index=index[:8])  # first calls set up libraries
    begin = clocks()
    result = estimate_em(points, n_components, settings, seed=1, index=index)
    return result.mixture, clocks() - begin


def looped(points: torch.Tensor, n_components: int, starts: int, tolerance: float) -> tuple[Mixture, np.ndarray]:
    """scikit-learn's estimates, one task after the other, and the seconds taken."""
    arrays = points.double().numpy()
    models = []
    begin = clocks()
    for task, array in enumerate(arrays):
        model = GaussianMixture(
            n_components, covariance_type="spherical", n_init=starts, init_params="k-means++", tol=tolerance,
            max_iter=1000, random_state=task,
        )  # fmt: skip
        models.append(model.fit(array))
    seconds = clocks() - begin
    weights = np.stack([model.weights_ for model in models])
    means = np.stack([model.means_ for model in models])
    return Mixture(torch.from_numpy(weights), torch.from_numpy(means)), seconds


def row(name: str, estimate: Mixture, truth: Mixture, seconds: np.ndarray, note: str) -> None:
    """Print one line of the comparison."""
    error = metrics.l2_error(estimate, truth)
    times = f"wall {seconds[0]:7.2f} s  processor {seconds[1]:7.2f} s"
    typer.echo(f"{name:28s} {times}  l2-error mean {error.mean():.4f} median {error.median():.4f}  {note}")


def main(
    tasks: int = typer.Option(1280, min=8, help="Tasks of both."),
    dimension: int = typer.Option(8, help="d"),
    components: int = typer.Option(5, help="K"),
    n_points: int = typer.Option(128, help="N"),
    starts: int = typer.Option(10, help="k-means++ starts a task, for both."),
    tolerance: float = typer.Option(1e-6, help="Tolerance of the batched EM (nats a point)."),
    sklearn_tolerance: float = typer.Option(1e-3, help="Tolerance of scikit-learn; 1e-3 is its default."),
    threads: int = typer.Option(0, help="Threads of torch; 0 leaves its default."),
) -> None:
    """Compare the two on all tasks and print the ratio of their times."""
    if threads:
        torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    index = torch.arange(tasks)
    truth = sample_mixtures(7, index, components, dimension)
    points, _ = sample_points(truth, 7, index, n_points)
    typer.echo(f"{tasks} tasks, d={dimension}, K={components}, N={n_points}, {starts} k-means++ starts")
    ours, seconds = batched(points, components, starts, tolerance)
    theirs, sklearn_seconds = looped(points, components, starts, sklearn_tolerance)
    row("batched EM", ours, truth, seconds, f"unit variances held, tolerance {tolerance:g}")
    row("scikit-learn loop", theirs, truth, sklearn_seconds,
        f"spherical, variances fitted too, tolerance {sklearn_tolerance:g}")  # fmt: skip
    ratio = seconds / sklearn_seconds
    typer.echo(f"batched / loop: wall {ratio[0]:.3f}, processor {ratio[1]:.3f}")


if __name__ == "__main__":
    typer.run(main)

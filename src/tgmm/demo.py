"""A demonstration with nothing but the package: a mixture in the plane, every method's fit, EM beside a network.

The network is the released one (:mod:`tgmm.models.assignment`), which returns responsibilities; an M-step after each of
its blocks makes a mixture of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from torch import Tensor

from tgmm import plane
from tgmm.errors import UserError
from tgmm.estimator.em import SMALLEST_FLOOR, design
from tgmm.estimator.estimator import TransformerGaussianMixture
from tgmm.estimator.maximise import Limits, first_step
from tgmm.estimator.start import load_network
from tgmm.figures import style
from tgmm.files import atomic_path
from tgmm.methods.base import FitResult, TaskPoints
from tgmm.methods.settings import EM, MethodContext, SampleMean, Spectral
from tgmm.mixture import Mixture
from tgmm.models.assignment import canonical_view
from tgmm.plane import Path2D, describe_fit, describe_path, em_from_normal_start
from tgmm.tasks.sampler import sample_mixtures, sample_points
from tgmm.tasks.settings import SHAPES

SHAPE, COVARIANCE = "diag", "anisotropic"
EM_STEPS = 20
NETWORK, REFINED = "network, one pass", "network, then EM"
LEVEL = 2.0  # standard deviations from a mean to its component's outline
FRAME_MILLISECONDS, DPI = 450, 100  # of the animation
LAST_FRAMES = 4  # times that the end is shown


@dataclass(frozen=True)
class Demo:
    """A task and what was made of it.

    Attributes
    ----------
    task : one task (B = 1) in the plane with its truth.
    fits : name of the method -> its fit as :func:`tgmm.plane.describe_fit` gives it, or why it has none.
    seconds : name of the method -> what it took.
    paths : EM's steps and the network's blocks.
    """

    task: TaskPoints
    fits: dict[str, dict]
    seconds: dict[str, float]
    paths: dict[str, dict]


def run_demo(n_components: int, n_points: int, seed: int) -> Demo:
    """Draw a mixture and points of it, and fit them with every method.

    Raises
    ------
    UserError : for fewer points than components.
    """
    if n_points < 2 * n_components:
        raise UserError(
            f"--points: {n_points} are too few for {n_components} components; give {2 * n_components} or more"
        )
    index = torch.tensor([0])
    truth = sample_mixtures(seed, index, n_components, 2, COVARIANCE)
    points, _ = sample_points(truth, seed, index, n_points)
    task = TaskPoints(points, n_components, seed, index, truth)
    fits, seconds = {}, {}
    for name, estimate in methods().items():
        started = time.perf_counter()
        result = estimate(task)
        seconds[name] = time.perf_counter() - started
        failure = result.failures.get(0)
        fits[name] = {"failure": failure} if failure else describe_fit(result.mixture.to("cpu", torch.float64), task, 0)
    paths = [
        em_from_normal_start(task, COVARIANCE, EM_STEPS),
        Path2D(NETWORK, network_path(points.double(), n_components)),
    ]
    return Demo(task, fits, seconds, {path.method: describe_path(path, task, 0) for path in paths})


def methods() -> dict[str, Callable[[TaskPoints], FitResult]]:
    """Every method by name, the trivial one first and the floor last."""
    context = MethodContext(COVARIANCE, torch.device("cpu"))
    settings = {
        "sample mean": SampleMean(kind="sample-mean"),
        "EM, one start": EM(kind="em", start="normal"),
        "EM, 10 starts": EM(kind="em", start="k-means++", starts=10),
        "spectral": Spectral(kind="spectral"),
        NETWORK: None,
        REFINED: None,
        "EM from the truth": EM(kind="em", start="truth"),
    }
    built = {NETWORK: estimate_by_network, REFINED: estimate_refined}
    return {name: built.get(name) or entry.build(context) for name, entry in settings.items()}


def estimate_by_network(task: TaskPoints) -> FitResult:
    """The released network's estimate after its last block."""
    mixture = network_path(task.points.double(), task.n_components)[-1]
    return FitResult(mixture, torch.zeros(1, dtype=torch.int64))


def estimate_refined(task: TaskPoints) -> FitResult:
    """What ``TransformerGaussianMixture`` makes of the points."""
    model = TransformerGaussianMixture(task.n_components, covariance_type=SHAPE).fit(task.points[0].double().numpy())
    parts = (model.weights_, model.means_, np.sqrt(model.covariances_))
    return FitResult(Mixture(*(torch.from_numpy(part)[None] for part in parts)), torch.tensor([model.n_iter_]))


@torch.inference_mode()
def network_path(points: Tensor, n_components: int) -> list[Mixture]:
    """The mixtures that the M-step makes of the network's responsibilities after each block; points (1, N, d)."""
    told = torch.tensor([SHAPES.index(SHAPE)])
    outputs, _ = load_network()(canonical_view(points, told), told, n_components)
    return [weighted_moments(points, output.exp().double()) for output in outputs]


def weighted_moments(points: Tensor, shares: Tensor) -> Mixture:
    """The M-step for diagonal covariances.

    Parameters
    ----------
    points, shares : Tensors (B, N, d) and (B, N, K), float64.
    """
    B, N, d = points.shape
    limits = Limits(points.new_full((B, d), SMALLEST_FLOOR), points.new_full((B,), N), shrink=False)
    data = design(points, points.new_full((B, N), 1 / N), SHAPE, limits.floors)
    found = first_step(data, shares, limits)
    return Mixture(found.log_weights.exp(), found.means, found.covariances.sqrt())


# --- what is shown ---------------------------------------------------------------------------------------------------


def table_lines(demo: Demo) -> Iterable[str]:
    """Method, error and time in lines that fit a terminal of 80 columns."""
    yield f"{'method':20} {'l2-error':>10} {'milliseconds':>13}"
    for name, fit in demo.fits.items():
        entry = f"{fit['error']:10.4g}" if "error" in fit else f"{'fails':>10}"
        yield f"{name:20} {entry} {1000 * demo.seconds[name]:13.1f}"


def draw_picture(demo: Demo, path: Path) -> None:
    """Every method's components beside the true ones, a panel each, as PNG."""
    with style.applied():
        columns, rows = 4, -(-len(demo.fits) // 4)
        figure = Figure(figsize=(style.WIDTH * 1.4, 2.5 * rows + 0.3), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels:
            axes.set_axis_off()
        for axes, (name, fit) in zip(panels, demo.fits.items(), strict=False):
            shares = fit.get("responsibilities")
            labels = np.argmax(shares, 1) if shares else None
            draw_plane(axes, demo.task, labels, fit.get("components", []))
            text = f"ℓ2-error {fit['error']:.3g}" if "error" in fit else "no estimate"
            axes.set_title(f"{name}: {text}", fontsize=style.SMALL)
        figure.supxlabel("dashed: the true components; outlines two standard deviations wide", fontsize=style.SMALL)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def draw_animation(demo: Demo, path: Path) -> None:
    """EM's iterations beside the network's blocks, as GIF."""
    em, network = demo.paths["em"], demo.paths[NETWORK]
    count = max(len(em["steps"]), len(network["steps"]))
    with style.applied():
        figure = Figure(figsize=(6.4, 3.5), layout="constrained")
        panels = figure.subplots(1, 2)

        def draw(frame: int) -> None:
            for axes, way, unit, first in zip(
                panels, (em, network), ("EM, iteration", "network, block"), (0, 1), strict=True
            ):
                step = min(frame, len(way["steps"]) - 1)
                axes.clear()
                draw_plane(axes, demo.task, np.array([int(label) for label in way["labels"][step]]), way["steps"][step])
                axes.set_title(f"{unit} {step + first}: ℓ2-error {way['errors'][step]:.3g}", fontsize=style.MEDIUM)

        frames = [*range(count), *[count - 1] * LAST_FRAMES]
        film = FuncAnimation(figure, draw, frames=frames, init_func=lambda: None)
        with atomic_path(path) as temporary:
            film.save(temporary, writer=PillowWriter(fps=1000 / FRAME_MILLISECONDS), dpi=DPI)


def draw_plane(axes: Axes, task: TaskPoints, labels: np.ndarray | None, components: list[list[float]]) -> None:
    """Points in the colours of their components, the outlines of these, and dashed those of the truth."""
    points = task.points[0].numpy()
    for k in range(task.n_components):
        own = points if labels is None else points[labels == k]
        color = style.GREY if labels is None else style.SERIES[k % len(style.SERIES)]
        axes.scatter(
            *own.T, s=9, color=color, marker=style.SERIES_MARKERS[k % len(style.SERIES)], alpha=0.6, linewidths=0
        )
        if labels is None:
            break
    for parts, true in ((plane.components(task.truth), True), (components, False)):
        for k, (weight, x, y, sx, sy) in enumerate(parts):
            look = {"edgecolor": style.INK, "linestyle": "--", "linewidth": 0.9} if true else {
                "edgecolor": style.SERIES[k % len(style.SERIES)], "linewidth": 0.8 + 3 * weight}  # fmt: skip
            axes.add_patch(Ellipse((x, y), 2 * LEVEL * sx, 2 * LEVEL * sy, fill=False, **look))
    middle, reach = (points.min(0) + points.max(0)) / 2, np.ptp(points, 0).max() * 0.55
    limits = zip(middle - reach, middle + reach, strict=True)
    axes.set(**dict(zip(("xlim", "ylim"), limits, strict=True)), aspect="equal", xticks=[], yticks=[])
    axes.set_axis_on()

"""The picture of a fit: every pair of columns with the components' ellipses, and the curve of the criterion."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

from tgmm.estimator.estimator import TransformerGaussianMixture
from tgmm.files import atomic_path

# Okabe & Ito's colours, which colour-blind readers tell apart; markers tell more components apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A8A00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
POINTS = 3000  # drawn in a panel at most
LEVELS = (1.177, 2.448)  # deviations whose ellipses hold 50 % and 95 % of a component


def draw_fit(path: Path, model: TransformerGaussianMixture, X: np.ndarray, columns: list[str]) -> None:
    """Draw a fitted model and its data X (N, d) to a file; its suffix says how (.png, .pdf, .svg)."""
    d = X.shape[1]
    labels = model.predict(X)
    rng = np.random.default_rng(0)
    shown = rng.choice(len(X), POINTS, replace=False) if len(X) > POINTS else np.arange(len(X))
    several = len({K for K, _ in model.criterion_values_}) > 1
    n = max(1, d - 1)
    side = 4.6 if n == 1 else max(1.15, 7.5 / n)
    height = max(side * n, 3.2)
    figure = plt.figure(figsize=(side * n + 1.7 + 3.4 * several, height + 0.5), layout="constrained")
    parts = figure.subfigures(1, 2, width_ratios=[side * n + 1.7, 3.4]) if several else [figure]
    axes = parts[0].subplots(n, n, squeeze=False)
    if d == 1:
        _draw_column(axes[0, 0], model, X[:, 0], labels, columns[0])
    else:
        _draw_pairs(axes, model, X[shown], labels[shown], columns)
    _draw_legend(parts[0], axes, model)
    if several:
        _draw_criterion(parts[1].subplots(), model)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150 if n > 4 else 200)
    plt.close(figure)


def component_style(k: int) -> tuple[str, str]:
    """Colour and marker of a component; both repeat only after 64."""
    return COLOURS[k % len(COLOURS)], MARKERS[(k + k // len(COLOURS)) % len(MARKERS)]


def _draw_pairs(axes: np.ndarray, model, X: np.ndarray, labels: np.ndarray, columns: list[str]) -> None:
    n = len(axes)
    size = 10 if n <= 2 else 5 if n <= 5 else 2
    for row in range(n):
        for column in range(n):
            ax = axes[row, column]
            if column > row:
                ax.set_axis_off()
                continue
            i, j = column, row + 1
            for k in range(model.n_components_):
                colour, marker = component_style(k)
                marker = marker if n <= 5 else "o"  # shapes are lost on small points
                own = X[labels == k]
                ax.scatter(own[:, i], own[:, j], size, colour, marker=marker, alpha=0.45, linewidths=0, rasterized=True)
            for k in range(model.n_components_):
                _draw_ellipses(ax, model, k, i, j, named=n <= 3)
            _set_limits(ax, X[:, i], X[:, j])
            _label(ax, columns[i] if row == n - 1 else None, columns[j] if column == 0 else None, n)


def _draw_ellipses(ax, model, k: int, i: int, j: int, named: bool) -> None:
    colour, _ = component_style(k)
    covariance, mean = covariance_of(model, k)[np.ix_([i, j], [i, j])], model.means_[k, [i, j]]
    values, axes = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
    long, short = np.sqrt(np.maximum(values[::-1], 0))
    for level in LEVELS if named else LEVELS[1:]:
        outline = Ellipse(mean, 2 * level * long, 2 * level * short, angle=angle, fill=False, edgecolor=colour)
        outline.set_linewidth(1.4 if named else 0.8)
        ax.add_patch(outline)
    if named:
        box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": colour, "linewidth": 1}
        ax.text(*mean, str(k), color="black", ha="center", va="center", fontsize=8, bbox=box, clip_on=True)


def covariance_of(model, k: int) -> np.ndarray:
    """The covariance (d, d) of a component of a fitted model."""
    d = model.means_.shape[1]
    shape, covariances = model.covariance_type_, model.covariances_
    if shape == "tied":
        return covariances
    return covariances[k] if shape == "full" else np.diag(np.broadcast_to(covariances[k], d))


def _set_limits(ax, x: np.ndarray, y: np.ndarray) -> None:
    for values, set_limits in ((x, ax.set_xlim), (y, ax.set_ylim)):
        low, high = np.nanmin(values), np.nanmax(values)
        margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
        set_limits(low - margin, high + margin)


def _label(ax, x: str | None, y: str | None, n: int) -> None:
    size = 9 if n <= 4 else 7
    for axis, name in ((ax.xaxis, x), (ax.yaxis, y)):
        axis.set_major_locator(MaxNLocator(3 if n > 2 else 5))
        axis.set_tick_params(labelsize=size - 1, labelrotation=0)
        if name is None:
            axis.set_tick_params(labelleft=False, labelbottom=False)
    short = [None if name is None else name if len(name) <= 16 else name[:15] + "…" for name in (x, y)]
    if short[0] is not None:
        ax.set_xlabel(short[0], fontsize=size)
    if short[1] is not None:
        ax.set_ylabel(short[1], fontsize=size)


def _draw_column(ax, model, x: np.ndarray, labels: np.ndarray, name: str) -> None:
    """A histogram of a single column with the density of each component and of all of them."""
    x = x[~np.isnan(x)]
    ax.hist(x, bins=min(60, max(10, int(np.sqrt(len(x)) * 1.5))), density=True, color="0.85")
    grid = np.linspace(*ax.get_xlim(), 500)
    total = np.zeros_like(grid)
    for k, weight in enumerate(model.weights_):
        variance = covariance_of(model, k)[0, 0]
        density = weight * np.exp(-0.5 * (grid - model.means_[k, 0]) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
        ax.plot(grid, density, color=component_style(k)[0], linewidth=1.5)
        total += density
    ax.plot(grid, total, color="0.2", linewidth=1, linestyle="--")
    ax.set_xlabel(name)
    ax.set_ylabel("density")


def _draw_legend(part, axes: np.ndarray, model) -> None:
    handles = []
    for k, weight in enumerate(model.weights_):
        colour, marker = component_style(k)
        name = f"{k}: {100 * weight:.1f} %"
        handles.append(plt.Line2D([], [], color=colour, marker=marker, linestyle="", label=name))
    style = {"title": "component: weight", "fontsize": 8, "title_fontsize": 8, "frameon": False}
    if len(axes) > 1:
        axes[0, -1].legend(handles=handles, loc="upper right", **style).set_in_layout(False)
    else:
        part.legend(handles=handles, loc="outside right upper", **style)


def _draw_criterion(ax, model) -> None:
    """The criterion against K, a line for each shape; the chosen one is ringed."""
    values = model.criterion_values_
    for k, shape in enumerate(dict.fromkeys(shape for _, shape in values)):
        points = sorted((K, value) for (K, other), value in values.items() if other == shape)
        colour, marker = component_style(k)
        ax.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=shape)
    chosen = (model.n_components_, model.covariance_type_)
    ax.plot(chosen[0], values[chosen], "o", markersize=12, fillstyle="none", color="black")
    name = "-log P(K | data)" if model.criterion == "network" else model.criterion.upper()
    ax.set_xlabel("number of components K")
    ax.set_ylabel(f"{name} (smaller is better)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=8, frameon=False)

"""The study's own families behind the estimator: networks for one d, and variances of one or of each column's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tgmm.errors import UserError
from tgmm.estimator.em import Direct, Mixtures
from tgmm.estimator.fit import FitOptions, Fitted
from tgmm.estimator.maximise import Limits, maximise
from tgmm.estimator.scaling import check_data

SCALES = ("paper", "overnight", "laptop", "smoke")  # whose results are looked through for a family, in this order


def find_family(name: str, root: Path = Path()) -> Path:
    """The folder of a trained family: the name of one in results/, or a folder itself.

    Raises
    ------
    ValueError : there is none; the message says where it was looked for.
    """
    if (Path(name) / "config.json").is_file():
        return Path(name)
    for scale in SCALES:
        folder = root / "results" / scale / "models" / name
        if (folder / "config.json").is_file():
            return folder
    raise ValueError(
        f"model={name!r} is neither 'assignment' nor a folder with config.json, and results/<scale>/models/{name} is "
        "not here: train the family, or pull its release with `dvc pull`"
    )


def fit_family(name: str, X: np.ndarray, weights: np.ndarray, sizes: list[int], options: FitOptions) -> Fitted:
    """Fit with a family's network: variances are one for "isotropic" families, each column's own for the others.

    Data are taken as they are, since such a family knows its unit; there is no shrinkage.

    Parameters
    ----------
    name : of the family, or its folder.
    X, weights : arrays (N, d) without missing values, and (N,).
    sizes : one K.
    options : how EM goes on from the network's estimate.
    """
    from tgmm.methods.transformer import estimate_with_network
    from tgmm.models.checkpoint import load_checkpoint

    if len(sizes) > 1:
        raise ValueError(f"model={name!r} takes one n_components, not {len(sizes)} to choose from")
    check_data(X, weights, sizes[0])
    if np.isnan(X).any():
        raise ValueError(f"model={name!r} takes no missing values: model='assignment' does")
    points = torch.from_numpy(X)[None]
    try:
        network = load_checkpoint(find_family(name)).network
        found = estimate_with_network(network, points, sizes[0])
    except UserError as error:
        raise ValueError(str(error)) from None
    unit = network.settings.covariance == "isotropic"
    covariances = torch.ones_like(found.weights) if unit else found.standard_deviations.square()
    start = Mixtures("spherical" if unit else "diag", found.weights.log(), found.means, covariances)
    return _refined(start, points, weights, unit, options)


def _refined(mixtures: Mixtures, points: Tensor, weights: np.ndarray, unit: bool, options: FitOptions) -> Fitted:
    shares = torch.from_numpy(weights / weights.sum())[None]
    data, d = Direct(points, shares, mixtures.shape), points.shape[2]
    floor = options.reg_covar * float(points.var(1).mean())
    limits = Limits(torch.full((1, d), floor, dtype=points.dtype), torch.tensor([weights.sum()]), shrink=False)
    bounds, converged, steps = [], False, 0
    while True:
        likelihood, moments = data.expect(mixtures)
        converged = bool(bounds) and abs(float(likelihood) - bounds[-1]) < options.tol
        bounds.append(float(likelihood))
        if converged or steps == options.steps or not np.isfinite(bounds[-1]):
            break
        better = maximise(moments, mixtures.shape, limits)
        mixtures = replace(better, covariances=mixtures.covariances) if unit else better
        steps += 1
    if not np.isfinite(bounds[-1]):
        raise ValueError("the network's estimate for these data is not finite: are they in the family's unit?")
    weights_, means, covariances = (
        part[0].numpy() for part in (mixtures.log_weights.exp(), mixtures.means, mixtures.covariances)
    )
    return Fitted(mixtures.shape, weights_ / weights_.sum(), means, covariances, converged, steps, bounds)

"""A fitted mixture as a JSON file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from tgmm.estimator.density import precision_factors, precisions
from tgmm.estimator.estimator import TransformerGaussianMixture
from tgmm.files import read_json, write_json
from tgmm.settings import Settings

Numbers = tuple[Any, ...]


class FitRecord(Settings):
    """What `tgmm fit --out` writes."""

    format: Literal["tgmm-fit-1"] = Field(description="The version of this format.")
    columns: tuple[str, ...] = Field(description="Names of the columns, in the order of the means.")
    covariance_type: Literal["full", "tied", "diag", "spherical"] = Field(description="Shape of the covariances.")
    weights: tuple[float, ...] = Field(description="Weight of each component.")
    means: tuple[Numbers, ...] = Field(description="Mean of each component.")
    covariances: Numbers = Field(description="As scikit-learn's covariances_.")
    converged: bool = Field(description="Whether EM converged.")
    n_iter: int = Field(description="Steps of EM.")
    lower_bounds: tuple[float, ...] = Field(description="Mean log-likelihood before each step.")
    n_rows: int = Field(description="Rows of the data.")
    criteria: dict[str, float] = Field(description="bic, aic and icl of the fit; smaller is better.")
    compared: tuple[dict[str, Any], ...] = Field((), description="Criterion of every K and shape that was compared.")
    settings: dict[str, Any] = Field(description="Parameters of the estimator.")
    version: str = Field(description="Version of tgmm.")


def make_record(model: TransformerGaussianMixture, X: np.ndarray, columns: list[str]) -> FitRecord:
    """The record of a model fitted to X (N, d)."""
    import tgmm

    compared = [{"k": K, "shape": s, "value": value} for (K, s), value in model.criterion_values_.items()]
    settings = {key: value for key, value in model.get_params().items() if key != "n_components"}
    values = {
        "format": "tgmm-fit-1",
        "columns": columns,
        "covariance_type": model.covariance_type_,
        "weights": model.weights_.tolist(),
        "means": model.means_.tolist(),
        "covariances": model.covariances_.tolist(),
        "converged": model.converged_,
        "n_iter": model.n_iter_,
        "lower_bounds": model.lower_bounds_,
        "n_rows": len(X),
        "criteria": {"bic": float(model.bic(X)), "aic": float(model.aic(X)), "icl": float(model.icl(X))},
        "compared": compared,
        "settings": settings,
        "version": tgmm.__version__,
    }
    return FitRecord.read(values)


def save_record(path: Path, record: FitRecord) -> None:
    """Write a record as JSON, whole or not at all."""
    write_json(path, record.plain())


def load_record(path: Path) -> FitRecord:
    """Read a record that :func:`save_record` wrote.

    Raises
    ------
    UserError : no such file, or not a record; the message names the key.
    """
    return FitRecord.read(read_json(path), str(path))


def restore(record: FitRecord) -> TransformerGaussianMixture:
    """The fitted estimator of a record."""
    model = TransformerGaussianMixture(len(record.weights), covariance_type=record.covariance_type)
    model.weights_, model.means_ = np.array(record.weights), np.array(record.means, dtype=np.float64)
    model.covariances_ = np.array(record.covariances, dtype=np.float64)
    model.precisions_cholesky_ = precision_factors(model.covariances_, record.covariance_type)
    model.precisions_ = precisions(model.precisions_cholesky_, record.covariance_type)
    model.converged_, model.n_iter_ = record.converged, record.n_iter
    model.lower_bounds_, model.lower_bound_ = list(record.lower_bounds), record.lower_bounds[-1]
    model.n_components_, model.covariance_type_ = len(record.weights), record.covariance_type
    model.criterion_values_ = {(row["k"], row["shape"]): row["value"] for row in record.compared}
    model.n_features_in_ = model.means_.shape[1]
    return model

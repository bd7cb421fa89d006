"""Axes of the data's own: right directions, no dependence on rotation, order or padding."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ortho_group
from sklearn.decomposition import TruncatedSVD

from tgmm.models.components import EXACT_DIMENSION, principal_axes, sorted_coordinates
from tgmm.models.settings import ComponentsNetwork
from tgmm.tasks.stream import TaskStream


def tasks(dimension: int, covariance: str = "isotropic", n_points: int = 64):
    sizes = {"dimension": dimension, "n_components": (2, 3, 4, 5), "n_points": n_points}
    return TaskStream(3, 12, covariance=covariance, **sizes).batch(0)


def network(dimension: int, covariance: str = "isotropic", axes: int = 8):
    torch.manual_seed(0)
    sizes = {"width": 16, "blocks": 2, "heads": 2, "axes": axes}
    return ComponentsNetwork(dimension=dimension, covariance=covariance, **sizes).build().eval()


@pytest.mark.parametrize("dimension", [8, EXACT_DIMENSION, 128])
def test_axes_are_those_of_a_singular_value_decomposition(dimension):
    points = tasks(dimension).points.double()
    axes = principal_axes(points, 5)
    for task in range(len(points)):
        svd = TruncatedSVD(5, algorithm="arpack").fit(points[task].numpy())
        kept = (points[task] @ axes[task]).square().sum()
        assert float(kept) >= 0.999 * float((svd.singular_values_**2).sum())
    identity = torch.eye(5, dtype=torch.float64).expand(len(points), -1, -1)
    torch.testing.assert_close(axes.mT @ axes, identity)
    assert ((points @ axes).sum(1) >= 0).all()


@pytest.mark.parametrize("dimension", [2, 8, 128])
def test_the_means_lie_in_the_axes(dimension):
    batch = tasks(dimension)
    axes = principal_axes(batch.points, min(8, dimension))
    lost = batch.mixture.means - batch.mixture.means @ axes @ axes.mT
    assert lost.square().mean() < 0.2  # about the noise of a direction estimated from 64 points


@pytest.mark.parametrize("dimension", [2, 8, 40])
def test_a_rotated_task_gets_the_rotated_estimate(dimension):
    points, counts = tasks(dimension).points.double(), tasks(dimension).n_components
    turn = torch.from_numpy(ortho_group.rvs(dimension, random_state=1))
    model = network(dimension).double()
    with torch.no_grad():
        plain, turned = model(points, counts)[-1], model(points @ turn, counts)[-1]
    torch.testing.assert_close(turned.means, plain.means @ turn, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(turned.log_weights, plain.log_weights, atol=1e-3, rtol=1e-3)


def test_an_anisotropic_task_may_change_the_order_and_direction_of_its_coordinates():
    batch = tasks(6, "anisotropic")
    points = batch.points.double()
    order, sign = torch.randperm(6, generator=torch.Generator().manual_seed(2)), torch.tensor([1, -1, 1, -1, -1, 1.0])
    model = network(6, "anisotropic").double()
    with torch.no_grad():
        plain = model(points, batch.n_components)[-1]
        moved = model(points[..., order] * sign, batch.n_components)[-1]
    torch.testing.assert_close(moved.means, plain.means[..., order] * sign)
    torch.testing.assert_close(moved.standard_deviations, plain.standard_deviations[..., order])


def test_sorted_coordinates_are_signed_coordinates():
    points = tasks(5, "anisotropic").points
    axes = sorted_coordinates(points)
    assert torch.equal(axes.abs().sum(1), torch.ones(len(points), 5))
    assert torch.equal(axes.abs().amax(1), torch.ones(len(points), 5))
    moments = (points @ axes).square().sum(1)
    assert (moments.diff(dim=1) >= -1e-3).all()


CASES = [(3, "isotropic"), (40, "isotropic"), (100, "isotropic"), (128, "isotropic"), (3, "anisotropic")]


def other_orders(points: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    """The same points in another order, and with padding, as points and hidden."""
    tasks, count, dimension = points.shape
    shuffled = points[:, torch.randperm(count, generator=torch.Generator().manual_seed(1))]
    padded = torch.cat([points, 50 + torch.randn(tasks, 7, dimension)], dim=1)
    return {"shuffled": (shuffled, None), "padded": (padded, torch.arange(count + 7).expand(tasks, -1) >= count)}


@pytest.mark.parametrize("change", ["shuffled", "padded"])
@pytest.mark.parametrize(("dimension", "covariance"), CASES)
def test_neither_order_nor_padding_matters_in_single_precision(dimension, covariance, change):
    batch = tasks(dimension, covariance)
    model = network(dimension, covariance)
    points, hidden = other_orders(batch.points)[change]
    with torch.no_grad():
        axes = model.axes(points, hidden)
        plain = model(batch.points, batch.n_components)[-1]
        other = model(points[:, : batch.points.shape[1]], batch.n_components, axes=axes)[-1]
    assert plain.means.dtype == torch.float32
    torch.testing.assert_close(other.means, plain.means, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other.log_weights, plain.log_weights, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dimension", "covariance"), CASES)
def test_the_order_matters_no_more_than_rounding_where_products_are_in_bfloat16(dimension, covariance):
    batch = tasks(dimension, covariance)
    model, (shuffled, _) = network(dimension, covariance), other_orders(batch.points)["shuffled"]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain, other = (model(points, batch.n_components)[-1].means for points in (batch.points, shuffled))
        assert (model.axes(shuffled) - model.axes(batch.points)).abs().max() < 1e-6
    assert (other - plain).abs().max() < 0.05


@pytest.mark.parametrize("dimension", [5, 70])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30, 1e200])
def test_a_task_that_is_not_finite_has_no_axes_and_spoils_no_other(dimension, value):
    points = tasks(dimension).points.double()
    plain = principal_axes(points, 5)
    points[3, 7, 1] = value
    axes = principal_axes(points, 5)
    others = torch.arange(len(points)) != 3
    assert torch.equal(axes[others], plain[others])
    assert axes[3].isfinite().all() if value == 1e30 else axes[3].isnan().all()


def test_the_network_sees_few_coordinates_in_many_dimensions():
    few, many = network(8), network(128)
    assert sum(p.numel() for p in few.parameters()) == sum(p.numel() for p in many.parameters())
    assert many.read_in.linear.in_features == 8
    assert network(128, axes=0).read_in.linear.in_features == 128

"""Axes of the data's own: right directions, no dependence on rotation, order or padding."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ortho_group
from sklearn.decomposition import TruncatedSVD

from tgmm.models.components import EXACT_DIMENSION, principal_axes, sorted_coordinates
from tgmm.models.settings import ComponentsNetwork
from tgmm.tasks.stream import TaskStream


def tasks(dimension: int, covariance: str = "isotropic", longest: int = 64):
    sizes = {"dimension": dimension, "n_components": (2, 3, 4, 5), "longest": longest}
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


@pytest.mark.parametrize(("dimension", "covariance"), [(3, "isotropic"), (100, "isotropic"), (3, "anisotropic")])
def test_neither_order_nor_padding_matters(dimension, covariance):
    batch = tasks(dimension, covariance)
    points, counts = batch.points.double(), batch.n_components
    model = network(dimension, covariance).double()
    count = points.shape[1]
    shuffled = points[:, torch.randperm(count, generator=torch.Generator().manual_seed(1))]
    padded = torch.cat([points, 50 + torch.randn(len(points), 7, dimension).double()], dim=1)
    hidden = torch.arange(count + 7).expand(len(points), -1) >= count
    with torch.no_grad():
        plain = model(points, counts)[-1]
        for other in (model(shuffled, counts)[-1], model(padded, counts, hidden)[-1]):
            torch.testing.assert_close(other.means, plain.means, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(other.log_weights, plain.log_weights, atol=1e-6, rtol=1e-6)


def test_the_network_sees_few_coordinates_in_many_dimensions():
    few, many = network(8), network(128)
    assert sum(p.numel() for p in few.parameters()) == sum(p.numel() for p in many.parameters())
    assert many.read_in.linear.in_features == 8
    assert network(128, axes=0).read_in.linear.in_features == 128

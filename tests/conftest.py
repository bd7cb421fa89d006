"""Fixtures that most tests share; results must not depend on how many cores there are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from tgmm.mixture import Mixture

settings.register_profile("tgmm", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("tgmm")
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` are skipped, and said to be, where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def make_mixture():
    """Random mixtures of well-separated parameters, float64, from torch's own generator (not the package's)."""

    def make(n_tasks: int, n_components: int, dimension: int, *, scales: bool = False, seed: int = 0) -> Mixture:
        generator = torch.Generator().manual_seed(seed)
        weights = 0.2 + 0.6 * torch.rand(n_tasks, n_components, dtype=torch.float64, generator=generator)
        means = 5.0 * torch.randn(n_tasks, n_components, dimension, dtype=torch.float64, generator=generator)
        deviations = 0.5 + 2.0 * torch.rand(means.shape, dtype=torch.float64, generator=generator)
        return Mixture(weights / weights.sum(1, keepdim=True), means, deviations if scales else None)

    return make

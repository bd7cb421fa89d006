"""Whether tasks can be drawn at all: K random means of which no two point in nearly the same direction.

All K means of a task are redrawn together until every pair has a cosine similarity below 0.8. In few dimensions there
is no room for many such directions, and long before that the redrawing takes forever. Nothing here needs tensors, so
that a configuration is checked before anything starts.
"""

from __future__ import annotations

import functools

import numpy as np

from tgmm.errors import UserError

COSINE_LIMIT = 0.8
LOWEST_ACCEPTANCE = 1e-4  # of the sets of means that are drawn for a task; below, drawing tasks is refused
MOST_COMPONENTS = 1000
ROOMY_DIMENSION = 32  # more dimensions leave more room, so that what fits here fits there
MOST_SETS, FEWEST_SETS = 8192, 64
NUMBERS_AT_ONCE = 1 << 21


def check_feasible(dimension: int, n_components: int) -> None:
    """Refuse tasks whose means would have to be redrawn more than about 10,000 times.

    Parameters
    ----------
    dimension, n_components : d and K, both at least 1.

    Raises
    ------
    UserError
        One line with the estimated share of accepted sets of means.
    """
    if n_components > MOST_COMPONENTS:
        raise UserError(f"K={n_components}: tasks have at most {MOST_COMPONENTS} components")
    acceptance = estimate_acceptance(min(dimension, ROOMY_DIMENSION), n_components)
    if acceptance < LOWEST_ACCEPTANCE:
        seen = f"about {acceptance:.1g}" if acceptance else "practically none"
        raise UserError(
            f"d={dimension}, K={n_components}: {seen} of the random sets of K means have all pairwise cosines below "
            f"{COSINE_LIMIT}, and tasks need at least {LOWEST_ACCEPTANCE:g}; take fewer components or more dimensions"
        )


@functools.cache
def estimate_acceptance(dimension: int, n_components: int) -> float:
    """The probability that K means, uniform on [-5, 5]^d, have all pairwise cosines below 0.8.

    Means are added one at a time to many sets at once, and the sets that go wrong are replaced by copies of the others
    (sequential Monte Carlo: Del Moral, Doucet and Jasra 2006): the product of the shares that go well is an unbiased
    estimate, with a relative error of a few per cent even where plain simulation would see no success. Zero where no
    set goes on. The same number comes out every time.
    """
    generator = np.random.default_rng([dimension, n_components])
    n_sets = min(MOST_SETS, max(FEWEST_SETS, NUMBERS_AT_ONCE // (n_components * dimension)))
    directions = np.zeros((n_sets, n_components, dimension))
    acceptance = 1.0
    for number in range(n_components):
        new = generator.uniform(-1.0, 1.0, (n_sets, dimension, 1))
        new /= np.linalg.norm(new, axis=1, keepdims=True)
        before = directions[:, :number]
        apart = np.flatnonzero((before @ new < COSINE_LIMIT).all((1, 2)))
        if not len(apart):
            return 0.0
        directions[:, number] = new[..., 0]
        if len(apart) < n_sets:
            acceptance *= len(apart) / n_sets
            directions = directions[apart[np.arange(n_sets) * len(apart) // n_sets]]
    return acceptance

"""The kinds of methods: what each one's settings are, and how it is built from them.

A new kind is a class here and a module with its estimator. Nothing heavy is imported before a method is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Union

from pydantic import Field

from tgmm.errors import UserError
from tgmm.settings import Name, Settings

if TYPE_CHECKING:
    import torch

    from tgmm.methods.base import FitResult, Method, TaskPoints

LARGE = 10**6  # upper limit of counts of starts and steps


@dataclass(frozen=True)
class MethodContext:
    """What a method is built for.

    Attributes
    ----------
    covariance : of the tasks, "isotropic" or "anisotropic".
    device : where to compute.
    model : folder of the trained family, for networks.
    """

    covariance: str
    device: torch.device
    model: Path | None = None


class MethodSettings(Settings):
    """What every method has. ``knows_truth`` marks the oracle, which is given a task's true parameters and units."""

    SLOW: ClassVar[bool] = False  # whether it takes minutes a task set, so that it gets a process of its own

    standardise: bool = Field(
        False, description="Bring every data set to the location and spread of the training tasks first."
    )

    @property
    def knows_truth(self) -> bool:
        return False

    def build(self, context: MethodContext) -> Method:
        """The estimator, a function from TaskPoints to FitResult."""
        from tgmm.methods.base import guarded

        estimate = self.estimator(context)
        if not self.standardise:
            return guarded(estimate)
        from tgmm.methods.base import estimate_standardised

        return guarded(lambda task: estimate_standardised(estimate, task, context.covariance))

    def estimator(self, context: MethodContext) -> Method:
        """The estimator of data in the units of the training tasks."""
        raise NotImplementedError

    def applies(self, covariance: str, dimension: int) -> bool:
        """Whether tasks of such a covariance and dimension are scored at all; where not, figures mark a gap."""
        return True


class EM(MethodSettings):
    """Expectation-maximisation."""

    kind: Literal["em"] = Field(description="What sort of estimator this is.")
    start: Literal["normal", "k-means++", "lookahead", "truth"] = Field(
        "k-means++", description="Where the iterations start; the truth is for the oracle."
    )
    starts: int = Field(1, ge=1, le=LARGE, description="Number of starts; the best likelihood wins.")
    variance_floor: float = Field(
        1e-2, gt=0, le=1e6, description="Smallest variance of an estimated diagonal covariance."
    )

    @property
    def knows_truth(self) -> bool:
        return self.start == "truth"

    def estimator(self, context: MethodContext) -> Method:
        import torch

        from tgmm.methods.base import not_applicable
        from tgmm.methods.em import EMSettings, estimate_em

        settings = EMSettings(
            start=self.start, starts=self.starts, covariance=context.covariance, variance_floor=self.variance_floor
        )

        def estimate(task: TaskPoints) -> FitResult:
            if task.n_components > task.points.shape[1]:
                return not_applicable(task, f"K={task.n_components} exceeds N={task.points.shape[1]}")
            return estimate_em(
                task.points.to(context.device, torch.float64), task.n_components, settings,
                seed=task.seed, index=task.index.to(context.device), truth=task.truth.to(context.device),
            )  # fmt: skip

        return estimate


class Spectral(MethodSettings):
    """The spectral method of Hsu and Kakade (2013)."""

    kind: Literal["spectral"] = Field(description="What sort of estimator this is.")

    def estimator(self, context: MethodContext) -> Method:
        import torch

        from tgmm.methods.spectral import estimate_spectral

        return lambda task: estimate_spectral(
            task.points.to(context.device, torch.float64), task.n_components, seed=task.seed,
            index=task.index.to(context.device), covariance=context.covariance,
        )  # fmt: skip


class Network(MethodSettings):
    """A trained network."""

    kind: Literal["tgmm"] = Field(description="What sort of estimator this is.")
    recipe: Name = Field("components", description="The recipe of the family.")
    N: int = Field(128, ge=2, le=LARGE, description="The N of the family.")
    em_steps: int = Field(0, ge=0, le=LARGE, description="EM steps that follow the network.")

    def estimator(self, context: MethodContext) -> Method:
        from tgmm.methods.transformer import estimate_tgmm
        from tgmm.models.checkpoint import load_checkpoint

        if context.model is None:
            raise UserError("a trained network needs the folder of its model: name it with --model")
        network = load_checkpoint(context.model, context.device).network
        if network.settings.covariance != context.covariance:
            raise UserError(
                f"{context.model}: trained on {network.settings.covariance} tasks, and these are {context.covariance}"
            )
        return lambda task: estimate_tgmm(network, task.points.to(context.device), task.n_components, self.em_steps)


class SampleMean(MethodSettings):
    """The trivial estimate: the sample mean K times, with equal weights."""

    kind: Literal["sample-mean"] = Field(description="What sort of estimator this is.")

    def estimator(self, context: MethodContext) -> Method:
        from tgmm.methods.base import estimate_sample_mean

        return lambda task: estimate_sample_mean(task.points.double(), task.n_components, context.covariance)


class Bayes(MethodSettings):
    """The estimate of least expected error under the paper's prior, by tempered Markov chains."""

    SLOW: ClassVar[bool] = True
    CELLS: ClassVar[dict[int, tuple[int, ...]]] = {2: (2, 3, 4, 5), 8: (5,)}

    kind: Literal["bayes"] = Field(description="What sort of estimator this is.")
    sweeps: int = Field(1000, ge=1, le=LARGE, description="Of every chain; the first third adapts its steps.")

    def applies(self, covariance: str, dimension: int) -> bool:
        return covariance == "isotropic" and dimension in self.CELLS

    def estimator(self, context: MethodContext) -> Method:
        import torch

        from tgmm.methods.base import not_applicable
        from tgmm.methods.bayes import MEAN_RANGE, BayesSettings, estimate_bayes

        settings = BayesSettings(sweeps=self.sweeps)

        def estimate(task: TaskPoints) -> FitResult:
            d = task.points.shape[2]
            if context.covariance != "isotropic" or task.n_components not in self.CELLS.get(d, ()):
                return not_applicable(task, f"not computed for K = {task.n_components} in d = {d}")
            if task.truth.n_components != task.n_components or task.truth.means.abs().max() > MEAN_RANGE:
                return not_applicable(task, "the tasks are not those of the prior")
            points = task.points.to(context.device, torch.float64)
            truth = task.truth.to(context.device, torch.float64)
            return estimate_bayes(points, task.n_components, settings, seed=task.seed, index=task.index, truth=truth)

        return estimate


class Rival(MethodSettings):
    """An estimator that the reviewers asked for, of unit covariances alone."""

    def applies(self, covariance: str, dimension: int) -> bool:
        return covariance == "isotropic"

    def estimator(self, context: MethodContext) -> Method:
        import torch

        from tgmm.methods.base import not_applicable

        def estimate(task: TaskPoints) -> FitResult:
            if context.covariance != "isotropic":
                return not_applicable(task, "covariances are not one")
            if task.n_components > task.points.shape[1]:
                return not_applicable(task, f"K={task.n_components} exceeds N={task.points.shape[1]}")
            points = task.points.to(context.device, torch.float64)
            return self.run(points, task.n_components, seed=task.seed, index=task.index.to(context.device))

        return estimate

    def run(self, points: torch.Tensor, n_components: int, *, seed: int, index: torch.Tensor) -> FitResult:
        """Estimates from points (B, N, d) of float64."""
        raise NotImplementedError


class TwoRounds(Rival):
    """Two-round EM of Dasgupta and Schulman (2007)."""

    kind: Literal["two-round-em"] = Field(description="What sort of estimator this is.")

    def run(self, points: torch.Tensor, n_components: int, *, seed: int, index: torch.Tensor) -> FitResult:
        from tgmm.methods.rivals import estimate_two_rounds

        return estimate_two_rounds(points, n_components, seed=seed, index=index)


class Gradient(Rival):
    """Adam on the likelihood."""

    kind: Literal["gradient"] = Field(description="What sort of estimator this is.")
    starts: int = Field(1, ge=1, le=LARGE, description="Number of k-means++ starts; the best likelihood wins.")

    def run(self, points: torch.Tensor, n_components: int, *, seed: int, index: torch.Tensor) -> FitResult:
        from tgmm.methods.rivals import estimate_gradient

        return estimate_gradient(points, n_components, self.starts, seed=seed, index=index)


class Variational(Rival):
    """Variational Bayes, scikit-learn's."""

    kind: Literal["variational"] = Field(description="What sort of estimator this is.")

    def run(self, points: torch.Tensor, n_components: int, *, seed: int, index: torch.Tensor) -> FitResult:
        from tgmm.methods.rivals import estimate_variational

        return estimate_variational(points, n_components, seed=seed, index=index)


class Moments(Rival):
    """The denoised method of moments of Wu and Yang (2020), in one dimension alone."""

    kind: Literal["moments"] = Field(description="What sort of estimator this is.")

    def applies(self, covariance: str, dimension: int) -> bool:
        return covariance == "isotropic" and dimension == 1

    def run(self, points: torch.Tensor, n_components: int, *, seed: int, index: torch.Tensor) -> FitResult:
        from tgmm.methods.rivals import estimate_moments

        return estimate_moments(points, n_components)


class SpectralEM(Rival):
    """EM from the spectral estimate."""

    kind: Literal["spectral-em"] = Field(description="What sort of estimator this is.")

    def run(self, points: torch.Tensor, n_components: int, *, seed: int, index: torch.Tensor) -> FitResult:
        from tgmm.methods.rivals import estimate_spectral_em

        return estimate_spectral_em(points, n_components, seed=seed, index=index)


class Truth(MethodSettings):
    """The true mixture itself: no error of parameters, and the accuracy and likelihood that are to be had."""

    kind: Literal["truth"] = Field(description="What sort of estimator this is.")

    @property
    def knows_truth(self) -> bool:
        return True

    def estimator(self, context: MethodContext) -> Method:
        from tgmm.methods.base import FitResult

        return lambda task: FitResult(task.truth.map(lambda value: value.double()), task.index * 0)


METHOD_KINDS = (EM, Spectral, Network, SampleMean, Bayes, TwoRounds, Gradient, Variational, Moments, SpectralEM, Truth)
AnyMethod = Annotated[Union[METHOD_KINDS], Field(discriminator="kind")]  # noqa: UP007

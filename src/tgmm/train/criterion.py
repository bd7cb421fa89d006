"""Trains the criterion network: fits data sets of the broad prior with every K, then learns which K was the true one.

The fits are nearly all of the work. They are saved batch by batch under ``work``, so a stopped training goes on where
it was; the network itself trains in a minute. Fits start from the assignment network that the package holds: train
that one first.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from tgmm.counter_random import derive_seed
from tgmm.estimator.evidence import summarise
from tgmm.estimator.many import fit_many
from tgmm.estimator.start import count_probabilities
from tgmm.files import write_atomically, write_json
from tgmm.models.assignment import LARGEST
from tgmm.models.criterion import LENGTH, CriterionNetwork, compare_fits
from tgmm.tasks.prior import draw_tasks
from tgmm.tasks.settings import HOLDERS, SHAPES
from tgmm.train.family import cost_and_origin, state_folder
from tgmm.train.lease import exclusive
from tgmm.train.progress import InterruptRequest, TrainingProgress, deferred_signals
from tgmm.train.settings import CRITERION_FILES, CriterionTraining
from tgmm.train.state import TrainingRecord
from tgmm.train.trainer import count_parameters

VALIDATION = 8  # one batch of so many is kept for validation
STEP = 128  # data sets in a step of the network
Fits = dict[str, np.ndarray]  # summaries (S, LARGEST, LENGTH), told (S, LARGEST), K (S,), processor_seconds (1,)


def fit_batch(settings: CriterionTraining, number: int) -> Fits:
    """The fits of one batch of data sets, of one d, N and shape; its number and the seed fix them."""
    seed, started = derive_seed(settings.seed, "criterion tasks", number), time.process_time()
    prior, rng, generator = settings.prior, np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    d, N = int(rng.choice(prior.dimensions)), int(rng.choice(prior.sizes))
    if rng.random() < prior.large:
        N = int(rng.choice(prior.large_sizes))
    kind = int(rng.choice(len(prior.kinds), p=np.array(prior.kinds) / sum(prior.kinds)))
    shape = SHAPES[rng.choice(HOLDERS[kind])]
    choices = [K for K in prior.components if max(2, N // 6) >= K]
    sizes, nuisances = torch.tensor(rng.choice(choices, settings.batch)), bool(rng.random() >= settings.clean)
    tasks = draw_tasks(prior, sizes, d, N, generator, kind=kind, nuisances=nuisances)
    points = tasks.points.double()
    summaries, told = summarise_all(points.numpy(), shape), count_probabilities(points, shape).numpy()
    took = np.array([time.process_time() - started])
    return {"summaries": summaries, "told": told, "K": tasks.n_components.numpy(), "processor_seconds": took}


def summarise_all(points: np.ndarray, shape: str) -> np.ndarray:
    """Summaries (S, LARGEST, LENGTH) of the fits of data sets (S, N, d) with every K; NaN where there is none."""
    summaries = np.full((len(points), LARGEST, LENGTH), np.nan)
    once = np.ones(points.shape[1])
    for K in range(1, LARGEST + 1):
        fits = fit_many(points, K, covariance_type=shape, n_jobs=1)
        for i in np.flatnonzero(~fits.failed):
            summaries[i, K - 1] = summarise(fits.fitted(i), points[i], once)
    return summaries


def collect(settings: CriterionTraining, folder: Path, progress: TrainingProgress, request: InterruptRequest) -> bool:
    """Fit the batches that ``folder`` lacks; return whether all are there."""
    missing = [number for number in range(settings.batches) if not _file(folder, number).exists()]
    for place, number in enumerate(missing, start=1):
        write_atomically(_file(folder, number), save_arrays(fit_batch(settings, number)))
        progress.step((settings.batches - len(missing) + place) * settings.batch)
        if request and place < len(missing):
            return False
    return True


def _file(folder: Path, number: int) -> Path:
    return folder / f"fits-{number:06d}.safetensors"


def train_network(settings: CriterionTraining, batches: list[Fits]) -> tuple[CriterionNetwork, list[dict[str, Any]]]:
    """The network of the best pass over all but every eighth batch, which validate it, and the history."""
    torch.manual_seed(derive_seed(settings.seed, "initial weights", "criterion"))
    rng = np.random.default_rng(derive_seed(settings.seed, "criterion passes"))
    kept = [_joined(batches[::VALIDATION])] if len(batches) > 1 else [batches[0]]
    learnt = _joined([batch for i, batch in enumerate(batches) if i % VALIDATION or len(batches) == 1])
    network = CriterionNetwork(settings.network)
    scale = compare_fits(learnt["summaries"], learnt["told"]).reshape(-1, len(network.centre))
    network.centre.copy_(torch.from_numpy(scale.mean(0)))
    network.spread.copy_(torch.from_numpy(scale.std(0) + 1e-6))
    steps = max(1, len(learnt["K"]) // STEP)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.passes * steps + 1
    )
    history, best = [], (np.inf, network.state_dict())
    for number in range(settings.passes):
        seen, target = _shown(learnt, rng)
        for chosen in np.array_split(rng.permutation(len(target)), steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(seen[chosen]), target[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
        history.append({"pass": number + 1, "training": round(loss.item(), 5), **validate(network, kept[0])})
        if history[-1]["validation"] < best[0]:
            best = history[-1]["validation"], {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best[1])
    return network.eval(), history


def _joined(batches: list[Fits]) -> Fits:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _shown(fits: Fits, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What the network sees, and K - 1: half of the data sets with every fit, half with those up to some K.

    That K is drawn without regard to the true one, and data sets whose own is larger are left out: so the largest fit
    tells nothing but that K is no larger.
    """
    S = len(fits["K"])
    largest = np.where(rng.random(S) < 0.5, LARGEST, rng.integers(2, LARGEST + 1, S))
    kept = np.flatnonzero(fits["K"] <= largest)
    hidden = np.arange(1, LARGEST + 1) > largest[kept, None]
    seen = compare_fits(np.where(hidden[..., None], np.nan, fits["summaries"][kept]), fits["told"][kept])
    return torch.from_numpy(seen).float(), torch.from_numpy(fits["K"][kept] - 1)


@torch.no_grad()
def validate(network: CriterionNetwork, fits: Fits) -> dict[str, float]:
    """Cross-entropy of K on fits with every K, and the share of data sets whose K is found."""
    network.eval()
    logits = network(torch.from_numpy(compare_fits(fits["summaries"], fits["told"])).float())
    target = torch.from_numpy(fits["K"] - 1)
    network.train()
    found = (logits.argmax(1) == target).float().mean().item()
    return {"validation": round(F.cross_entropy(logits, target).item(), 5), "found": round(found, 4)}


def train(settings: CriterionTraining, out: Path, work: Path, visible: bool = True) -> int | None:
    """Train a network, or go on with its training, and write it; return the signal that stopped it, or None.

    Parameters
    ----------
    settings : everything that shapes the result.
    out : gets criterion.safetensors and criterion.json, its record.
    work : parent of the saved fits, ``work/criterion/<fingerprint>/``.
    visible : whether progress is reported.
    """
    folder = state_folder(work, "criterion", settings.fingerprint())
    with deferred_signals() as request, exclusive(folder, request=request):
        done = sum(_file(folder, number).exists() for number in range(settings.batches))
        progress = TrainingProgress("criterion", settings.batches * settings.batch, done * settings.batch, visible)
        try:
            finished = collect(settings, folder, progress, request)
        finally:
            progress.close()
        if not finished:
            return request.number
        started = time.process_time()
        batches = [load_arrays(_file(folder, number).read_bytes()) for number in range(settings.batches)]
        network, history = train_network(settings, batches)
        took = time.process_time() - started + sum(float(batch["processor_seconds"][0]) for batch in batches)
        record = TrainingRecord(len(history), history, [], took, took)
        release(settings, network, record, sum(len(batch["K"]) for batch in batches), out)
    return None


def release(
    settings: CriterionTraining, network: CriterionNetwork, record: TrainingRecord, tasks: int, out: Path
) -> None:
    """Write the weights, then their record; each appears whole or not at all."""
    weights_file, record_file = (out / name for name in CRITERION_FILES)
    write_atomically(weights_file, save({name: value.contiguous() for name, value in network.state_dict().items()}))
    write_json(
        record_file,
        {
            "settings": settings.plain(),
            "tasks": tasks,
            **cost_and_origin(record, torch.device("cpu")),
            "parameters": count_parameters(network),
            "history": record.history,
        },
    )

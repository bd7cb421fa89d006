"""Short runs of everything that has a version number, and their recorded results in tests/golden.json.

`python tests/golden.py NAME...` records runs anew, once a number in src/tgmm/versions.py has been raised; without names
it records what is missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tgmm.versions import VERSIONS, version

FILE = Path(__file__).with_name("golden.json")
TRAINING = {
    "family": "golden", "dimension": 4, "n_components": [2, 3], "longest": 24, "recipe": "golden", "loss": "matched",
    "training": {"tasks": 48, "batch": 8, "validate_every": 24}, "validation_tasks": 4, "seed": 5,
}  # fmt: skip
SIZE = {"width": 8, "blocks": 2, "heads": 2}
KINDS = {
    "components": {"axes": 4, "fourier": 4},
    "set-encoder": {},
    "gpt2": {"positions": 64},
    "mamba2": {"state": 4, "groups": 2, "expand": 4},
    "mamba2-causal": {"state": 4, "groups": 2, "expand": 4},
}
METHODS = {
    "em": [{"start": "k-means++", "starts": 3}, {"start": "normal", "standardise": True}, {"start": "truth"}],
    "spectral": [{}],
    "sample-mean": [{}],
    "bayes": [{"sweeps": 30}],
    "two-round-em": [{}],
    "gradient": [{"starts": 2}],
    "variational": [{}],
    "moments": [{}],
    "spectral-em": [{}],
    "truth": [{}],
}
RECIPES = {
    "transformer": {name: [f"tgmm-{name}"] for name in ("reference", "matched", "components")},
    "em-steps": {"components": ["tgmm-components-em20"]},
}
MEASUREMENTS = ("em", "power", "sizes", "sorted-floor", "fisher")
ISOTROPIC = ("bayes", "two-round-em", "gradient", "variational", "moments", "spectral-em")
SPACED = [{"kind": "spaced", "values": [1, 3]}]
CONTAMINATED = [{"kind": "none", "values": [0]}, {"kind": "outliers", "values": [0.1]},
                {"kind": "student-t", "values": [3]}, {"kind": "wrong-k", "values": [-1, 1]},
                {"kind": "separation", "values": [2]}]  # fmt: skip
Numbers = dict[str, Any]


def taskset(covariance: str = "isotropic", d: int = 2, shifts: list[dict] | None = None) -> Any:
    from tgmm.tasks.taskset import sample_taskset

    return sample_taskset({
        "taskset": "golden", "covariance": covariance, "dimension": d, "n_components": [2, 3], "n_points": [40],
        "tasks": 5, "heldout_points": 20, "seed": 7,
        "shifts": shifts or ([{"kind": "none", "values": [0]}] if covariance == "anisotropic" else [
            {"kind": "mean", "values": [0, 2]}, {"kind": "student-t", "values": [5]},
            {"kind": "wrong-k", "values": [1]},
        ]),
    })  # fmt: skip


def run_tasks() -> Numbers:
    """Parameters and points of task sets of either covariance, with shifts."""
    found = {}
    for covariance in ("isotropic", "anisotropic"):
        for cell in taskset(covariance, 3).cells:
            points, labels = cell.points(slice(None))
            numbers = (cell.mixture.means, points, labels.double(), cell.heldout(slice(None)))
            found[f"{covariance} {cell.name}"] = [value for tensor in numbers for value in digest(tensor)]
    return found


def trained(kind: str, folder: Path, covariance: str = "isotropic", loss: str = "matched", **others: Any) -> Path:
    """The folder of a network of a kind after a few steps."""
    from tgmm.train.family import train_family
    from tgmm.train.settings import TrainingSettings

    network = {"kind": kind, **SIZE, **KINDS[kind]}
    values = TRAINING | {"covariance": covariance, "loss": loss, "network": network, **others}
    out = folder / "-".join([kind, covariance, loss, *others])
    train_family(TrainingSettings.from_dict(values), out, folder / "work", torch.device("cpu"))
    return out


def run_training(kind: str) -> Numbers:
    """Weights and validations after a few steps; for the default network with every loss and on shifted tasks too."""
    choices: list[tuple[str, str, dict]] = [("isotropic", "matched", {}), ("anisotropic", "matched", {})]
    if kind == "components":
        losses = ("sorted", "likelihood", "likelihood-heldout", "both")
        choices += [("isotropic", loss, {}) for loss in losses]
        choices += [("isotropic", "matched", {"shifts": CONTAMINATED, "cross_entropy_weight": 10.0})]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for covariance, loss, others in choices:
            from tgmm.models.checkpoint import load_checkpoint

            out = trained(kind, Path(folder), covariance, loss, **others)
            state = load_checkpoint(out).network.state_dict()
            history = pd.read_csv(out / "history.csv")
            sizes = [float(tensor.double().square().sum()) for tensor in state.values()]
            found[" ".join([covariance, loss, *others])] = [
                *history["validation_l2_error"].dropna(),
                sum(sizes),
                len(sizes),
            ]
    return found


def run_criterion() -> Numbers:
    """What the assignment network tells of a batch, and a small criterion network trained on given summaries."""
    from tgmm.models.criterion import LENGTH
    from tgmm.train.criterion import fit_batch, train_network
    from tgmm.train.settings import CriterionTraining

    settings = CriterionTraining.read({"tasks": 32, "batch": 4, "passes": 2, "network": {"width": 8}})
    told = fit_batch(settings, 0)["told"]
    rng = np.random.default_rng(0)
    batches = [
        {
            "summaries": rng.normal(50, 1, (16, 10, LENGTH)).cumsum(1),
            "told": rng.dirichlet(np.ones(10), 16),
            "K": rng.integers(1, 11, 16),
        }
        for _ in range(4)
    ]
    _, history = train_network(settings, batches)
    return {"told": digest(torch.from_numpy(told)), "validation": [row["validation"] for row in history]}


def run_assignment() -> Numbers:
    """Weights and validations of the estimator's network after a few steps."""
    from safetensors.torch import load_file

    from tgmm.train.assignment import train
    from tgmm.train.settings import AssignmentTraining

    network = {"width": 8, "blocks": 2, "heads": 2, "waves": 2}
    settings = AssignmentTraining.read({"tasks": 64, "batch": 8, "validation_batches": 6, "network": network})
    with tempfile.TemporaryDirectory() as folder:
        train(settings, Path(folder), Path(folder) / "work", visible=False)
        state = load_file(Path(folder) / "assignment.safetensors")
        history = json.loads((Path(folder) / "assignment.json").read_text())["history"]
    sizes = [float(tensor.double().square().sum()) for tensor in state.values()]
    return {"validation": [history[-1]["validation_told"], history[-1]["tasks"]], "weights": [sum(sizes), len(sizes)]}


def run_scores(kind: str) -> Numbers:
    """Every metric of every method of a kind on a small task set of either covariance."""
    from tgmm.evaluate import ScoreSettings, build_scored, score_taskset

    found = {}
    for covariance in ("isotropic", "anisotropic"):
        tasks = taskset(covariance) if kind != "moments" else taskset(d=1, shifts=SPACED)
        for number, settings in enumerate(METHODS[kind]):
            if kind in ISOTROPIC and covariance == "anisotropic":
                continue
            values = {"scale": "golden", "method": f"{kind}-{number}", "seed": 5, "kind": kind, **settings}
            method = build_scored(ScoreSettings.from_dict(values), covariance, torch.device("cpu"))
            found[f"{covariance} {number}"] = frame_digest(score_taskset(tasks, [method])[0], without=["seconds"])
    return found


def run_network_scores() -> Numbers:
    """A trained network alone and with EM steps, on tasks of its own dimension."""
    from tgmm.evaluate import ScoreSettings, build_scored, score_taskset
    from tgmm.models.checkpoint import save_checkpoint
    from tgmm.models.settings import NetworkSettings

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, own in KINDS.items():
            torch.manual_seed(3)
            network = NetworkSettings.from_dict(
                {"kind": kind, "dimension": 2, "n_components": [2, 3, 4], **SIZE, **own}
            )
            save_checkpoint(Path(folder) / kind, network.build(), {"family": "golden"})
            for steps in (0, 3):
                values = {"scale": "golden", "method": kind, "seed": 5, "kind": "tgmm", "em_steps": steps}
                settings = ScoreSettings.from_dict(values)
                method = build_scored(settings, "isotropic", torch.device("cpu"), Path(folder) / kind)
                found[f"{kind} {steps}"] = frame_digest(score_taskset(taskset(), [method])[0], without=["seconds"])
    return found


def run_summary() -> Numbers:
    """The summary of synthetic scores, and the headline."""
    from synthetic_scores import METHODS, write_scores
    from tgmm.aggregate import aggregate

    with tempfile.TemporaryDirectory() as folder:
        files = write_scores(Path(folder), [*METHODS, "sample-mean"])
        options = {"resamples": 50, "seed": 3, "recipes": RECIPES}
        summary = aggregate(files, Path(folder) / "s.parquet", Path(folder) / "s.json", **options)
        headline = json.loads((Path(folder) / "s.json").read_text())
    return {"summary": frame_digest(summary), "headline": list(numbers_in(headline))}


def run_theory(what: str) -> Numbers:
    """A theorem's measurement at its smallest."""
    from tgmm.theory.em import measure_em
    from tgmm.theory.fisher import measure_fisher
    from tgmm.theory.power import measure_power, network_sizes
    from tgmm.theory.sorted_floor import measure_sorted_floor

    measured = {
        "em": lambda: measure_em((2,), (2,), (1, 3), (64,), n_tasks=1, n_points=16, seed=3),
        "power": lambda: measure_power((3,), (3,), n_tasks=1, seed=3),
        "sizes": network_sizes,
        "sorted-floor": lambda: measure_sorted_floor((2,), (2,), (16,), n_tasks=2, seed=3),
        "fisher": lambda: measure_fisher((2,), (2,), n_tasks=2, seed=3),
    }[what]()
    return {"table": frame_digest(measured)}


def run_probes() -> Numbers:
    """What a probe finds inside a network of a few steps."""
    from tgmm.probes.measure import measure_probes, picture_table
    from tgmm.train.family import train_family
    from tgmm.train.settings import TrainingSettings

    network = {"kind": "components", **SIZE, "axes": 0}
    values = TRAINING | {"covariance": "isotropic", "dimension": 2, "network": network}
    asked = {
        "family": "golden", "covariance": "isotropic", "dimension": 2, "n_components": [2, 3], "longest": 24,
        "tasks": 8, "em_steps": 2, "bootstrap": 20, "seed": 5, "scale": "golden",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        train_family(TrainingSettings.from_dict(values), out, Path(folder) / "work", torch.device("cpu"))
        table, tests = measure_probes(out, asked)
    return {"table": frame_digest(table), "picture": frame_digest(picture_table(tests, table, asked))}


def run_real_data() -> Numbers:
    """Two small data sets, once."""
    from tgmm import real_data

    faithful = Path(__file__).parents[1] / "examples/data/faithful.csv"
    every = real_data.SETS
    try:
        real_data.SETS = {name: every[name] for name in ("iris", "old-faithful")}
        rows, picture = real_data.measure_real_data(faithful, 1, 5, report=lambda line: None)
    finally:
        real_data.SETS = every
    return {"rows": frame_digest(rows, without=["seconds"]), "picture": frame_digest(picture)}


def run_ablation_part() -> Numbers:
    """One part of an ablation of two changes, and their comparison."""
    from tgmm.ablation import compare, merge_parts
    from tgmm.ablation.run import run_ablation

    settings = TRAINING | {"covariance": "isotropic", "network": {"kind": "components", **SIZE}}
    changes = [
        {"change": "baseline", "settings": settings},
        {"change": "sorted", "settings": settings | {"loss": "sorted"}},
    ]
    asked = {"d": 3, "seed": 5, "scale": "golden", "em_steps": 2, "em_starts": 2, "changes": changes}
    with tempfile.TemporaryDirectory() as folder:
        rows = merge_parts([run_ablation(asked, Path(folder), torch.device("cpu"), report=lambda line: None).rows])
    times = ["seconds", "processor_seconds"]
    compared = compare(rows)
    return {
        "rows": frame_digest(rows, without=times),
        "compared": frame_digest(compared, without=[name for name in compared if "seconds" in name]),
    }


def run_figures() -> Numbers:
    """The numbers that every line and bar of a figure of scores, of training and of theorems shows."""
    from synthetic_scores import history, trained_on, write_theory
    from tgmm.figures import metrics, style, theorems, training

    families = ["isotropic-d2-n128-components", "isotropic-d8-n128-matched"]
    asked = {
        "taskset": "effectiveness", "metric": "l2_error", "methods": ["em", "tgmm-components", "em-oracle"],
        "scale": "laptop", "families": families, "seed": 5, "trained_on": trained_on(families),
    }  # fmt: skip
    with style.applied(), tempfile.TemporaryDirectory() as folder:
        tables = {family: history(family) for family in families}
        theory = write_theory(Path(folder))
        drawn = {
            "metric": metrics.draw_metric_against_dimension(synthetic_summary(), asked, {}),
            "training": training.draw_training_curves(synthetic_summary(), asked, tables),
            "theorem": theorems.draw_theorem_em(pd.read_csv(next(theory.glob("**/em.csv"))), asked, {}),
        }
        return {name: artists_digest(figure) for name, figure in drawn.items()}


def run_tables() -> Numbers:
    """The rows of a table of scores and of the claims."""
    from tgmm.tables import claims, scores

    methods = ["em", "em-restarts", "spectral", "tgmm-components", "em-oracle"]
    asked = {
        "id": "tab-x", "kind": "score-table", "taskset": "effectiveness", "metric": "l2_error", "methods": methods,
        "scale": "laptop",
    }  # fmt: skip
    summary = synthetic_summary()
    flat = pd.DataFrame({"tasks": [1, 2, 3], "validation_l2_error": [2.0, 1.0, 1.0]})
    verdicts = claims.claims_rows(summary, {"recipes": RECIPES}, dict.fromkeys(summary["family"].unique(), flat))
    return {"scores": frame_digest(scores.score_rows(summary, asked)), "claims": frame_digest(verdicts)}


def run_paper() -> Numbers:
    """The files that the manuscript asks for."""
    from tgmm.manuscript import required_files

    root = Path(__file__).resolve().parents[1]
    return {"files": [str(path.relative_to(root)) for path in required_files(root, "laptop")]}


def run_answers() -> Numbers:
    """Sentences from invented tables."""
    from tgmm.answers import QUESTIONS

    rng = np.random.default_rng(1)

    def table(methods: list[str], rows: list[dict]) -> pd.DataFrame:
        cells = pd.DataFrame([{**row, "method": method} for row in rows for method in methods])
        mean = rng.uniform(0.1, 1.0, len(cells))
        return cells.assign(mean=mean, low=0.9 * mean, high=1.1 * mean, median=0.8 * mean, slope=-mean,
                            largest_N_above_floor=64)  # fmt: skip

    common = ["tgmm-components", "tgmm-components-em20", "em-restarts", "em-oracle"]
    shifts = [
        {"d": 8, "K": 4, "shift": shift, "shift_value": value}
        for shift, value in (
            ("outliers", 0.0),
            ("outliers", 0.1),
            ("student-t", 3.0),
            ("wrong-k", 1.0),
            ("wrong-k", -1.0),
        )
    ]
    tables = {
        "tab-floor": table([*common, "cramer-rao"], [{"d": d, "K": 5} for d in (2, 8)]),
        "tab-sample-complexity": table(common, [{"d": d, "K": 5} for d in (2, 8)]),
        "tab-separation": table([*common, "sample-mean", "tgmm-close"],
                                [{"K": K, "shift_value": value} for K in (2, 3) for value in (1.0, 2.0)]),
        "tab-one-dimension": table(["tgmm-spaced", "em-restarts", "moments", "em-oracle"],
                                   [{"K": K, "shift_value": value} for K in (2, 3) for value in (1, 2, 3)]),
        "tab-losses": table(["tgmm-weights-once", "tgmm-weights-ten", "em-oracle"],
                            [{"K": 3, "metric": metric} for metric in ("mean_error", "weight_error")]),
        "tab-contaminated-training": table([*common, "tgmm-contaminated"], shifts),
    }  # fmt: skip
    return {source: answer(tables[source], Path()) for source, answer in QUESTIONS.values() if source in tables}


def run_plane() -> Numbers:
    """What two methods make of a few tasks, and EM's way to it."""
    from tgmm.plane import PlaneSettings, fit_plane

    common = {"scale": "golden", "seed": 7}
    methods = [{"method": "em", "kind": "em", "start": "normal"}, {"method": "sample-mean", "kind": "sample-mean"}]
    settings = {"tasks": 2, "em_steps": 3, "tasksets": {"golden-d2": [entry | common for entry in methods]}}
    tasks = fit_plane(PlaneSettings.read(settings), [taskset("anisotropic")], Path(), torch.device("cpu"))
    fits = [{name: [fit["error"], fit["components"]] for name, fit in task["fits"].items()} for task in tasks[:2]]
    return {"fits": fits, "paths": [task["paths"]["em"]["errors"] for task in tasks]}


def run_page() -> Numbers:
    """The sentences and the table at the head of the page."""
    from tgmm.aggregate import headline, plain
    from tgmm.page import contents

    settings = {"scale": "golden", "seed": 5, "artefacts": []}
    results = contents.Results(Path("nowhere"), contents.PageSettings.read(settings))
    numbers = plain(headline(synthetic_summary()))
    return {
        "sentences": contents.sentences(results, numbers, []),
        "table": contents.headline_table(numbers)["rows"],
    }


def synthetic_summary() -> pd.DataFrame:
    from synthetic_scores import METHODS, write_scores
    from tgmm.aggregate import aggregate

    with tempfile.TemporaryDirectory() as folder:
        files = write_scores(Path(folder), [*METHODS, "sample-mean"])
        options = {"resamples": 20, "seed": 3, "recipes": RECIPES}
        return aggregate(files, Path(folder) / "s.parquet", Path(folder) / "s.json", **options)


RUNS: dict[str, Callable[[], Numbers]] = {
    "tasks": run_tasks,
    **{f"training:{kind}": lambda kind=kind: run_training(kind) for kind in KINDS},
    "training:assignment": run_assignment,
    "training:criterion": run_criterion,
    **{f"scores:{kind}": lambda kind=kind: run_scores(kind) for kind in METHODS},
    "scores:tgmm": run_network_scores,
    "summary": run_summary,
    **{f"theory:{what}": lambda what=what: run_theory(what) for what in MEASUREMENTS},
    "probes": run_probes,
    "real-data": run_real_data,
    "ablation": run_ablation_part,
    "figures": run_figures,
    "tables": run_tables,
    "answers": run_answers,
    "paper": run_paper,
    "plane": run_plane,
    "page": run_page,
}


def digest(tensor: torch.Tensor) -> list[float]:
    """A few numbers that change when a tensor does, and when its rows change places."""
    values = tensor.double().flatten()
    places = torch.arange(1, len(values) + 1, dtype=torch.float64)
    return [float(len(values)), float(values.sum()), float(values.square().sum()), float((values / places).sum())]


def frame_digest(frame: pd.DataFrame, without: Iterable[str] = ()) -> dict[str, Any]:
    """For each column its numbers' digest, or its texts; and how many values are missing."""
    found: dict[str, Any] = {}
    for name in frame.columns:
        if name in without:
            continue
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            values = column.to_numpy(float, na_value=np.nan)
            finite = np.isfinite(values)
            found[name] = [*digest(torch.from_numpy(values[finite])), int((~finite).sum())]
        else:
            found[name] = sorted(column.map(str).unique())[:20]
    return found


def artists_digest(figure: Any) -> list[Any]:
    """The data of a figure's lines and collections, and the titles of its panels."""
    found: list[Any] = []
    for axes in figure.axes:
        found.append(axes.get_title("left"))
        for line in axes.lines:
            data = np.asarray(line.get_xydata(), float)
            found += [len(data), float(np.nansum(data[np.isfinite(data)]))] if data.size else [0]
    return found


def numbers_in(value: Any) -> Iterable[Any]:
    """All numbers and texts of nested mappings and lists, in order."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from numbers_in(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers_in(item)
    else:
        yield value


def recorded() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def main(names: list[str]) -> None:
    """Run and record."""
    known = recorded()
    for name in names or [name for name in RUNS if name not in known]:
        known[name] = {"version": version(name), "values": RUNS[name]()}
        print(f"{name}: recorded under version {version(name)}")
    FILE.write_text(json.dumps({name: known[name] for name in VERSIONS if name in known}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

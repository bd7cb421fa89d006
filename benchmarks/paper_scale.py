"""Trains families of the paper's scale on one GPU within a given number of minutes, each in a process of its own.

From the repository's root; only the packages of training are needed where it trains::

    PYTHONPATH=src python benchmarks/paper_scale.py plan plan.json         # anywhere: what is to be trained
    PYTHONPATH=src python benchmarks/paper_scale.py bench plan.json        # on the GPU: agreement and speed
    PYTHONPATH=src python benchmarks/paper_scale.py run plan.json --minutes 8 --out pack
    PYTHONPATH=src python benchmarks/paper_scale.py take pack              # anywhere: into results/paper/models

All families of the plan train at once. The learning rate follows the clock, so that it has decayed to zero when the
time is over; the record says how many tasks that were. Where a plan tries one family with several settings, the best on
validation tasks comes back. Weights come in half precision; the record has the validation error before and after
rounding, and where rounding changes it by more than half a per cent the weights stay as they are. With ``--device cpu``
every command rehearses on a machine without a GPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import typer
from safetensors.torch import save

PIECE_BYTES, PIECES = 15_900_000, 8  # what comes back from a lent machine: so many files of at most this size
VALIDATIONS = 6
WARM_UP_STEPS = 500
LOOK_EVERY = 50
RELEASE_FROM = 0.6  # share of the time after which every validation leaves a model, should the rest be cut off
AGREEMENT = 5e-3  # relative change of a validation error that rounding weights may cause
PROBE = "import torch; print(torch.ones(8, device='cuda').sum().item())"
DeviceOption = typer.Option("cuda", help="cuda; cpu rehearses.")
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__.splitlines()[0])


# --- what is trained ---


@app.command()
def plan(out: Path, config: Path = Path("config.yaml"), scale: str = "paper", validation_tasks: int = 256) -> None:
    """Write what is to be trained: families in order of priority, each with its settings and its share of the time."""
    from tgmm.study import load_study

    study = load_study(config, scale)
    entries: dict[str, Any] = {}

    def add(family: str, until: float = 1.0, network: dict | None = None, **training: Any) -> None:
        settings = study.train_settings(family) | {"validation_tasks": validation_tasks}
        settings["network"] |= network or {}
        settings["training"] |= {"schedule": "linear", "precision": "float32", **training}
        entries[family] = {"family": family, "settings": settings, "until": until}

    for d in (8, 2):
        add(f"isotropic-d{d}-n128-components", learning_rate=1.5e-3, batch=256)
    for recipe in ("matched", "reference"):
        for d in (8, 2):
            add(f"isotropic-d{d}-n128-{recipe}", learning_rate=1e-3, batch=128, precision="bfloat16")
    for d in (8, 2):
        add(f"anisotropic-d{d}-n128-components", network={"moments": True}, learning_rate=1.5e-3, batch=256)
    for d in (32, 128):
        add(f"isotropic-d{d}-n128-components", until=0.45, learning_rate=1.5e-3, batch=256)
    out.write_text(json.dumps(entries, indent=1))
    print(f"{len(entries)} trainings -> {out}")


# --- one training ---


@app.command(hidden=True)
def family(plan: Path, name: str, end: float, out: Path, device: str = DeviceOption) -> None:
    """Train one entry of a plan until a time on the wall clock (seconds since the epoch). `run` starts these."""
    torch.set_num_threads(1)
    settings = json.loads(plan.read_text())[name]["settings"]
    if settings["training"]["precision"] == "float32":
        torch.set_float32_matmul_precision("high")  # TF32 products on a GPU, as the record says
    started = time.time()
    trainer = build_trainer(settings, torch.device(device), out / "work" / name)
    print(f"{name}: set up in {time.time() - started:.0f} s", flush=True)
    train_by_the_clock(trainer, end, out / name)


def build_trainer(settings: dict[str, Any], device: torch.device, work: Path):
    from tgmm.train.settings import TrainingSettings
    from tgmm.train.trainer import Trainer

    return Trainer(TrainingSettings.from_dict(settings), work, device)


def train_by_the_clock(trainer, end: float, folder: Path) -> None:
    """Train until a time on the wall clock, validations included, and leave a model in a folder."""
    from tgmm.train.progress import TrainingProgress
    from tgmm.train.trainer import ValidationSet

    validation = ValidationSet(trainer.settings, trainer.device)
    silent = TrainingProgress(trainer.settings.family, 0, visible=False)
    started, seconds = time.monotonic(), max(1.0, end - time.time())
    record, progress, validations = trainer.record, 0.0, 0
    while progress < 1.0:
        for _ in range(LOOK_EVERY):
            trainer.take_step(rate_at(trainer.settings.training, record.step, progress))
        trainer.refuse_bad_steps()
        record.seconds = time.monotonic() - started
        progress = min(1.0, record.seconds / seconds)
        if progress * VALIDATIONS >= validations + 1:
            validations = int(progress * VALIDATIONS)
            trainer.add_row(validation, silent)
            row = record.history[-1]
            row["learning_rate"] = rate_at(trainer.settings.training, record.step - 1, progress)
            print(validation_line(row, progress), flush=True)
            if progress > RELEASE_FROM:
                release(trainer, folder, validation, decayed=progress == 1.0)


def rate_at(budget, step: int, progress: float) -> float:
    """The learning rate after so many steps when this share of the time is over."""
    share = {"linear": 1.0 - progress, "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)), "constant": 1.0}
    return budget.learning_rate * min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.0, share[budget.schedule])


def validation_line(row: dict[str, Any], progress: float) -> str:
    speed = row["tasks"] / max(row["seconds"], 1e-9)
    error, oracle = row["validation_l2_error"], row["validation_l2_error_oracle"]
    return (
        f"{progress:4.0%} {row['tasks']:>10,} tasks {speed:7,.0f}/s loss {row['loss']:.4f} l2 {error:.4f}/{oracle:.4f}"
    )


def release(trainer, folder: Path, validation, decayed: bool) -> None:
    """Write the files of a trained family: weights, record and history."""
    import pandas as pd

    from tgmm.train.family import training_record

    settings, tasks = trainer.settings, trainer.record.step * trainer.settings.training.batch
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"tasks": tasks})})
    tensors, note = half_precision(trainer, validation)
    weights = save(tensors)
    record = {
        "family": settings.family,
        "settings": settings.to_dict(),
        "record": {**training_record(trainer), **note, "schedule_follows": "time", "decayed": decayed},
        "format": 1,
        "network": trainer.network.settings.to_dict(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.csv").write_text(pd.DataFrame(trainer.record.history).to_csv(index=False))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def half_precision(trainer, validation) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The network's tensors, in half precision if that hardly changes the validation errors, and a note on it."""
    state = {name: tensor.detach().clone() for name, tensor in trainer.network.state_dict().items()}
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    before = validation.errors(trainer.network)
    trainer.network.load_state_dict(half)
    after = validation.errors(trainer.network)
    trainer.network.load_state_dict(state)
    if any(abs(after[count] / before[count] - 1.0) > AGREEMENT for count in before):
        return {name: tensor.cpu() for name, tensor in state.items()}, {"weights": "float32"}
    note = {"weights": "float16", "validation_l2_error_float16": sum(after.values()) / len(after)}
    return {name: tensor.cpu() for name, tensor in half.items()}, note


# --- all trainings at once ---


@app.command()
def run(
    plan: Path,
    out: Path = typer.Option(..., help="Folder of the packed models and logs."),
    minutes: float = typer.Option(8.0, help="From now to the end of the training; packing comes after."),
    only: str = typer.Option("", help="Entries of the plan with commas; all without it."),
    share: bool = typer.Option(True, help="Let the processes share the GPU at the same time."),
    device: str = DeviceOption,
) -> None:
    """Train every entry of the plan at once, then pack what came out."""
    begin, end = time.time(), time.time() + 60 * minutes
    entries = json.loads(plan.read_text())
    names = only.split(",") if only else list(entries)
    scratch = Path(tempfile.mkdtemp(prefix="paper-scale-"))
    for sharing in (True, False) if share and device == "cuda" else (False,):
        variables = start_sharing(scratch / "mps") if sharing else {}
        jobs = {}
        for name in names:
            stop = time.time() + (end - time.time()) * entries[name]["until"]
            command = [
                sys.executable,
                __file__,
                "family",
                str(plan.resolve()),
                name,
                str(stop),
                str(scratch / "models"),
            ]
            with (scratch / f"{name}.log").open("ab") as log:
                jobs[name] = subprocess.Popen(
                    [*command, "--device", device], stdout=log, stderr=subprocess.STDOUT,
                    env=os.environ | variables | {"OMP_NUM_THREADS": "1"},
                )  # fmt: skip
        wait(jobs, end + 30, scratch)
        stop_sharing(variables)
        if time.time() - begin > 0.4 * (end - begin) or not all(job.returncode for job in jobs.values()):
            break
        print("all trainings failed early; once more, taking turns", flush=True)
    pack(entries, names, scratch, out)


def start_sharing(folder: Path) -> dict[str, str]:
    """Let processes share the GPU's multiprocessors at the same time (NVIDIA's MPS), where that works.

    Returns the environment that they need, empty where it does not work: they then take turns.
    """
    variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}
    for path in variables.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["nvidia-cuda-mps-control", "-d"], env=os.environ | variables, check=True, timeout=20)
        subprocess.run([sys.executable, "-c", PROBE], env=os.environ | variables, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"processes take turns on the GPU: {error}", flush=True)
        stop_sharing(variables)
        return {}
    return variables


def stop_sharing(variables: dict[str, str]) -> None:
    if variables:
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", env=os.environ | variables, timeout=20)


def wait(jobs: dict[str, subprocess.Popen], end: float, scratch: Path) -> None:
    """Wait until all are done or it is late; print their last lines every minute."""
    shown = time.time()
    while any(job.poll() is None for job in jobs.values()) and time.time() < end:
        time.sleep(1.0)
        if time.time() - shown > 60:
            shown = time.time()
            print("\n".join(last_lines(jobs, scratch)), flush=True)
    for job in jobs.values():
        if job.poll() is None:
            job.kill()
            job.wait()
    print("\n".join(last_lines(jobs, scratch)), flush=True)


def last_lines(jobs: dict[str, subprocess.Popen], scratch: Path) -> list[str]:
    lines = [f"-- {time.strftime('%H:%M:%S')}"]
    for name, job in jobs.items():
        text = (scratch / f"{name}.log").read_text(errors="replace").strip().splitlines()
        lines.append(f"[{'on' if job.poll() is None else job.poll()}] {name}: {text[-1][:160] if text else ''}")
    return lines


# --- what comes back ---


def pack(entries: dict[str, Any], names: list[str], scratch: Path, out: Path) -> None:
    """Models and logs as a few tar files under the limits, what matters most first."""
    out.mkdir(parents=True, exist_ok=True)
    models = scratch / "models"
    files = sorted([*scratch.glob("*.log"), *models.glob("*/history.csv"), *models.glob("*/config.json")])
    files += [models / name / "model.safetensors" for name in best_variants(entries, names, models)]
    pieces: list[list[Path]] = [[]]
    room = PIECE_BYTES
    for path in files:
        size = path.stat().st_size + 2048
        if size > room:
            pieces.append([])
            room = PIECE_BYTES
        pieces[-1].append(path)
        room -= size
    for number, piece in enumerate(pieces[:PIECES]):
        with tarfile.open(out / f"pack-{number}.tar", "w") as archive:
            for path in piece:
                archive.add(path, path.relative_to(scratch).as_posix())
    left = [str(path.relative_to(scratch)) for piece in pieces[PIECES:] for path in piece]
    print(f"{len(files)} files in {len(pieces)} pieces; left behind: {', '.join(left) or 'nothing'}", flush=True)


def best_variants(entries: dict[str, Any], names: list[str], models: Path) -> list[str]:
    """The trained entries, of each family the one with the least validation error."""
    best: dict[str, tuple[float, str]] = {}
    for name in names:
        record = models / name / "config.json"
        if record.is_file():
            error = json.loads(record.read_text())["record"]["validation_l2_error"]
            best[entries[name]["family"]] = min(best.get(entries[name]["family"], (math.inf, "")), (error, name))
    return [name for _, name in best.values()]


@app.command()
def take(folder: Path, results: Path = Path("results/paper/models")) -> None:
    """Unpack what came back: one model a family."""
    with tempfile.TemporaryDirectory() as unpacked:
        for piece in sorted(folder.glob("pack-*.tar")):
            with tarfile.open(piece) as archive:
                archive.extractall(unpacked, filter="data")
        for weights in sorted(Path(unpacked, "models").glob("*/model.safetensors")):
            family = json.loads((weights.parent / "config.json").read_text())["family"]
            (results / family).mkdir(parents=True, exist_ok=True)
            for file in weights.parent.iterdir():
                (results / family / file.name).write_bytes(file.read_bytes())
            print(f"{weights.parent.name} -> {results / family}")


# --- first checks on a new GPU ---


@app.command()
def bench(plan: Path, seconds: float = 4.0, device: str = DeviceOption) -> None:
    """Agreement of CPU and GPU, of bfloat16 and float32; tasks a second by precision and batch, beside a plain loop."""
    place = torch.device(device)
    print(torch.__version__, torch.cuda.get_device_name() if place.type == "cuda" else "cpu", flush=True)
    entries = json.loads(plan.read_text())
    settings = {recipe: entries[f"isotropic-d8-n128-{recipe}"]["settings"] for recipe in ("components", "matched")}
    for recipe, values in settings.items():
        agreement(recipe, values, place)
        for precision in ("float32", "bfloat16"):
            for batch in (128, 256):
                training = values["training"] | {"precision": precision, "batch": batch}
                speed(recipe, values | {"training": training}, seconds, place)
    plain_speed(settings["matched"], seconds, place)


def agreement(recipe: str, values: dict[str, Any], device: torch.device) -> None:
    """Print how far estimates on the device are from those on the CPU, in float32 and bfloat16."""
    from tgmm.train.settings import TrainingSettings
    from tgmm.train.trainer import training_stream

    settings = TrainingSettings.from_dict(values)
    torch.manual_seed(0)
    network = settings.network.build().eval()
    batch = training_stream(settings, torch.device("cpu")).batch(0)
    with torch.no_grad():
        reference = network(batch.points, batch.n_components)[-1].means
        network = network.to(device)
        points, counts = batch.points.to(device), batch.n_components.to(device)
        for name in ("highest", "high", "bfloat16"):
            torch.set_float32_matmul_precision("highest" if name == "bfloat16" else name)
            with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
                means = network(points, counts)[-1].means.float().cpu()
            difference = ((means - reference).norm() / reference.norm()).item()
            print(f"{recipe}: means on the device ({name}) differ from the CPU's by {difference:.1e}", flush=True)
    torch.set_float32_matmul_precision("highest")


def speed(recipe: str, values: dict[str, Any], seconds: float, device: torch.device) -> None:
    """Print the tasks a second of steps of one length (recorded ones on a GPU), and what drawing tasks adds."""
    precision, batch = values["training"]["precision"], values["training"]["batch"]
    torch.set_float32_matmul_precision("high" if precision == "float32" else "highest")
    with tempfile.TemporaryDirectory() as work:
        trainer = build_trainer(values, device, Path(work))
    example = trainer.stream.batch(0)
    example = replace(example, points=example.points[:, :64].repeat(1, 2, 1)[:, :96].contiguous())
    number = iter(range(10**9))
    steps = steps_per_second(lambda: trainer.step.take(next(number), 1e-4, example), seconds, device)
    begin = time.perf_counter()
    trainer.stream.batch(trainer.stream.steps).points.sum().item()
    drawing = (time.perf_counter() - begin) / trainer.stream.steps
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    print(
        f"{recipe} {precision} batch {batch}: {steps * batch:,.0f} tasks/s ({1e3 / steps:.1f} ms a step, drawing "
        f"{1e3 * drawing:.1f} ms), {memory:.1f} GiB",
        flush=True,
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def steps_per_second(step: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Steps a second after a few to warm up."""
    for _ in range(6):
        step()
    count, started = 0, None
    while started is None or time.perf_counter() - started < seconds:
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = started or time.perf_counter()
        for _ in range(10):
            step()
        count += 10
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - started)


def plain_speed(values: dict[str, Any], seconds: float, device: torch.device) -> None:
    """Print the tasks a second of a plain loop with Hugging Face's GPT-2."""
    from plain_loop import PlainLoop
    from tgmm.train.settings import TrainingSettings

    sizes = {name: values["network"][name] for name in ("width", "blocks", "heads")}
    settings = TrainingSettings.from_dict(values | {"network": {"kind": "gpt2", **sizes, "positions": 128}})
    loop = PlainLoop(settings, device)
    loop.train(2.0)
    started = time.perf_counter()
    steps = loop.train(seconds)
    tasks = steps * settings.training.batch / (time.perf_counter() - started)
    print(f"plain GPT-2 loop, batch {settings.training.batch}: {tasks:,.0f} tasks/s", flush=True)


if __name__ == "__main__":
    app()

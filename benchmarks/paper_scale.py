"""Trains families of the paper's scale on one GPU within a given number of minutes, each in a process of its own.

From the repository's root; only the packages of training are needed where it trains::

    PYTHONPATH=src python benchmarks/paper_scale.py plan plan.json                 # at home: what is to be trained
    PYTHONPATH=src python benchmarks/paper_scale.py bench plan.json                # on the GPU: agreement and speed
    PYTHONPATH=src python benchmarks/paper_scale.py run plan.json --minutes 8 --out pack
    PYTHONPATH=src python benchmarks/paper_scale.py take pack                      # at home: into results/paper/models

All families of the plan train at once. The learning rate follows the clock, so that it has decayed to zero when the time
is over; the record says how many tasks that were. Where a plan tries one family with several settings, the best on
validation tasks comes back. Weights come in half precision; the record has the validation error before and after rounding,
and where rounding changes it by more than half a per cent the weights stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import typer
from safetensors.torch import save

PIECE_BYTES, PIECES = 15_900_000, 8
VALIDATIONS = 6
WARM_UP_STEPS = 500
LOOK_EVERY = 50
AGREEMENT = 5e-3  # relative change of a validation error that rounding weights may cause
app = typer.Typer(add_completion=False, no_args_is_help=True)


def trainer_for(values: dict[str, Any], device: torch.device, work: Path):
    from tgmm.train.loop import Trainer

    from tgmm.train.settings import TrainingSettings

    return Trainer(TrainingSettings.from_dict(values), work, device)


def rate_at(settings, step: int, progress: float) -> float:
    """The learning rate after so many steps when this share of the time is over."""
    budget = settings.training
    share = {"linear": 1.0 - progress, "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)), "constant": 1.0}
    return budget.learning_rate * min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.0, share[budget.schedule])


def train_by_the_clock(trainer, end: float, folder: Path, say) -> None:
    """Train until a time on the wall clock, the validations included; what the second half of it has reached is released on the way."""
    from tgmm.train.validation import ValidationSet

    validation = ValidationSet(trainer.settings, trainer.device)
    started, seconds = time.monotonic(), max(1.0, end - time.time())
    marks = [(n + 1) / VALIDATIONS for n in range(VALIDATIONS)]
    record, progress = trainer.record, 0.0
    while progress < 1.0:
        for _ in range(LOOK_EVERY):
            batch = trainer.stream.batch(record.step)
            trainer.step.take(record.step, rate_at(trainer.settings, record.step, progress), batch)
            record.step += 1
        trainer._refuse_bad_steps()
        record.seconds = time.monotonic() - started
        progress = record.seconds / seconds
        if progress >= marks[0] or progress >= 1.0:
            marks = [mark for mark in marks if mark > progress] or [1.0]
            trainer._add_row(validation, Silent())
            row = record.history[-1]
            row["learning_rate"] = rate_at(trainer.settings, record.step - 1, min(progress, 1.0))
            say(f"{progress:4.0%} {row['tasks']:>10,} tasks {row['tasks'] / record.seconds:7,.0f}/s loss {row['loss']:.4f} "
                f"l2 {row['validation_l2_error']:.4f} oracle {row['validation_l2_error_oracle']:.4f}")  # fmt: skip
            if progress > 0.6:
                release(trainer, folder, validation, progress >= 1.0)


class Silent:
    def validated(self, error: float, oracle: float) -> None:
        pass


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
    error = sum(after.values()) / len(after)
    return {name: tensor.cpu() for name, tensor in half.items()}, {
        "weights": "float16", "validation_l2_error_float16": error,
    }  # fmt: skip


def release(trainer, folder: Path, validation, finished: bool) -> None:
    """Write the files of a trained family: weights, record and history."""
    import pandas as pd

    from tgmm.train.family import _record

    settings = trainer.settings
    tasks = trainer.record.step * settings.training.batch
    settings = replace(settings, training=replace(settings.training, tasks=tasks))
    tensors, note = half_precision(trainer, validation)
    weights = save(tensors)
    record = {
        "family": settings.family,
        "settings": settings.to_dict(),
        "record": {**_record(trainer), **note, "schedule_follows": "time", "decayed": finished},
        "format": 1,
        "network": trainer.network.settings.to_dict(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.csv").write_text(pd.DataFrame(trainer.record.history).to_csv(index=False))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


@app.command()
def family(plan: Path, name: str, end: float, out: Path, device: str = "cuda") -> None:
    """Train one entry of a plan until a time on the wall clock (seconds since the epoch). `run` starts these."""
    torch.set_num_threads(1)
    entry = json.loads(plan.read_text())[name]
    if entry["settings"]["training"]["precision"] == "float32":
        torch.set_float32_matmul_precision("high")  # TF32 products on a GPU, as the record says
    started = time.time()
    trainer = trainer_for(entry["settings"], torch.device(device), out / "work" / name)
    print(f"{name}: set up in {time.time() - started:.0f} s", flush=True)
    train_by_the_clock(trainer, end, out / name, lambda line: print(f"{name}: {line}", flush=True))


@app.command()
def plan(out: Path, config: Path = Path("config.yaml"), validation_tasks: int = 256) -> None:
    """Write what is to be trained: families in order of priority, some with several settings."""
    from tgmm.study import load_study

    study = load_study(config, "paper")
    entries: dict[str, Any] = {}

    def add(family: str, variant: str = "", network: dict | None = None, until: float = 1.0, **training) -> None:
        settings = study.train_settings(family)
        settings["validation_tasks"] = validation_tasks
        settings["network"] |= network or {}
        settings["training"] |= {"schedule": "linear", "precision": "float32", **training}
        entries[family + (f"+{variant}" if variant else "")] = {"family": family, "settings": settings, "until": until}

    for d in (8, 2):
        add(f"isotropic-d{d}-n128-components", learning_rate=1.5e-3, batch=256)
    for d in (8, 2):
        add(f"isotropic-d{d}-n128-matched", learning_rate=1e-3, batch=128, precision="bfloat16")
    for d in (8, 2):
        add(f"isotropic-d{d}-n128-reference", learning_rate=1e-3, batch=128, precision="bfloat16")
    for d in (8, 2):
        add(f"anisotropic-d{d}-n128-components", network={"moments": True}, learning_rate=1.5e-3, batch=256)
    for d in (32, 128):
        add(f"isotropic-d{d}-n128-components", until=0.45, learning_rate=1.5e-3, batch=256)
    out.write_text(json.dumps(entries, indent=1))
    print(f"{len(entries)} trainings -> {out}")


def start_sharing(folder: Path) -> dict[str, str]:
    """Let processes share the GPU's multiprocessors at the same time (NVIDIA's MPS), where that works.

    Returns the environment that they need, empty where it does not work: they then take turns.
    """
    variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}
    for path in variables.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["nvidia-cuda-mps-control", "-d"], env=os.environ | variables, check=True, timeout=20)
        probe = "import torch; print(torch.ones(8, device='cuda').sum().item())"
        subprocess.run([sys.executable, "-c", probe], env=os.environ | variables, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"processes take turns on the GPU: {error}", flush=True)
        stop_sharing(variables)
        return {}
    return variables


def stop_sharing(variables: dict[str, str]) -> None:
    try:
        subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", env=os.environ | variables, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pass


@app.command()
def run(
    plan: Path,
    out: Path = typer.Option(...),
    minutes: float = typer.Option(8.0, help="From now to the end of the training; packing comes after."),
    only: str = typer.Option("", help="Entries of the plan with commas; all without it."),
    also: list[str] = typer.Option(
        [], help="A command to run beside the trainings; {seconds} and {out} are filled in."
    ),
    precision: str = typer.Option("", help="Instead of the plan's: float32 (TF32 products) or bfloat16."),
    share: bool = typer.Option(True, help="Let the processes share the GPU at the same time."),
    device: str = "cuda",
    scratch: Path = Path("/tmp/paper-scale"),
) -> None:
    """Train every entry of the plan at once, then pack what came out."""
    begin, end = time.time(), time.time() + 60 * minutes
    entries = json.loads(plan.read_text())
    names = only.split(",") if only else list(entries)
    for entry in entries.values():
        entry["settings"]["training"]["precision"] = precision or entry["settings"]["training"]["precision"]
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "plan.json").write_text(json.dumps(entries))
    for sharing in (True, False) if share and device == "cuda" else (False,):
        variables = start_sharing(scratch / "mps") if sharing else {}
        environment = os.environ | variables | {"OMP_NUM_THREADS": "1"}
        jobs = {}
        for name in names:
            stop = time.time() + (end - time.time()) * entries[name]["until"]
            command = [sys.executable, __file__, "family", str(scratch / "plan.json"), name, str(stop)]
            command += [str(scratch / "models"), "--device", device]
            jobs[name] = start(command, scratch, name, environment)
        for number, text in enumerate(also):
            text = text.format(seconds=round(end - time.time()), out=scratch / "models")
            jobs[f"also-{number}"] = start(["bash", "-c", text], scratch, f"also-{number}", environment)
        wait(jobs, end + 30, scratch)
        if variables:
            stop_sharing(variables)
        early = time.time() - begin < 0.4 * (end - begin)
        if not (early and all(jobs[name].poll() for name in names)):
            break
        print("all trainings failed early; once more, taking turns", flush=True)
    pack(entries, names, scratch, out)


def start(command: list[str], scratch: Path, name: str, environment: dict[str, str]) -> subprocess.Popen:
    with (scratch / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def wait(jobs: dict[str, subprocess.Popen], end: float, scratch: Path) -> None:
    """Until all are done or it is late; their last lines now and then."""
    shown = time.time()
    while any(job.poll() is None for job in jobs.values()) and time.time() < end:
        time.sleep(1.0)
        if time.time() - shown > 60:
            shown = time.time()
            print("\n".join(last_lines(jobs, scratch)), flush=True)
    print("\n".join(last_lines(jobs, scratch)), flush=True)
    for job in jobs.values():
        if job.poll() is None:
            job.kill()


def last_lines(jobs: dict[str, subprocess.Popen], scratch: Path) -> list[str]:
    lines = [f"-- {time.strftime('%H:%M:%S')}"]
    for name, job in jobs.items():
        text = (scratch / f"{name}.log").read_text(errors="replace").strip().splitlines()
        lines.append(f"[{'on' if job.poll() is None else job.poll()}] {name}: {text[-1][:160] if text else ''}")
    return lines


def best_variants(entries: dict[str, Any], names: list[str], models: Path) -> list[str]:
    """The trained entries, of each family the one with the least validation error."""
    best: dict[str, tuple[float, str]] = {}
    for name in names:
        record = models / name / "config.json"
        if record.is_file():
            error = json.loads(record.read_text())["record"]["validation_l2_error"]
            best[entries[name]["family"]] = min(best.get(entries[name]["family"], (math.inf, "")), (error, name))
    return [name for _, name in best.values()]


def pack(entries: dict[str, Any], names: list[str], scratch: Path, out: Path) -> None:
    """Models and logs as a few tar files under the limits, what matters most first."""
    out.mkdir(parents=True, exist_ok=True)
    models = scratch / "models"
    kept = best_variants(entries, names, models)
    small = sorted([*scratch.glob("*.log"), *models.glob("*/history.csv"), *models.glob("*/config.json")])
    files = [(path.relative_to(scratch).as_posix(), path) for path in small]
    files += [(f"models/{name}/model.safetensors", models / name / "model.safetensors") for name in kept]
    files += [(path.relative_to(scratch).as_posix(), path) for path in sorted(models.glob("assignment-*/*"))]
    pieces: list[list] = [[]]
    room = PIECE_BYTES
    for name, path in files:
        size = path.stat().st_size + 2048
        if size > room:
            pieces.append([])
            room = PIECE_BYTES
        pieces[-1].append((name, path))
        room -= size
    for number, piece in enumerate(pieces[:PIECES]):
        with tarfile.open(out / f"pack-{number}.tar", "w") as archive:
            for name, path in piece:
                archive.add(path, name)
    left = [name for piece in pieces[PIECES:] for name, _ in piece]
    print(f"{len(files)} files in {len(pieces)} pieces; left behind: {', '.join(left) or 'nothing'}", flush=True)


@app.command()
def take(folder: Path, results: Path = Path("results/paper/models")) -> None:
    """Unpack what came back: one model a family, and every history under its variant's name in `variants`."""
    for piece in sorted(folder.glob("pack-*.tar")):
        with tarfile.open(piece) as archive:
            archive.extractall(folder.parent / "unpacked", filter="data")
    models = folder.parent / "unpacked" / "models"
    for weights in sorted(models.glob("*/model.safetensors")):
        family = weights.parent.name.partition("+")[0]
        target = results / family
        target.mkdir(parents=True, exist_ok=True)
        for file in weights.parent.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        print(f"{weights.parent.name} -> {target}")


def timed(step, seconds: float, device: torch.device) -> float:
    """Steps a second after a few to warm up."""
    for _ in range(6):
        step()
    torch.cuda.synchronize() if device.type == "cuda" else None
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(10):
            step()
        count += 10
        torch.cuda.synchronize() if device.type == "cuda" else None
    return count / (time.perf_counter() - started)


@app.command()
def bench(plan: Path, seconds: float = 4.0, device: str = "cuda", processes: int = 4) -> None:
    """Agreement of CPU and GPU, of bfloat16 and float32; tasks a second by precision and batch, beside a plain loop."""
    place = torch.device(device)
    print(torch.__version__, torch.cuda.get_device_name() if place.type == "cuda" else "cpu", flush=True)
    entries = json.loads(plan.read_text())
    families = {recipe: f"isotropic-d8-n128-{recipe}" for recipe in ("components", "matched")}
    for recipe, name in families.items():
        agreement(recipe, entries[name]["settings"], place)
        for precision in ("float32", "bfloat16"):
            for batch in (128, 256):
                speed(recipe, entries[name]["settings"], precision, batch, seconds, place)
    plain_speed(entries[families["matched"]]["settings"], seconds, place)


@app.command()
def together(
    plan: Path, processes: int = 8, seconds: float = 6.0, batch: int = 128, lead: float = 25.0, device: str = "cuda"
) -> None:
    """Tasks a second of several processes at once, half of them of each recipe: taking turns, then sharing the GPU."""
    recipes = ["components", "matched"] * (processes // 2)
    scratch = Path("/tmp/paper-scale-together")
    scratch.mkdir(parents=True, exist_ok=True)
    for sharing in (True, False):
        variables = start_sharing(scratch / "mps") if sharing else {}
        if sharing and not variables:
            continue
        begin = time.time() + lead
        jobs = {}
        for number, recipe in enumerate(recipes):
            command = [sys.executable, __file__, "alone", str(plan), recipe, str(batch), str(seconds), str(begin)]
            command += ["--device", device]
            jobs[f"{number}-{recipe}"] = start(command, scratch, f"{number}-{recipe}", os.environ | variables)
        for job in jobs.values():
            job.wait()
        print("sharing" if sharing else "taking turns", *last_lines(jobs, scratch), sep="\n", flush=True)
        if variables:
            stop_sharing(variables)


@app.command()
def alone(plan: Path, recipe: str, batch: int, seconds: float, begin: float, device: str = "cuda") -> None:
    """One of the processes of `together`."""
    torch.set_num_threads(1)
    values = json.loads(plan.read_text())[f"isotropic-d8-n128-{recipe}"]["settings"]
    speed(recipe, values, "float32", batch, seconds, torch.device(device), begin)


def agreement(recipe: str, values: dict[str, Any], device: torch.device) -> None:
    """Print how far estimates on the device are from those on the CPU, in float32 and bfloat16."""
    from tgmm.models.network import build_network
    from tgmm.train.loop import training_stream

    from tgmm.train.settings import TrainingSettings

    settings = TrainingSettings.from_dict(values)
    torch.manual_seed(0)
    network = build_network(settings.network).eval()
    batch = training_stream(settings, torch.device("cpu")).batch(0)
    with torch.no_grad():
        reference = network(batch.points, batch.n_components)[-1].means
        there = network.to(device)
        points, counts = batch.points.to(device), batch.n_components.to(device)
        for name in ("highest", "high", "bfloat16"):
            torch.set_float32_matmul_precision("highest" if name == "bfloat16" else name)
            with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
                means = there(points, counts)[-1].means.float().cpu()
            print(f"{recipe}: means on the device ({name}) differ from the CPU's by "
                  f"{((means - reference).norm() / reference.norm()).item():.1e}", flush=True)  # fmt: skip
    torch.set_float32_matmul_precision("highest")


def speed(
    recipe: str, values: dict, precision: str, batch: int, seconds: float, device: torch.device, begin: float = 0.0
) -> None:
    """Print the tasks a second of recorded steps of one length, from a time on the wall clock on."""
    values = json.loads(json.dumps(values))
    values["training"] |= {"precision": precision, "batch": batch}
    torch.set_float32_matmul_precision("high" if precision == "float32" else "highest")
    started = time.perf_counter()
    trainer = trainer_for(values, device, Path("/tmp/bench"))
    example = trainer.stream.batch(0)
    example = replace(example, points=example.points[:, :64].repeat(1, 2, 1)[:, :96].contiguous())
    number = iter(range(10**9))
    timed(lambda: trainer.step.take(next(number), 1e-4, example), 0.0, device)
    late = time.time() - begin
    time.sleep(max(0.0, -late))
    if begin and late > 0:
        print(f"began {late:.0f} s late", flush=True)
    steps = timed(lambda: trainer.step.take(next(number), 1e-4, example), seconds, device)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    drawn = time.perf_counter()
    trainer.stream.batch(trainer.stream.steps).points.sum().item()
    drawn = (time.perf_counter() - drawn) / trainer.stream.steps
    print(f"{recipe} {precision} batch {batch}: {steps * batch:,.0f} tasks/s ({1e3 / steps:.1f} ms a step, drawing "
          f"{1e3 * drawn:.1f} ms), {memory:.1f} GiB, {time.perf_counter() - started:.0f} s in all", flush=True)  # fmt: skip
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def plain_speed(values: dict, seconds: float, device: torch.device) -> None:
    """Print the tasks a second of a plain loop with Hugging Face's GPT-2."""
    from plain_loop import PlainLoop
    from tgmm.models.settings import NetworkSettings
    from tgmm.train.settings import TrainingSettings

    settings = TrainingSettings.from_dict(values)
    sizes = {name: getattr(settings.network, name) for name in ("width", "blocks", "heads")}
    network = NetworkSettings("gpt2", settings.dimension, settings.n_components, **sizes, positions=128)
    loop = PlainLoop(replace(settings, network=network), device)
    loop.train(2.0)
    started = time.perf_counter()
    steps = loop.train(seconds)
    tasks = steps * settings.training.batch / (time.perf_counter() - started)
    print(f"plain GPT-2 loop, batch {settings.training.batch}: {tasks:,.0f} tasks/s", flush=True)


if __name__ == "__main__":
    app()

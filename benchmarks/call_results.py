"""What became of the families of a call, and the way of their models and states home and back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pieces import MIB, read_pieces, write_pieces
from queue_file import Call, Queue
from tgmm.errors import UserError, unknown_name
from tgmm.files import write_atomically
from workplace import Progress, Workplace

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Result:
    """A family's part in a call.

    Attributes
    ----------
    fingerprint : of its settings and of the code that trained it.
    speed : tasks a second, beside the others; None where it did not train.
    minutes : its part of the device's time; the parts of all families add up to it.
    kept : whether what it left came back: a model where it is done, else a state.
    note : failure, or what was left behind.
    """

    family: str
    fingerprint: str
    progress: Progress
    speed: float | None = None
    minutes: float = 0.0
    kept: bool = True
    note: str = ""


def pack(
    results: list[Result], call: Call, place: Workplace, folder: Path, room: int, device: torch.device
) -> list[Result]:
    """Write what fits into ``room`` bytes: models of finished families first, then states in the order given.

    Returns the results; those whose model or state is not among the files are marked, with the reason.
    """
    files: dict[str, bytes] = {}
    packed: dict[str, Result] = {}
    for result in sorted(results, key=lambda result: result.progress.state != "done"):
        left = room - sum(map(len, files.values()))
        try:
            own = result_files(result, place, device)
        except Exception as error:  # what one family left must not keep the others from coming back
            packed[result.family] = _left_behind(result, f"{type(error).__name__}: {error}")
            continue
        size = sum(map(len, own.values()))
        if size > left:
            packed[result.family] = _left_behind(result, f"{size / MIB:.1f} MiB, {left / MIB:.1f} MiB of room")
            continue
        files |= own
        packed[result.family] = result
    ordered = [packed[result.family] for result in results]
    write_pieces(folder, files, {"call": asdict(call), "results": [asdict(result) for result in ordered]})
    return ordered


def _left_behind(result: Result, reason: str) -> Result:
    what = "model" if result.progress.state == "done" else "state"
    return replace(result, kept=False, note="; ".join(filter(None, [result.note, f"{what} left behind: {reason}"])))


def result_files(result: Result, place: Workplace, device: torch.device) -> dict[str, bytes]:
    """A finished family's model, in half precision where that changes nothing; else its newest state, if any."""
    from half_precision import half_model

    if result.progress.state == "done":
        models = half_model(place.model(result.family), device).items()
        return {f"models/{result.family}/{name}": file for name, file in models}
    state = place.newest_state(result.family)
    return {} if state is None else {f"work/{result.family}/{result.fingerprint}/{state.name}": state.read_bytes()}


def unpack(folder: Path, place: Workplace, queue: Queue) -> tuple[list[Result], Call]:
    """Put models and states that came back in their places; nothing is written if a name or a setting is foreign."""
    files, about = read_pieces(folder)
    results = [Result(**{**result, "progress": Progress(**result["progress"])}) for result in about["results"]]
    for result in results:
        if result.family not in queue.rows:
            raise unknown_name(f"family in {queue.path}:", result.family, queue.rows)
    targets = {_target(path, content, folder, place): content for path, content in files.items()}
    for target, content in targets.items():
        write_atomically(target, content)
    return results, Call(**about["call"])


def _target(path: str, content: bytes, folder: Path, place: Workplace) -> Path:
    """Where a file of a pack belongs."""
    from tgmm.train.settings import TrainingSettings

    kind, family, *rest = path.split("/")
    settings = place.training(family)
    if kind == "work":
        return (place.work / family).joinpath(*rest)
    if rest == ["config.json"] and TrainingSettings.from_dict(json.loads(content)["settings"]) != settings:
        raise UserError(f"{folder}: {family} was trained with other settings than this study's; nothing was taken over")
    return place.model(family).joinpath(*rest)

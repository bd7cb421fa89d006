"""Task sets on disk: they come back as they were, or are refused by name."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from tgmm.errors import UserError
from tgmm.files import read_safetensors_header
from tgmm.mixture import Mixture
from tgmm.tasks import taskset as taskset_module
from tgmm.tasks.taskset import TaskSet, load_taskset, sample_taskset, save_taskset

SETTINGS = {
    "taskset": "toy-d2", "covariance": "isotropic", "dimension": 2, "n_components": [2, 3], "n_points": [4, 8],
    "tasks": 5, "heldout_points": 6, "seed": 7,
}  # fmt: skip


def with_first_cell(taskset: TaskSet, **changes) -> TaskSet:
    return replace(taskset, cells=(replace(taskset.cells[0], **changes), *taskset.cells[1:]))


def foreign(record: object) -> bytes:
    """A safetensors file that holds no task, with a record like a task set's."""
    return save({"weights": torch.ones(2)}, {"taskset": json.dumps(record)})


@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
def test_a_saved_set_comes_back_bit_for_bit(tmp_path, covariance):
    made = sample_taskset({**SETTINGS, "covariance": covariance})
    save_taskset(tmp_path / "toy.safetensors", made)
    read = load_taskset(tmp_path / "toy.safetensors")
    assert read.settings == made.settings
    assert [cell.name for cell in read.cells] == ["k2-n4", "k2-n8", "k3-n4", "k3-n8"]
    for one, other in zip(read.cells, made.cells, strict=True):
        assert (one.seed, one.n_points, one.heldout_points, one.sha256) == (
            other.seed, other.n_points, other.heldout_points, other.sha256
        )  # fmt: skip
        assert torch.equal(one.mixture.means, other.mixture.means)
        assert torch.equal(one.points(slice(None))[0], other.points(slice(None))[0])
        assert torch.equal(one.heldout(slice(None)), other.heldout(slice(None)))


def test_the_same_settings_give_the_same_file_and_another_seed_another(tmp_path):
    for name, seed in (("first", 7), ("second", 7), ("third", 8)):
        save_taskset(tmp_path / name, sample_taskset({**SETTINGS, "seed": seed}))
    first, second, third = ((tmp_path / name).read_bytes() for name in ("first", "second", "third"))
    assert first == second != third


def test_cells_of_one_size_share_tasks_and_first_points_and_others_do_not():
    short, long, other = sample_taskset(SETTINGS).cells[:3]
    assert torch.equal(short.mixture.means, long.mixture.means)
    assert torch.equal(short.points(slice(None))[0], long.points(slice(None))[0][:, :4])
    assert short.seed != other.seed


@pytest.mark.parametrize("part", ["mean", "weight", "seed", "index", "length", "order", "scale"])
def test_one_changed_number_is_found_by_the_hash(tmp_path, part):
    made = sample_taskset({**SETTINGS, "covariance": "anisotropic", "n_points": [64]})
    cell = made.cells[0]
    weights, means, scales = (tensor.clone() for tensor in vars(cell.mixture).values())
    index, seed, n_points = cell.index.clone(), cell.seed, cell.n_points
    if part == "mean":
        means[4, 1, 0] += 1e-13
    elif part == "weight":
        weights[3, 1] += 1e-15
    elif part == "scale":
        scales[0, 0, 0] *= 1 + 1e-15
    elif part == "order":
        index = index.flip(0)
    seed, index, n_points = seed + (part == "seed"), index + 9 * (part == "index"), n_points + (part == "length")
    changed = with_first_cell(made, mixture=Mixture(weights, means, scales), index=index, seed=seed, n_points=n_points)
    path = tmp_path / "toy.safetensors"
    save_taskset(path, changed)
    with pytest.raises(UserError, match=r"toy\.safetensors: .*cell 'k2-n64'"):
        load_taskset(path)
    assert load_taskset(path, check=False).cells[0].seed == seed


def test_chunks_cover_every_task_once(monkeypatch):
    cell = sample_taskset({**SETTINGS, "tasks": 11}).cells[1]
    for limit in (1, 50, 10**9):
        monkeypatch.setattr(taskset_module, "CHUNK_NUMBERS", limit)
        covered = [task for chunk in cell.chunks() for task in range(*chunk.indices(11))]
        assert covered == list(range(11))
        assert taskset_module.hash_tasks(cell) == cell.sha256
        pieces = torch.cat([cell.points(chunk)[0] for chunk in cell.chunks()])
        assert torch.equal(pieces, cell.points(slice(None))[0])


@pytest.mark.parametrize(
    "content",
    [
        b"", b"not a task set at all", pickle.dumps({"weights": [1.0]}), save({"weights": torch.ones(2)}),
        foreign({"format": 1, "settings": SETTINGS, "cells": {}})[:-3], foreign([]),
        foreign({"format": 1, "settings": [], "cells": []}), foreign({"format": 9, "settings": SETTINGS, "cells": {}}),
        foreign({"format": 1, "settings": SETTINGS, "cells": {"k2-n4": {"group": "k2"}}}),
    ],
    ids=["empty", "text", "pickle", "no-metadata", "truncated", "list", "lists", "newer", "no-tensors"],
)  # fmt: skip
def test_foreign_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "toy.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"toy\.safetensors"):
        load_taskset(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"absent\.safetensors: cannot be read"):
        load_taskset(tmp_path / "absent.safetensors")


def test_every_truncation_and_every_flipped_byte_of_the_tensors_is_refused(tmp_path):
    path = tmp_path / "toy.safetensors"
    save_taskset(path, sample_taskset({**SETTINGS, "n_components": [2], "n_points": [64], "tasks": 2}))
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    spoiled = [content[:length] for length in range(0, len(content), 37)]
    for position in range(header, len(content)):
        spoiled.append(content[:position] + bytes([content[position] ^ 0x01]) + content[position + 1 :])
    for wrong in spoiled:
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=r"toy\.safetensors"):
            load_taskset(path)


def test_a_damaged_header_never_ends_in_another_error(tmp_path):
    path = tmp_path / "toy.safetensors"
    save_taskset(path, sample_taskset({**SETTINGS, "n_components": [2], "n_points": [4], "tasks": 2}))
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for position in range(0, header, 2):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x01]) + content[position + 1 :])
        try:
            load_taskset(path)
        except UserError as error:
            assert "toy.safetensors" in str(error)  # noqa: PT017


def test_missing_settings_are_named():
    with pytest.raises(UserError, match="'heldout_points'"):
        sample_taskset({key: value for key, value in SETTINGS.items() if key != "heldout_points"})


def test_an_unwritable_place_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/toy\.safetensors: cannot be written"):
        save_taskset(tmp_path / "file" / "toy.safetensors", sample_taskset(SETTINGS))


# --- files and settings that lie about their size --------------------------------------------------------------------


def lie(tmp_path, *, cell: dict | None = None, shape=None, settings: dict | None = None, means=None, drop: str = ""):
    """A task set of two tasks, K = 2 and d = 2 with something changed, hashes aside."""
    made = sample_taskset({**SETTINGS, "n_components": [2], "n_points": [4], "tasks": 2})
    path = tmp_path / "toy.safetensors"
    save_taskset(path, made)
    content = path.read_bytes()
    record = json.loads(read_safetensors_header(path).metadata["taskset"])
    record["settings"] |= settings or {}
    record["cells"]["k2-n4"] |= cell or {}
    tensors = load(content)
    if shape is not None:
        tensors["k2.weights"] = torch.full(shape, 0.5, dtype=torch.float64)
    if means is not None:
        tensors["k2.means"] = means
    tensors.pop(drop, None)
    path.write_bytes(save(tensors, {"taskset": json.dumps(record)}))
    return path


HUGE = {
    "N": ({"cell": {"n_points": 10**9}}, "above the limit of 10,000,000 coordinates"),
    "N that is no number": ({"cell": {"n_points": 4.0}}, "n_points is 4.0"),
    "N below one": ({"cell": {"n_points": 0}}, "n_points is 0"),
    "held-out points": ({"settings": {"heldout_points": 10**12}}, "above the limit of 10,000,000 coordinates"),
    "negative seed": ({"cell": {"seed": -1}}, "seed is -1"),
    "degrees of freedom": ({"cell": {"shift": {"kind": "student-t", "value": 1e12}}}, "at most 1000"),
    "scale": ({"cell": {"shift": {"kind": "scale", "value": 1e200}}}, "from 1e-15 to 1e.15"),
    "another K": ({"shape": (2, 3)}, r"the weights are F64 of shape \(2, 3\), not F64 \(2, 2\)"),
    "another dimension": ({"settings": {"dimension": 3}}, "2 tasks of 2 components in d=2"),
    "missing tensor": ({"drop": "k2.index"}, "k2.index"),
    "single precision": ({"means": torch.zeros(2, 2, 2)}, "the means are F32"),
    "no task": ({"means": torch.zeros(0, 2, 2).double(), "shape": (0, 2)}, r"the index are I64 of shape \(2,\)"),
    "a mean that is no number": ({"means": torch.full((2, 2, 2), torch.nan).double()}, "no mixtures"),
    "a foreign key": ({"settings": {"colour": "red"}}, "unknown key 'colour'"),
}


@pytest.mark.parametrize("case", HUGE)
def test_a_set_that_lies_is_refused_before_anything_is_drawn(case, tmp_path, monkeypatch):
    change, message = HUGE[case]
    path = lie(tmp_path, **change)
    monkeypatch.setattr(taskset_module, "sample_points", lambda *_, **__: pytest.fail("points were drawn"))
    with pytest.raises(UserError, match=message) as error:
        load_taskset(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_set_of_many_cells_or_bytes_is_refused_before_its_tensors_are_read(tmp_path, monkeypatch):
    path = lie(tmp_path)
    assert len(load_taskset(path).cells) == 1
    monkeypatch.setattr(taskset_module, "load_tensors", lambda _: pytest.fail("tensors were read"))
    for limit, most, message in (("MOST_CELLS", 0, "1 cells are above"), ("LARGEST_FILE", 70, "above the limit of 70")):
        with monkeypatch.context() as patched:
            patched.setattr(taskset_module, limit, most)
            with pytest.raises(UserError, match=message):
                load_taskset(path)


def test_a_sparse_file_of_fifty_gigabytes_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "sparse.safetensors"
    header = {"k2.means": {"dtype": "F64", "shape": [2, 2, 10**9], "data_offsets": [0, 32 * 10**9]}}
    record = {"format": 2, "settings": SETTINGS, "cells": {}}
    content = json.dumps({"__metadata__": {"taskset": json.dumps(record)}, **header}).encode()
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + 32 * 10**9)
    with pytest.raises(UserError, match=r"32,000,000,000 bytes of parameters are above the limit of 1,073,741,824"):
        load_taskset(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": -1}, "'tasks' must be greater"), ({"tasks": 1e30}, "'tasks' must be a valid integer"),
        ({"n_components": 2}, "'n_components'"), ({"n_components": []}, "'n_components'"),
        ({"n_points": [0]}, r"'n_points\[0\]'"), ({"n_points": [10**9]}, "N=1,000,000,000 points in d=2 are above"),
        ({"heldout_points": -1}, "'heldout_points'"), ({"covariance": "round"}, "isotropic, anisotropic"),
        ({"dimension": 10**9}, "'dimension'"), ({"seed": 2**63}, "'seed'"), ({"seed": "one"}, "'seed'"),
        ({"colour": 1}, "unknown key 'colour'"), ({"dimension": 3, "n_components": [60]}, "d=3, K=60"),
        ({"dimension": 50_000, "tasks": 10**6, "n_points": [2]}, "above the limit of 1,073,741,824 bytes"),
        ({"shifts": [{"kind": "wrong-k", "values": [1, -2]}]}, "leaves methods of K=2 no component"),
        ({"shifts": [{"kind": "student-t", "values": [1e9]}]}, "at most 1000"),
        ({"shifts": [{"kind": "meen", "values": [1]}]}, "did you mean 'mean'"),
        ({"shifts": [{"kind": "mean", "values": [float("nan")]}]}, "is not a number"),
        ({"shifts": [{"kind": "mean", "values": []}]}, r"shifts\[0\].values"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_one_line(change, message):
    with pytest.raises(UserError, match=message) as error:
        sample_taskset({**SETTINGS, **change})
    assert "\n" not in str(error.value)


def test_runs_of_tasks_with_heavy_tails_fit_in_memory_too(monkeypatch):
    """A point of Student t noise takes as many normal numbers as it has degrees of freedom."""
    monkeypatch.setattr(taskset_module, "CHUNK_NUMBERS", 40_000)
    shifts = [{"kind": "student-t", "values": [1000, float("inf")]}]
    made = sample_taskset({**SETTINGS, "n_components": [2], "n_points": [20], "tasks": 3, "shifts": shifts})
    assert [len(list(cell.chunks())) for cell in made.cells] == [2, 1]

"""Released models: they come back bit for bit, or are refused by name; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tgmm.errors import UserError
from tgmm.models.checkpoint import load_checkpoint, save_checkpoint
from tgmm.models.settings import NETWORK_KINDS, ComponentsNetwork


@pytest.fixture
def folder(tmp_path) -> Path:
    torch.manual_seed(0)
    network = ComponentsNetwork(dimension=2, width=8, blocks=1, heads=2).build()
    save_checkpoint(tmp_path / "toy", network, {"family": "toy", "record": {"steps": 3}})
    return tmp_path / "toy"


def edit_record(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_weights(folder: Path, content: bytes) -> None:
    """Foreign weights whose hash the record vouches for."""
    (folder / "model.safetensors").write_bytes(content)
    edit_record(folder, weights_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("kind", NETWORK_KINDS)
@pytest.mark.parametrize("covariance", ["isotropic", "anisotropic"])
def test_a_saved_network_comes_back_rounded_to_half_precision(tmp_path, kind, covariance):
    tasks = {"dimension": 3, "n_components": (2, 4), "covariance": covariance}
    network = NETWORK_KINDS[kind](**tasks, width=8, blocks=2, heads=2).build()
    save_checkpoint(tmp_path, network, {"family": "toy", "record": {"steps": 7}})
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.family == "toy"
    assert checkpoint.record["record"] == {"steps": 7}
    assert checkpoint.network.settings == network.settings
    assert not checkpoint.network.training
    state = checkpoint.network.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], tensor.half().float()) for name, tensor in network.state_dict().items())
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    again = load_checkpoint(tmp_path).network
    save_checkpoint(tmp_path / "again", again, {"family": "toy", "record": {"steps": 7}})
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_weights_beyond_half_precision_stay_as_they_are(tmp_path):
    network = ComponentsNetwork(dimension=2, width=8, blocks=1, heads=2).build()
    with torch.no_grad():
        network.seeds[0, 0] = 1e5 + 1
    save_checkpoint(tmp_path, network, {"family": "toy"})
    assert torch.equal(load_checkpoint(tmp_path).network.seeds, network.seeds)


def test_the_same_network_gives_the_same_file(folder, tmp_path):
    checkpoint = load_checkpoint(folder)
    save_checkpoint(tmp_path / "again", checkpoint.network, checkpoint.record)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file, or a corrupt one"):
        load_checkpoint(folder)


def test_any_flipped_byte_is_refused(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    for position in range(0, len(content), len(content) // 50):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(UserError, match=r"model\.safetensors: (its SHA-256|not a|its header)"):
            load_checkpoint(folder)


class Trap:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_renamed_pickle_is_refused_and_not_run(folder, tmp_path, writer):
    trap = {"weights": Trap(tmp_path / "mark")}
    if writer == "torch":
        torch.save(trap, tmp_path / "trap.pt")
        content = (tmp_path / "trap.pt").read_bytes()
    else:
        content = pickle.dumps(trap)
    replace_weights(folder, content)
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file"):
        load_checkpoint(folder)
    assert not (tmp_path / "mark").exists()


def test_weights_of_another_network_are_refused(folder):
    replace_weights(folder, save({"weight": torch.ones(3)}))
    with pytest.raises(UserError, match=r"model\.safetensors: not a checkpoint of the network"):
        load_checkpoint(folder)


@pytest.mark.parametrize("change", [{"blocks": 10_000}, {"width": 10_000}, {"n_components": list(range(1, 1000))}])
def test_a_record_that_lies_about_its_size_takes_no_memory(folder, change):
    """The largest of these networks would take 40 GB; the weights that are there are compared before it is built."""
    record = json.loads((folder / "config.json").read_text())
    record["network"] |= change
    (folder / "config.json").write_text(json.dumps(record))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"tensors|not a checkpoint of the network"):
        load_checkpoint(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_a_sparse_file_of_fifty_gigabytes_is_refused_without_reading_it(folder):
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(50 << 30)
    with pytest.raises(UserError, match=r"model\.safetensors: .* describes .* bytes of tensors, and the file has"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "change",
    [{"width": 16}, {"dimension": 3}, {"kind": "gpt2"}, {"n_components": [2, 3]}, {"covariance": "anisotropic"}],
)
def test_a_record_of_another_network_is_refused(folder, change):
    network = json.loads((folder / "config.json").read_text())["network"]
    if "kind" in change:
        network = {name: value for name, value in network.items() if name not in ("axes", "fourier", "moments")}
    edit_record(folder, network={**network, **change})
    with pytest.raises(UserError, match=r"model\.safetensors: not a checkpoint of the network"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: cannot be read .*train the family"):
        load_checkpoint(folder)


@pytest.mark.parametrize("key", ["family", "format", "network", "weights_sha256"])
def test_a_record_without_a_key_is_refused(folder, key):
    record = json.loads((folder / "config.json").read_text())
    del record[key]
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"config\.json: .*'{key}'"):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '"text"', "\x00\x01"])
def test_a_foreign_record_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "network",
    [
        None, "components", {}, {"kind": "components"}, {"kind": "mamba", "dimension": 2}, {"nonsense": 1},
        {"kind": "components", "dimension": "2"}, {"kind": "components", "dimension": -2},
        {"kind": "components", "dimension": 2, "heads": 0}, {"kind": "components", "dimension": 2, "n_components": []},
    ],
)  # fmt: skip
def test_a_record_with_a_foreign_network_is_refused(folder, network):
    edit_record(folder, network=network)
    with pytest.raises(UserError, match=r"config\.json"):
        load_checkpoint(folder)


def test_another_format_is_refused(folder):
    edit_record(folder, format=2)
    with pytest.raises(UserError, match=r"config\.json: format 2; this version reads format 1"):
        load_checkpoint(folder)

"""The commands `tgmm fit` and `tgmm predict`."""

import json

import numpy as np
import pytest
from estimator_inputs import CASES, load_labels, make_blobs, same_partition
from typer.testing import CliRunner

from tgmm.cli import app, register_commands
from tgmm.cli.fit import parse_sizes
from tgmm.errors import UserError

BLOBS = str(CASES / "blobs.csv")


@pytest.fixture(scope="module")
def run():
    if not any(command.name == "fit" for command in app.registered_commands):
        register_commands()

    def call(*arguments, fails=False):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if fails:
            assert isinstance(done.exception, UserError)
            return str(done.exception)
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done.output

    return call


def labels_of(path):
    return np.genfromtxt(path, delimiter=",", names=True)["label"].astype(int)


def test_fits_predicts_and_draws(run, tmp_path):
    out, labels, plot = tmp_path / "a" / "fit.json", tmp_path / "labels.csv", tmp_path / "fit.png"
    text = run("fit", BLOBS, "--k", "3", "--out", out, "--labels", labels, "--plot", plot)
    assert "300 rows x 2 columns: 3 components, full covariances" in text
    assert same_partition(labels_of(labels), load_labels("blobs"))
    assert plot.stat().st_size > 10_000
    record = json.loads(out.read_text())
    assert record["columns"] == ["x1", "x2"]
    assert sum(record["weights"]) == pytest.approx(1)
    again = tmp_path / "again.csv"
    run("predict", out, BLOBS, "--out", again)
    assert again.read_text() == labels.read_text()
    assert run("predict", out, BLOBS).splitlines()[1:] == labels.read_text().splitlines()[1:]


@pytest.mark.parametrize("criterion", ["bic", "network"])
def test_several_k_show_the_curve(run, tmp_path, criterion):
    text = run(
        "fit",
        BLOBS,
        "--k",
        "1-4",
        "--criterion",
        criterion,
        "--out",
        tmp_path / "fit.json",
        "--plot",
        tmp_path / "p.pdf",
    )
    assert text.count("K = ") == 4
    record = json.loads((tmp_path / "fit.json").read_text())
    assert [row["k"] for row in record["compared"]] == [1, 2, 3, 4]
    if criterion == "bic":
        assert len(record["weights"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "shape"),
    [(1, "spherical"), (1, "tied"), (1, "diag"), (3, "spherical"), (3, "tied"), (3, "diag"), (12, "auto")],
)
def test_pictures_of_any_number_of_columns_and_every_shape(run, tmp_path, d, shape):
    X, _ = make_blobs(d=d, N=60, K=2)
    np.save(tmp_path / "x.npy", X)
    run("fit", tmp_path / "x.npy", "--k", "2", "--shape", shape, "--plot", tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_columns_are_found_by_name_when_predicting(run, tmp_path):
    run("fit", CASES / "m16_text_column.csv", "--k", "3", "--columns", "x1,x2", "--out", tmp_path / "fit.json")
    run("predict", tmp_path / "fit.json", CASES / "m16_text_column.csv", "--out", tmp_path / "labels.csv")
    assert len(labels_of(tmp_path / "labels.csv")) == 300
    (tmp_path / "new.csv").write_text("x1,y\n1,2\n")
    assert "unknown column" in run("predict", tmp_path / "fit.json", tmp_path / "new.csv", fails=True)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("m34_empty.csv", "the file is empty"),
        ("m34_header_only.csv", "no row below it"),
        ("m16_text_column.csv", "'town'"),
        ("m15_infinite.npy", "infinity"),
        ("m11_three_rows.csv", "n_components = 5, n_samples = 3"),
        ("m28_overflow_double.csv", "divide the data"),
        ("nothing.csv", "no such file"),
    ],
)
def test_bad_tables_are_one_line(run, name, match):
    message = run("fit", CASES / name, "--k", "5", fails=True)
    assert match in message
    assert name in message
    assert "\n" not in message


def test_bad_options_are_one_line(run, tmp_path):
    assert "--k takes a number" in run("fit", BLOBS, "--k", "8-1", fails=True)
    assert "unknown shape 'ful'; did you mean 'full'?" in run("fit", BLOBS, "--k", "2", "--shape", "ful", fails=True)
    assert "unknown criterion" in run("fit", BLOBS, "--k", "2", "--criterion", "bi", fails=True)
    assert ".png, .pdf or .svg" in run("fit", BLOBS, "--k", "2", "--plot", tmp_path / "p.xyz", fails=True)
    (tmp_path / "fit.json").write_text("{}")
    assert "missing key 'format'" in run("predict", tmp_path / "fit.json", BLOBS, fails=True)
    (tmp_path / "fit.json").write_text("no")
    assert "not valid JSON" in run("predict", tmp_path / "fit.json", BLOBS, fails=True)


def test_sizes():
    assert parse_sizes("3") == [3]
    assert parse_sizes("1-4,6") == [1, 2, 3, 4, 6]
    for wrong in ("", "0", "-3", "a", "3-", "2.5"):
        with pytest.raises(UserError, match="--k takes"):
            parse_sizes(wrong)

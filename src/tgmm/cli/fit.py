"""The commands for data of one's own: fit, predict."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tgmm.errors import UserError, refuse_unknown
from tgmm.files import write_atomically

COVARIANCES = ("full", "tied", "diag", "spherical", "auto")
ColumnsOption = Annotated[str | None, typer.Option(help="Columns to use, by name: x1,x2. Default: all.")]
SeparatorOption = Annotated[str | None, typer.Option(help="comma, semicolon, tab, bar, space or a character.")]
DecimalOption = Annotated[str | None, typer.Option(help="The decimal mark, '.' or ','.")]
EncodingOption = Annotated[str | None, typer.Option(help="Encoding of the text, such as utf-8 or cp1252.")]


def fit(
    data: Annotated[Path, typer.Argument(help="A table: CSV (its dialect is found), Parquet or NPY.")],
    k: Annotated[str, typer.Option(help="Number of components: 3, or several to choose from: 1-8, 2,4,6.")],
    shape: Annotated[str, typer.Option(help="Covariances: full, tied, diag, spherical or auto.")] = "full",
    criterion: Annotated[str, typer.Option(help="What chooses: bic, icl, aic or network.")] = "bic",
    out: Annotated[Path | None, typer.Option(help="The fit to write, .json, for `tgmm predict`.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Each row's component to write, .csv.")] = None,
    plot: Annotated[Path | None, typer.Option(help="The picture to write, .png, .pdf or .svg.")] = None,
    columns: ColumnsOption = None,
    separator: SeparatorOption = None,
    decimal: DecimalOption = None,
    encoding: EncodingOption = None,
    views: Annotated[int, typer.Option(min=1, help="Views of the data that the network sees.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is sampled of large tables.")] = 0,
) -> None:
    """Fit a Gaussian mixture to a table; empty cells are missing values."""
    from tgmm.estimator.estimator import TransformerGaussianMixture
    from tgmm.estimator.record import make_record, save_record
    from tgmm.estimator.selection import CRITERIA

    refuse_unknown("shape", shape, COVARIANCES)
    refuse_unknown("criterion", criterion, CRITERIA)
    sizes = parse_sizes(k)
    table = _read(data, columns, separator, decimal, encoding)
    options = {"covariance_type": shape, "criterion": criterion, "n_views": views, "random_state": seed}
    model = TransformerGaussianMixture(sizes[0] if len(sizes) == 1 else sizes, **options)
    with _one_line(data):
        model.fit(table.values)
    _print_fit(model, table)
    if out is not None:
        save_record(out, make_record(model, table.values, table.columns))
    if labels is not None:
        _write_labels(labels, model, table.values)
    if plot is not None:
        _draw(plot, model, table)
    for path in filter(None, (out, labels, plot)):
        print(f"-> {path}")


def predict(
    fitted: Annotated[Path, typer.Argument(help="What `tgmm fit --out` wrote, .json.")],
    data: Annotated[Path, typer.Argument(help="A table with the columns of the fit.")],
    out: Annotated[Path | None, typer.Option(help="The CSV to write; default: standard output.")] = None,
    separator: SeparatorOption = None,
    decimal: DecimalOption = None,
    encoding: EncodingOption = None,
) -> None:
    """The component of each row of new data, its probability and the log-density, as CSV."""
    from tgmm.estimator.record import load_record, restore

    record = load_record(fitted)
    table = _read(data, ",".join(record.columns), separator, decimal, encoding)
    with _one_line(data):
        _write_labels(out, restore(record), table.values)
    if out is not None:
        print(f"{len(table.values):,} rows -> {out}")


def parse_sizes(text: str) -> list[int]:
    """Every K of ``3``, ``1-8`` or ``2,4,6``."""
    sizes: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or int(low) < 1 or (dash and int(high) < int(low)):
            raise UserError(f"--k takes a number such as 3, a range such as 1-8 or a list such as 2,4,6, not '{text}'")
        sizes += range(int(low), int(high or low) + 1)
    return sorted(set(sizes))


def _read(path: Path, columns: str | None, separator: str | None, decimal: str | None, encoding: str | None):
    from tgmm.estimator.table import Dialect, read_table

    chosen = [name.strip() for name in columns.split(",")] if columns is not None else None
    return read_table(path, chosen, Dialect(separator, decimal, encoding))


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What the estimator refuses as a user's error, and its warnings as lines on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except ValueError as error:
            raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    for warning in caught:
        print(f"tgmm: {path}: {warning.message}", file=sys.stderr)


def _print_fit(model, table) -> None:
    rows, d = table.values.shape
    missing = int((table.values != table.values).sum())
    gaps = f", {missing:,} empty cells" if missing else ""
    print(f"{rows:,} rows x {d} columns{gaps}: {model.n_components_} components, {model.covariance_type_} covariances")
    print(f"mean log-likelihood {model.score(table.values):.6g}, BIC {model.bic(table.values):.6g}")
    if model.criterion_values_:
        name = "-log P(K | data)" if model.criterion == "network" else model.criterion
        print(f"{name}; smaller is better:")
        for (K, shape), value in model.criterion_values_.items():
            chosen = " <-" if (K, shape) == (model.n_components_, model.covariance_type_) else ""
            print(f"  K = {K:2d}  {shape:9s} {value:12.6g}{chosen}")
    shown = table.columns[:6]
    print("component  weight  " + "  ".join(f"{name[:12]:>12}" for name in shown) + ("  ..." if d > 6 else ""))
    for k, (weight, mean) in enumerate(zip(model.weights_, model.means_, strict=True)):
        print(f"{k:9d}  {weight:6.4f}  " + "  ".join(f"{value:12.6g}" for value in mean[:6]))


def _write_labels(path: Path | None, model, X) -> None:
    probabilities, densities = model.predict_proba(X), model.score_samples(X)
    lines = ["label,probability,log_density"]
    for row, density in zip(probabilities, densities, strict=True):
        label = int(row.argmax())
        lines.append(f"{label},{row[label]:.6g},{density:.8g}")
    text = "\n".join(lines) + "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        write_atomically(path, text)


def _draw(path: Path, model, table) -> None:
    from tgmm.estimator.picture import draw_fit

    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UserError(f"--plot takes a .png, .pdf or .svg file, not '{path}'")
    draw_fit(path, model, table.values, table.columns)

"""Read tables of numbers from CSV (its dialect found or named), Parquet and NPY files."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tgmm.errors import UserError, unknown_name
from tgmm.files import PARQUET, refuse_large_shape, refuse_large_table

SEPARATORS = {"tab": "\t", "semicolon": ";", "bar": "|", "comma": ",", "space": " "}
ENCODINGS = ("utf-8-sig", "cp1252")  # tried in this order where no byte-order mark says more
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # the marks of its two orders of bytes
HEAD = 1 << 16  # bytes that are looked at before the others are read
SAMPLE = 200  # lines that tell the dialect
MISSING = {"", "na", "n/a", "nan", "null", "none", "#n/a", "<na>", "-nan", "-"}
POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
COMMA = re.compile(r"[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")


@dataclass(frozen=True)
class Table:
    """Numbers with names: columns (d,) and values (N, d) in double precision, NaN where a cell is empty."""

    columns: list[str]
    values: np.ndarray


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written; None where the file itself tells."""

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None


def read_table(path: Path, columns: list[str] | None = None, dialect: Dialect | None = None) -> Table:
    """Read the numeric table in a file.

    Parameters
    ----------
    path : .npy, .parquet, or text with separated columns.
    columns : names of those to read, in this order; None for all of them.
    dialect : of a text file, as far as it is known.

    Raises
    ------
    UserError : no file, no rows, columns that are not there or not numeric, lines of unequal length; a file that is
        larger than a table may be, or says so of itself.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    refuse_large_table(path)
    if path.suffix.lower() == ".npy":
        table = _read_npy(path)
        return _chosen(path, table.columns, list(table.values.T), columns)
    if path.suffix.lower() in PARQUET:
        names, cells = _read_parquet(path)
    else:
        try:
            names, cells = _read_text(path, dialect or Dialect())
        except csv.Error as error:
            raise UserError(f"{path}: not a table of separated columns ({error})") from None
    return _chosen(path, names, cells, columns)


def _read_npy(path: Path) -> Table:
    try:
        # A map is refused where the header says more than there is; sizes beyond 64 bits would wrap around.
        with np.errstate(over="raise"):
            values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, FloatingPointError) as error:
        raise UserError(f"{path}: not an array of numbers in NPY format ({error})") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise UserError(f"{path}: holds {getattr(values, 'dtype', type(values).__name__)}, not an array of numbers")
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise UserError(f"{path}: has {values.ndim} dimensions; a table has 2 (rows, columns)")
    refuse_large_shape(path, *values.shape)
    return Table([f"x{i + 1}" for i in range(values.shape[1])], values.astype(np.float64))


def _read_parquet(path: Path) -> tuple[list[str], list]:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # pyarrow's own kinds of errors
        raise UserError(f"{path}: not a Parquet table ({str(error).splitlines()[0]})") from None
    cells = [
        series.to_numpy(dtype=np.float64, na_value=np.nan)
        if series.dtype.kind in "fiu"
        else ["" if value is None or value is pd.NA else str(value) for value in series]
        for _, series in frame.items()
    ]
    return [str(name) for name in frame.columns], cells


def _read_text(path: Path, dialect: Dialect) -> tuple[list[str], list]:
    text = _decoded(path, dialect.encoding)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise UserError(f"{path}: the file is empty")
    separator = _separator(lines[:SAMPLE], dialect.separator)
    rows = _split(lines, separator)
    width = len(rows[0])
    for number, row in enumerate(rows):
        if len(row) != width:
            raise UserError(
                f"{path}: row {number + 1} has {len(row)} columns where the first has {width}: {lines[number]!r}"
            )
    decimal = _decimal(rows[:SAMPLE], separator, dialect.decimal)
    named = any(cell.lower() not in MISSING and _number(cell, decimal) is None for cell in rows[0])
    names = rows.pop(0) if named else [f"x{i + 1}" for i in range(width)]
    if not rows:
        raise UserError(f"{path}: there is a header and no row below it")
    return names, [_column(cells, decimal) for cells in zip(*rows, strict=True)]


def _decoded(path: Path, encoding: str | None) -> str:
    with path.open("rb") as file:
        data = file.read(HEAD)
        if not encoding and b"\0" in data and data[:2] not in UTF_16:
            raise UserError(f"{path}: not text: it has zero bytes; name another encoding with --encoding")
        data += file.read()
    marked = "utf-16" if data[:2] in UTF_16 else None
    for name in (encoding,) if encoding else (marked,) if marked else ENCODINGS:
        try:
            return data.decode(name)
        except LookupError:
            raise UserError(f"--encoding: Python knows no encoding '{name}' (utf-8, cp1252, utf-16, ...)") from None
        except UnicodeDecodeError as error:
            failed = error
    raise UserError(f"{path}: not text in {failed.encoding}: byte {failed.start}; name it with --encoding")


def _split(lines: list[str], separator: str) -> list[list[str]]:
    if separator == " ":
        return [line.split() for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)]


def _separator(lines: list[str], given: str | None) -> str:
    if given is not None:
        if len(given) != 1 and given not in SEPARATORS:
            raise unknown_name("separator", given, SEPARATORS)
        return SEPARATORS.get(given, given)
    for separator in SEPARATORS.values():
        widths = {len(row) for row in _split(lines, separator)}
        if len(widths) == 1 and widths != {1}:
            return separator
    # Lines of unequal length are an error of the file: the most frequent separator tells where.
    return max((";", ",", "\t"), key="\n".join(lines).count)


def _decimal(rows: list[list[str]], separator: str, given: str | None) -> str:
    if given is not None:
        if given not in (".", ","):
            raise unknown_name("decimal mark", given, [".", ","])
        return given
    if separator == ",":
        return "."
    cells = [cell for row in rows[1:] or rows for cell in row]
    commas = sum("," in cell and _number(cell, ",") is not None for cell in cells)
    points = sum("." in cell and _number(cell, ".") is not None for cell in cells)
    return "," if commas > points else "."


def _number(cell: str, decimal: str) -> float | None:
    """The number in a cell; None where there is none."""
    if decimal == ".":
        return float(cell) if POINT.fullmatch(cell) else None
    if THOUSANDS.fullmatch(cell) and ("," in cell or cell.count(".") > 1):
        return float(cell.replace(".", "").replace(",", "."))
    return float(cell.replace(",", ".")) if COMMA.fullmatch(cell) else None


def _column(cells: tuple[str, ...], decimal: str) -> np.ndarray | list[str]:
    """Numbers of a column, or its cells where one is no number."""
    values = [np.nan if cell.lower() in MISSING else _number(cell, decimal) for cell in cells]
    return list(cells) if any(value is None for value in values) else np.array(values, dtype=np.float64)


def _chosen(path: Path, names: list[str], cells: list, columns: list[str] | None) -> Table:
    if columns is None and _counts_rows(names[0], cells[0]) and len(names) > 1:
        names, cells = names[1:], cells[1:]
    for name in columns or ():
        if name not in names:
            raise unknown_name(f"column of {path}:", name, names)
    order = [names.index(name) for name in columns] if columns else range(len(names))
    text = [i for i in order if not isinstance(cells[i], np.ndarray)]
    if text:
        numeric = [name for name, cell in zip(names, cells, strict=True) if isinstance(cell, np.ndarray)]
        first = next(cell for cell in cells[text[0]] if cell.lower() not in MISSING)
        hint = f"; leave it out with --columns {','.join(numeric)}" if numeric else ""
        listed = ", ".join(repr(names[i]) for i in text)
        raise UserError(f"{path}: not numeric: {listed} (such as {first!r}){hint}")
    if not len(cells[0]):
        raise UserError(f"{path}: there is no row")
    return Table([names[i] for i in order], np.column_stack([cells[i] for i in order]))


def _counts_rows(name: str, cells) -> bool:
    """Whether a column without a name only numbers the rows, as pandas writes them."""
    if name not in ("", "Unnamed: 0") or not isinstance(cells, np.ndarray):
        return False
    return any(np.array_equal(cells, np.arange(first, first + len(cells))) for first in (0, 1))

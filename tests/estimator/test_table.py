"""Tables of every dialect that users bring."""

import io
import os
import re
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from estimator_inputs import CASES, load_case

from tgmm.errors import UserError
from tgmm.estimator.table import Dialect, read_table

VALUES = np.array([[1.5, -2.0], [3.25, 1e-7], [1234.5, 0.0]])


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("separator", [";", "\t", "|", ",", " "])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("header", [True, False])
def test_separators_and_decimal_marks_are_found(tmp_path, separator, decimal, header):
    if separator == "," == decimal:
        return
    path = tmp_path / "t.csv"
    pd.DataFrame(VALUES, columns=["a", "b"]).to_csv(path, sep=separator, decimal=decimal, header=header, index=False)
    table = read_table(path)
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.columns == (["a", "b"] if header else ["x1", "x2"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_encodings_are_found(tmp_path, encoding):
    table = read_table(write(tmp_path / "t.csv", "Länge,Höhe\n1,2\n3,4\n", encoding))
    assert table.columns == ["Länge", "Höhe"]
    assert table.values.tolist() == [[1, 2], [3, 4]]


def test_a_named_encoding_and_unknown_ones(tmp_path):
    path = write(tmp_path / "t.csv", "дата,x\n1,2\n", "cp1251")
    assert read_table(path, dialect=Dialect(encoding="cp1251")).columns[0] == "дата"
    with pytest.raises(UserError, match="no encoding 'utf-99'"):
        read_table(path, dialect=Dialect(encoding="utf-99"))
    with pytest.raises(UserError, match="not text in utf-8"):
        read_table(path, dialect=Dialect(encoding="utf-8"))


def test_the_case_of_semicolons_and_decimal_commas():
    table = read_table(CASES / "m33_semicolon_decimal_comma.csv")
    assert table.columns == ["x1", "x2"]
    np.testing.assert_allclose(table.values, load_case("blobs"), atol=1e-4)


def test_thousands_beside_decimal_commas(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "a;b\n1.234,5;2,0\n1.234.567,25;3,5\n"))
    assert table.values.tolist() == [[1234.5, 2.0], [1234567.25, 3.5]]


@pytest.mark.parametrize("cell", ["", "NA", "NaN", "null", " "])
def test_empty_cells_are_missing_values(tmp_path, cell):
    table = read_table(write(tmp_path / "t.csv", f"a,b\n1,{cell}\n2,3\n"))
    np.testing.assert_array_equal(table.values, [[1, np.nan], [2, 3]])


def test_comments_blank_lines_quotes_and_row_numbers(tmp_path):
    table = read_table(write(tmp_path / "t.csv", '# made by hand\n,"a, long",b\n\n0,1,2\n1,3,4\n'))
    assert table.columns == ["a, long", "b"]
    assert table.values.tolist() == [[1, 2], [3, 4]]


def test_a_single_column_and_arrays(tmp_path):
    assert read_table(write(tmp_path / "t.csv", "a\n1\n2.5\n")).values.tolist() == [[1], [2.5]]
    np.save(tmp_path / "one.npy", np.arange(3, dtype=np.uint8))
    assert read_table(tmp_path / "one.npy").values.tolist() == [[0], [1], [2]]
    np.save(tmp_path / "three.npy", np.zeros((2, 2, 2)))
    with pytest.raises(UserError, match="3 dimensions"):
        read_table(tmp_path / "three.npy")
    np.save(tmp_path / "none.npy", np.zeros((0, 2)))
    with pytest.raises(UserError, match="there is no row"):
        read_table(tmp_path / "none.npy")
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    with pytest.raises(UserError, match="not an array of numbers"):
        read_table(tmp_path / "text.npy")


def test_parquet_with_gaps_and_text(tmp_path):
    frame = pd.DataFrame({"a": [1.0, None], "n": [1, 2], "town": ["Ulm", "Graz"]})
    frame.to_parquet(tmp_path / "t.parquet")
    np.testing.assert_array_equal(read_table(tmp_path / "t.parquet", ["n", "a"]).values, [[1, 1], [2, np.nan]])
    with pytest.raises(UserError, match=r"not numeric: 'town' \(such as 'Ulm'\); leave it out with --columns a,n"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="not a Parquet table"):
        read_table(write(tmp_path / "broken.parquet", "no"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "no row below it"),
        ("a,b\n1,2\n3\n", "row 3 has 1 columns where the first has 2"),
        ("a,town,b\n1,Ulm,2\n", r"not numeric: 'town' \(such as 'Ulm'\); leave it out with --columns a,b"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, text, match):
    with pytest.raises(UserError, match=match) as error:
        read_table(write(tmp_path / "t.csv", text))
    assert "\n" not in str(error.value)


def test_columns_are_chosen_by_name(tmp_path):
    path = write(tmp_path / "t.csv", "a,town,b\n1,Ulm,2\n3,Graz,4\n")
    assert read_table(path, ["b", "a"]).values.tolist() == [[2, 1], [4, 3]]
    with pytest.raises(UserError, match=r"unknown column of .* 'c'"):
        read_table(path, ["c"])
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path / "nothing.csv")


def npy_header(shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return header.getvalue()


@pytest.mark.parametrize("shape", [(10**12, 2), (2, 10**12), (10**9,), (2**62, 2**62), (2**33, 2**31)])
def test_an_array_that_says_more_than_there_is_takes_no_memory(tmp_path, shape):
    path = tmp_path / "lies.npy"
    path.write_bytes(npy_header(shape) + bytes(160))
    refused_without_memory(path, "not an array of numbers in NPY format")


def test_a_small_parquet_file_of_very_many_rows_takes_no_memory(tmp_path):
    path = tmp_path / "lies.parquet"
    rows = pa.table({name: pa.array(np.zeros(2**20)) for name in "abc"})
    with pq.ParquetWriter(path, rows.schema) as writer:
        for _ in range(50):
            writer.write_table(rows)
    assert path.stat().st_size < 1 << 20
    refused_without_memory(path, "says that it has 52,428,800 rows of 3; at most 134,217,728 numbers are read")


@pytest.mark.parametrize("name", ["t.csv", "t.npy", "t.parquet"])
def test_a_sparse_file_of_fifty_gigabytes_is_refused_without_reading_it(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(npy_header((10**9, 6)) if name == "t.npy" else b"a,b\n1,2\n")
    os.truncate(path, 50 << 30)
    refused_without_memory(path, "has 53,687,091,200 bytes, and no table has more than 1,073,741,824")


def test_a_sparse_text_within_the_limit_is_refused_by_its_head(tmp_path):
    path = write(tmp_path / "t.csv", "a,b\n1,2\n")
    os.truncate(path, 1 << 30)
    refused_without_memory(path, "not text: it has zero bytes")


def test_one_endless_cell_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="not a table of separated columns"):
        read_table(write(tmp_path / "t.csv", f'a,b\n"{"1" * 200_000}",2\n'))


def refused_without_memory(path, words):
    """Python's allocations are traced; NumPy's are among them."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=re.escape(words)) as error:
            read_table(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)

"""CSV files as pandas, R, Excel and Kaggle leave them."""

from pathlib import Path

import numpy as np
import pytest

from experiments.data import load
from experiments.errors import UsageError

pytestmark = pytest.mark.usefixtures("in_a_folder")


def said(text: str, **options) -> list[str]:
    """What is said of a file: its notes, or why it is refused."""
    Path("x.csv").write_text(text)
    notes: list[str] = []
    try:
        load("x.csv", say=notes.append, **options)
    except UsageError as error:
        notes.append(str(error))
    return notes


ROWS = [(5.1, 3.5), (4.9, 3.0), (4.7, 3.2), (4.6, 3.1), (5.0, 3.6), (5.4, 3.9)]


@pytest.mark.parametrize(
    ("head", "first", "word"),
    [
        ("Id,length,width", 1, "Id"),  # Kaggle's Iris.csv
        ("index,length,width", 0, "index"),  # df.reset_index().to_csv(index=False)
        (None, 0, "0"),  # df.to_csv(header=False)
    ],
)
def test_a_column_that_counts_the_rows_is_not_taken_in_silence(head, first, word):
    lines = [f"{first + k},{a},{b}" for k, (a, b) in enumerate(ROWS)]
    notes = said("\n".join([*([head] if head else []), *lines]))
    assert any(word in note for note in notes), "the number of the row was read as data"


def test_two_columns_of_names_of_rows():
    """A frame that was saved and read twice."""
    lines = [f"{k},{k},{a}" for k, (a, _) in enumerate(ROWS)]
    (line,) = said("\n".join(["Unnamed: 0.1,Unnamed: 0,length", *lines]))
    assert "the first column has no name" in line


@pytest.mark.parametrize(
    "head", ["1,2,3", "2001,2002,2003,2004,2005", "400,410,420,430,440", "4.5,5.0,5.5,6.0,6.5"]
)
def test_a_first_line_of_numbers_in_equal_steps_is_names_of_columns(head):
    """range(1, n), years, wavelengths."""
    columns = len(head.split(","))
    rows = np.random.default_rng(0).normal(size=(8, columns)).round(3).tolist()
    assert said("\n".join([head, *(",".join(map(str, row)) for row in rows)]))


@pytest.mark.parametrize("first", ["?,5", "NA,5", "n/a,5", "5,"])
def test_a_first_row_with_a_missing_entry_is_not_taken_for_names(first):
    """UCI's files have no names and mark what is missing by a question mark."""
    notes = said("\n".join([first, "1,2", "3,4", "5,6", "7,8", "2,9"]))
    assert any("line 1" in note for note in notes), "the first row was dropped in silence"


@pytest.mark.parametrize("word", ["NA", "N/A", "None", "null", "<NA>", "?"])
def test_a_missing_class_is_no_class(word):
    """R writes NA, UCI's files a question mark."""
    notes = said(f"a,b\n1,x\n2,y\n3,{word}\n4,x\n7,y\n5,x\n", label="b")
    assert any("line 4" in note or word in note for note in notes)


def test_nor_is_one_in_an_npz():
    labels = np.array(["a", "b", np.nan, "a", "b", "a"])  # NumPy makes the word 'nan' of it
    np.savez("x.npz", x=np.arange(12.0).reshape(6, 2), y=labels)
    with pytest.raises(UsageError, match="class"):
        load("x.npz")


def test_a_target_of_a_regression_is_no_class():
    """The same floats are refused as y of an npz."""
    rows = [
        f"{a},{b},{c}"
        for (a, b), c in zip(ROWS, (24.0, 21.6, 34.7, 33.4, 36.2, 28.7), strict=True)
    ]
    assert said("\n".join(["a,b,price", *rows]), label="price")


def test_whole_floats_are_classes_in_their_order():
    """pandas writes 1.0 for 1 where a column once had a gap; as y of an npz they are 1, 2, 10."""
    rows = [f"{a},{b},{c}" for (a, b), c in zip(ROWS, (1.0, 2.0, 10.0) * 2, strict=True)]
    Path("x.csv").write_text("\n".join(["a,b,kind", *rows]))
    assert load("x.csv", label="kind")[0].source.classes == ("1", "2", "10")


def test_rows_that_count_are_rows():
    Path("x.csv").write_text("1,2,3\n4,5,6\n7,8,9\n10,11,12\n")
    assert sum(map(len, load("x.csv"))) == 4

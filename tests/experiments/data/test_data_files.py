"""Files of numbers as data sets: what is read, equal to NumPy's, and what is refused."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import ppca
from experiments.data import load
from experiments.errors import UsageError
from experiments.runs.cli import cli
from experiments.runs.files import read_json
from experiments.tools import evaluate, reconstruct, sample
from tests.shared.commands import refused

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 3, 2))


pytestmark = pytest.mark.usefixtures("in_a_folder")


def rows_of(name: str, **options) -> np.ndarray:
    """All rows of a file, in an order of their own."""
    train, test = load(name, **options)
    assert (len(train), len(test)) == (8, 2)
    values = torch.cat([train.pixels, test.pixels]).double().numpy()
    return np.array(sorted(values.tolist()))


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i8", "u2", "?", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_holds_any_numbers(dtype, order):
    x = np.asarray((9 * np.abs(X)).astype(dtype), order=order)
    np.save("x.npy", x)
    assert (rows_of("x.npy") == sorted(x.astype(float).tolist())).all()
    train, test = load("x.npy")
    assert train.levels == (255 if dtype == "u1" else 1)
    assert train.image_shape == (3, 2)
    assert torch.equal(test.pixels, load("x.npy")[1].pixels)
    assert train.source.read.startswith("npy: 10x3x2 ")


def test_npz_holds_classes():
    y = np.array([7, 3] * 5)
    for labels in (y, y.astype(float), y[:, None], np.array(["3", "7"])[(y == 7).astype(int)]):
        np.savez_compressed("x.npz", x=X, y=labels)
        train, test = load("x.npz")
        assert train.source.classes == ("3", "7")
        by_row = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
        for part in (train, test):
            names = part.label_names(len(part))
            assert [int(name) for name in names] == [
                by_row[row.numpy().tobytes()] for row in part.pixels
            ]
    notes: list[str] = []
    np.savez("x.npz", x=X, weights=y)
    assert load("x.npz", say=notes.append)[0].labels is None
    assert notes == ["of x.npz x and y are read, not weights"]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n{}",
        "{}",
        "\ufeffa;b\n{}",
        "a\tb\r\n{}",
        "\na;b\n{}",
        " \n\r\n\na\tb\n{}",
        '"a","b, c"\n{}',
    ],
)
def test_csv_holds_numeric_columns(text):
    x = X[:, 0]
    mark = ";" if ";" in text else "\t" if "\t" in text else ","
    Path("x.csv").write_text(
        text.format("\n".join(mark.join(map(repr, row)) for row in x.tolist())), encoding="utf-8"
    )
    count = 10
    train, test = load("x.csv")
    assert len(train) + len(test) == count
    found = torch.cat([train.pixels, test.pixels]).tolist()
    assert all(row in found for row in x.tolist())


def test_csv_with_classes():
    lines = [f"{a!r},{'ab'[k % 2]},{b!r}" for k, (a, b) in enumerate(X[:, 0].tolist())]
    Path("x.csv").write_text("\n".join(["height,kind,weight", *lines]))
    train, _ = load("x.csv", label="kind")
    assert train.image_shape == (2,)
    assert train.source.classes == ("a", "b")
    assert "columns height, weight, classes kind" in train.source.read
    Path("iris.csv").write_text("\n".join(lines))  # without names
    assert load("iris.csv", label="1")[0].source.classes == ("a", "b")
    with pytest.raises(UsageError, match=r"columns of text \(1\)"):
        load("iris.csv")


CSV = {
    "a,b\n1,2\n3\n4,5\n6,7": "ragged: line 3 has 1 fields, others 2",
    "a,b\n1,2\n3,\n4,5\n6,7": "line 3, column 'b' is empty",
    "a,b\n1,2\n3,nan\n4,5\n6,7": "NaN or infinite values, the first of them in row 1",
    "a,b\n1,2\n3,1_0\n4,5\n6,7": "'1_0', which is not a number",
    "a,b,c\n1,2,x\n3,4,y\n4,5,z\n6,7,x": "columns of text (c)",
    "a,b\n1,2\n3,oops\n4,5\n6,7": "column 'b' holds 'oops'",
    ",a\n0,5\n1,6\n2,5\n3,4": "to_csv(index=False)",
    '"","a"\n"1",5\n"2",6\n"3",5\n"4",4': "the first column has no name",  # R's write.csv
    ",a\n5,5\n8,6\n11,5\n14,4": "the first column has no name",  # some rows of a table
    "Unnamed: 0,a\n0,5\n1,6\n2,5\n3,4": "the first column has no name",
    "0,1\n0.5,2\n1,1\n2,2\n1,1": "the first line counts the columns",
    "a;b\n1,5;2\n3;4\n5;6\n7;8": "line 2, column 'a' holds '1,5': decimals are written with a",
    'a,b\n"1,234.5",2\n"3,456",4\n"5,678",6\n"7,890",8': "'1,234.5': decimals are written with a",
    "a,b\n": "with rows",
    "": "is empty",
    " \n\n": "is empty",
    "\n\na,b\n1,2\n3,oops\n4,5\n6,7": "line 5, column 'b' holds 'oops'",
    "a,b\n1,2\n3,4\n5,6": "3 rows; at least 4",
    'a,b\n"1,2\n3,4': "not a CSV file",
}


@pytest.mark.parametrize("text", list(CSV))
def test_csv_that_is_refused(text):
    Path("x.csv").write_text(text)
    with pytest.raises(UsageError) as caught:
        load("x.csv")
    assert CSV[text] in str(caught.value)
    assert "x.csv" in str(caught.value)


@pytest.mark.parametrize("word", ["", "nan"])
def test_a_row_without_a_class_is_refused(word):
    Path("x.csv").write_text(f"a,b\n1,x\n2,y\n3,{word}\n4,x")
    with pytest.raises(UsageError, match=r"x\.csv: line 4 has no class in column 'b'"):
        load("x.csv", label="b")


def test_long_numbers_are_names_of_classes():
    np.savez("x.npz", x=X, y=np.array(["9" * 30, "7"] * 5))
    assert load("x.npz")[0].source.classes == ("7", "9" * 30)


def bare(header: str, version: tuple[int, int] = (1, 0), content: bytes = b"") -> bytes:
    length = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + header.encode() + content


def zipped(**members: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return whole.getvalue()


def saved(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


class Trap:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return (open, ("trapped", "w"))


LARGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 4)}\n"
BINARY = {
    "objects.npy": (saved(np.array([[Trap()] * 2] * 5, object)), "Python objects"),
    "pickle.npy": (pickle.dumps(Trap()), "cannot be read"),
    "objects.npz": (zipped(x=saved(np.array([[Trap()] * 2] * 5, object))), "Python objects"),
    "labels.npz": (zipped(x=saved(X), y=saved(np.array([Trap()] * 10))), "Python objects"),
    "empty.npy": (b"", "cannot be read"),
    "empty.npz": (b"", "cannot be read"),
    "nothing.npz": (zipped(), "holds nothing: it must contain x"),
    "names.npz": (zipped(x_train=saved(X), y_train=saved(X)), "holds x_train, y_train"),
    "short.npy": (saved(X)[:-1], "bytes where its header says"),
    "long.npy": (saved(X) + b"1", "bytes where its header says"),
    "large.npy": (bare(LARGE), "bytes where its header says"),
    "large.npz": (zipped(x=bare(LARGE)), "bytes where its header says"),
    "header.npy": (bare("[" * 60_000), "cannot be read"),
    "header2.npy": (bare("{" + " " * 10**6 + "}", (2, 0)), "cannot be read"),
    "code.npy": (bare("__import__('os').system('touch trapped')\n"), "cannot be read"),
    "complex.npy": (saved(X + 1j), "complex"),
    "fields.npy": (saved(np.zeros(9, [("a", "f4"), ("b", "f4")])), "have fields (a, b)"),
    "words.npy": (saved(np.array([["a", "b"]] * 5)), "numeric"),
    "nan.npy": (saved(np.where(X > 1.2, np.nan, X)), "the first of them in row"),
    "vector.npy": (saved(X[:, 0, 0]), "with rows"),
    "none.npy": (saved(X[:0]), "with rows"),
    "few.npy": (saved(X[:3]), "3 rows; at least 4"),
    "mismatch.npz": (zipped(x=saved(X), y=saved(np.arange(9))), "10 rows, but labels [9]"),
    "targets.npz": (zipped(x=saved(X), y=saved(X[:, 0, 0])), "labels must be integers or words"),
    "endless.npz": (zipped(x=saved(X), y=saved(np.full(10, np.inf))), "labels must be integers"),
    "huge.npz": (zipped(x=saved(X), y=saved(np.full(10, 1e300))), "labels must be integers"),
    "hidden.npz": (zipped(x=saved(X), y=saved(np.array(["\udcff"] * 10))), "cannot be shown"),
}


@pytest.mark.parametrize("name", list(BINARY))
def test_files_that_are_refused(name):
    content, words = BINARY[name]
    Path(name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load(name)
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert not Path("trapped").exists()


def test_runs_on_files_of_numbers(capsys):
    np.savez("x.npz", x=RNG.poisson(3, (40, 2, 3)), y=np.arange(40) % 2)
    args = ["--data", "x.npz", "--epochs", "1", "--out", "run"]
    cli(ppca.Config, ppca.main, args)
    protocol = read_json(Path("run/metrics.json"))["protocol"]
    assert protocol["data"] == "x.npz"
    assert protocol["read"] == "npz: 40x2x3 int64 (counts)"
    for module, more in ((evaluate, ["--particles", "2"]), (sample, []), (reconstruct, [])):
        cli(module.Config, module.main, ["run", *more, "--out", module.__name__])
    Path("elsewhere").mkdir()
    Path("x.npz").rename("elsewhere/x.npz")
    new = ["--out", "new"]
    refused(capsys, evaluate, ["run", *new], "x.npz is not a file")
    cli(evaluate.Config, evaluate.main, ["run", "--data-root", "elsewhere", *new])
    for option in (["--flip"], ["--pad", "8"]):
        np.save("flat.npy", X[:, 0])
        refused(capsys, ppca, ["--data", "flat.npy", *option, "--out", "n"], "is for images")
    refused(capsys, ppca, ["--data", "flat.npy", "--resize", "8"], "--resize is for --data folder")
    refused(capsys, ppca, ["--data", "flat.npy", "--label", "y"], "--label is for --data FILE.csv")

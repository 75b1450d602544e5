"""Arrays with gaps, of other byte orders and layouts, and bytes that do not reach 255."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from experiments import vae
from experiments.data import as_data, load
from experiments.data.rows import held_out
from experiments.errors import UsageError
from experiments.runs.cli import cli

pytestmark = pytest.mark.usefixtures("in_a_folder")


X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
GAP = (3, 1)


def masked() -> np.ma.MaskedArray:
    values = np.ma.masked_array(X.copy(), np.zeros_like(X, bool))
    values.data[GAP] = -9999
    values[GAP] = np.ma.masked
    return values


def with_gap(dtype: str) -> np.ndarray:
    values = X.astype(dtype)
    values[GAP] = np.nan
    return values


COUNTS = pd.DataFrame(np.arange(18).reshape(6, 3)).astype("Int64")
COUNTS.iloc[GAP] = pd.NA
NONE = (9 * X).astype(object)
NONE[GAP] = None


@pytest.mark.parametrize(
    "values",
    [masked(), with_gap(">f4"), with_gap("g"), COUNTS, NONE],
    ids=["masked array", "big-endian", "extended", "nullable DataFrame", "None"],
)
def test_a_gap_of_any_kind_is_masked(values):
    """Under a mask of an array lies any number, such as -9999."""
    data = as_data(values, missing="mask")
    expected = torch.ones(6, 3, dtype=torch.bool)
    expected[GAP] = False
    assert torch.equal(data.given["mask"], expected)
    assert data.pixels[GAP] == 0


def test_what_is_given_has_no_masked_entries():
    with pytest.raises(UsageError, match="masked"):
        as_data(X, given={"y": masked()})


def test_what_is_given_may_have_any_byte_order():
    given = as_data(X, given={"y": X.astype(">f4")}).given["y"]
    assert torch.equal(given, torch.from_numpy(X))


def test_a_field_of_packed_records_is_taken():
    """np.fromfile with a byte for the label before each row: strides of 13 bytes."""
    records = np.zeros(6, [("label", "u1"), ("x", "<f4", (3,))])
    records["x"] = X
    assert (as_data(records["x"]).pixels.numpy() == X).all()


def said(name: str, root: Path | None = None) -> str:
    notes: list[str] = []
    try:
        load(name, root, say=notes.append)
    except UsageError as error:
        notes.append(str(error))
    return " ".join(notes)


@pytest.mark.parametrize("top", [1, 16])
def test_bytes_that_do_not_reach_255_are_said(top):
    """Binary images and scikit-learn's digits as uint8: ink is 1/255, or 16/255."""
    np.save("x.npy", np.random.default_rng(0).integers(0, top + 1, (20, 64)).astype("u1"))
    assert "255" in said("x.npy")


def test_so_are_masks_in_a_folder():
    Path("masks").mkdir()
    for number in range(6):
        image = np.random.default_rng(number).integers(0, 2, (4, 4)).astype("u1")
        Image.fromarray(image).save(f"masks/{number}.png")
    assert "255" in said("folder", Path("masks"))


def test_floats_outside_of_a_likelihood_are_refused_whichever_row_holds_them(capsys):
    """Here it is a row of the test split."""
    x = np.random.default_rng(0).random((100, 4)).astype(np.float32)
    x[held_out(100).nonzero()[0][0], 0] = 3.0
    np.save("x.npy", x)
    args = "--likelihood continuous_bernoulli --epochs 1 --latent-dim 1 --hidden-dims 4"
    with pytest.raises(SystemExit) as end:
        cli(
            vae.Config,
            vae.main,
            ["--data", "x.npy", *args.split(), "--no-compile", "--out", "run"],
        )
    assert end.value.code == 2
    assert not Path("run").exists()

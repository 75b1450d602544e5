"""The directories of a sweep's runs."""

from pathlib import Path

import pytest

from experiments.sweeps.grid import name_of, read_grid
from experiments.sweeps.plan import plan

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize(
    ("name", "values"), [("beta", (".5", "5")), ("run", ("../a", "a")), ("value", ("-1", "1"))]
)
def test_points_that_differ_have_names_that_do(name, values):
    one, other = (name_of({name: value}) for value in values)
    assert one != other


def test_a_grid_with_numbers_that_begin_with_a_point():
    found = plan("vae", read_grid(["beta=.5,5"], []), Path("s").absolute())
    assert [run.options["beta"] for run in found] == [0.5, 5.0]

"""Options that a run must use or refuse."""

import pytest

from experiments import ppca
from experiments.tools import refit
from tests.shared.commands import refused, run
from tests.shared.runs import DIGITS

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize("option", [["--minutes", "1"], ["--patience", "2"], ["--compile"]])
def test_options_of_epochs_are_refused_where_rows_take_local_steps(option, capsys):
    rows = ["--guide", "mean_field", "--decoder", "frozen", "--guide.local-steps", "3"]
    refused(capsys, ppca, [*DIGITS, *rows, *option, "--out", "a"], option[0])


def test_a_refit_rounds_products_of_float32_alone(capsys):
    rounded = ["--products", "bfloat16", *DIGITS[4:]]
    for dtype in ("float32", "float64"):
        run(ppca, *DIGITS, "--guide", "exact", "--dtype", dtype, "--out", dtype)
    run(refit, "float32", "--guide", "amortized", *rounded, "--out", "a")
    refused(capsys, refit, ["float64", *rounded, "--out", "b"], "bfloat16", "float64")

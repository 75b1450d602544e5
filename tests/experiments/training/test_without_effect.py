"""Options that a run must use or refuse."""

import pytest

from experiments import ppca
from tests.shared.commands import refused
from tests.shared.runs import DIGITS

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize("option", [["--minutes", "1"], ["--patience", "2"], ["--compile"]])
def test_options_of_epochs_are_refused_where_rows_take_local_steps(option, capsys):
    rows = ["--guide", "mean_field", "--decoder", "frozen", "--guide.local-steps", "3"]
    refused(capsys, ppca, [*DIGITS, *rows, *option, "--out", "a"], option[0])

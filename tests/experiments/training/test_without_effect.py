"""Options that a run must use or refuse."""

import dataclasses
import json
from pathlib import Path

import pytest

from experiments import ppca
from experiments.runs.files import FORMAT
from experiments.runs.resuming import read_saved
from tests.shared.commands import refused
from tests.shared.runs import DIGITS

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize("option", [["--minutes", "1"], ["--patience", "2"], ["--compile"]])
def test_options_of_epochs_are_refused_where_rows_take_local_steps(option, capsys):
    rows = ["--guide", "mean_field", "--decoder", "frozen", "--guide.local-steps", "3"]
    refused(capsys, ppca, [*DIGITS, *rows, *option, "--out", "a"], option[0])


@dataclasses.dataclass(frozen=True)
class Options:
    out: Path
    epochs: int = 1
    minutes: float | None = None
    readjust: int = 500


def test_a_finished_run_is_sampled_anew_where_readjust_differs():
    directory = Path("a")
    directory.mkdir()
    saved = {"format": FORMAT, "command": "nvae", "options": {"readjust": 500, "epochs": 1}}
    (directory / "config.json").write_text(json.dumps(saved))
    for name in ("metrics.json", "report.html"):
        (directory / name).write_text("{}")
    config = Options(directory, readjust=0)
    assert read_saved("nvae", {"readjust": 0, "epochs": 1}, config) is not None

"""A course folder for nbgrader."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.runs.files import write_text
from experiments.teaching.notebooks.myst import calls_in, plain
from experiments.teaching.notebooks.versions import keep_work, read_lab, save, student

HIDDEN = """
### BEGIN HIDDEN TESTS
from experiments.teaching.grading.sealed import private_checks as _private

_kept, check = check, _private()
{calls}
check = _kept
### END HIDDEN TESTS"""
SETTINGS = """import os

os.environ.update(LAB_DATA="digits", LAB_EPOCHS="1", MPLBACKEND="Agg")

c = get_config()
c.CourseDirectory.course_id = "latent-variables"
# Stubs and hints are in the notebooks already.
c.ClearSolutions.enabled = False
c.ExecutePreprocessor.timeout = 300
c.ExecutePreprocessor.interrupt_on_timeout = True
"""


def hidden_checks(notebook: Any) -> None:
    """Repeat every check, hidden from students, with checks that a notebook cannot replace."""
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id", "").startswith("check-"):
            calls = "\n".join(call.code for call in calls_in(plain(cell.source)))
            cell.source += HIDDEN.format(calls=calls)


def write_course(sources: Sequence[Path], folder: Path) -> list[str]:
    """Write a course folder: the settings, and every lab as an assignment of its own.

    Returns the names of the assignments.
    """
    targets = {path: folder / "source" / path.stem / f"{path.stem}.ipynb" for path in sources}
    keep_work(targets.values())
    for path, target in targets.items():
        notebook = student(read_lab(path), path.name)
        hidden_checks(notebook)
        save(notebook, target)
        print(target)
    settings = folder / "nbgrader_config.py"
    if not settings.exists():  # else a teacher may have changed it
        write_text(settings, SETTINGS)
    return [path.stem for path in sources]

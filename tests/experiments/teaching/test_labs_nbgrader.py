"""A course folder of ours goes through nbgrader, from the release to the points."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.teaching.notebooks.myst import calls_of
from experiments.teaching.notebooks.nbgrader import hidden_checks, write_course
from experiments.teaching.notebooks.sources import find_labs
from experiments.teaching.notebooks.versions import read_lab, student

ROOT = Path(__file__).parents[3]
LAB = find_labs(numbers=(1,))


@pytest.mark.parametrize("source", find_labs(), ids=lambda path: path.stem)
def test_cells_have_the_metadata_that_nbgrader_asks_for(source):
    notebook = student(read_lab(source), source.name)
    marks = [c.metadata["nbgrader"] for c in notebook.cells if "nbgrader" in c.metadata]
    names = [mark["grade_id"] for mark in marks]
    assert len(set(names)) == len(names)
    fields = {"grade", "grade_id", "locked", "schema_version", "solution", "task"}
    for mark in marks:
        assert set(mark) - {"points"} == fields
        assert mark["grade"] is ("points" in mark)
        assert mark["locked"] is not mark["solution"]
    checks = [mark["points"] for mark in marks if mark["grade_id"].startswith("check-")]
    assert checks == [1] * len(calls_of(notebook))


def test_hidden_checks_repeat_the_visible_ones():
    notebook = student(read_lab(LAB[0]), LAB[0].name)
    before = calls_of(notebook)
    hidden_checks(notebook)
    assert [call.code for call in calls_of(notebook)] == [c.code for c in before for _ in "ab"]


def test_settings_that_a_teacher_has_changed_are_kept(tmp_path):
    write_course(LAB, tmp_path)
    settings = tmp_path / "nbgrader_config.py"
    settings.write_text("c = get_config()\n")
    write_course(LAB, tmp_path)
    assert settings.read_text() == "c = get_config()\n"


EVERYTHING_RIGHT = {"pca": 1.0, "pca_encoder": 1.0, "pca_decoder": 1.0, "squared_error": 1.0}
OVERWRITE = "for name in check.__all__: setattr(check, name, print)"
WRONG = "def squared_error(x, reconstruction): return (x - reconstruction).square().mean()"


@pytest.mark.slow
def test_autograde_gives_points_and_none_for_a_notebook_that_overwrites_check(
    tmp_path, monkeypatch
):
    pytest.importorskip("nbgrader", reason="comes with the extra 'grading'")
    import nbformat
    from nbgrader.api import Gradebook

    beside = str(Path(sys.executable).parent)  # on the path of an activated environment
    monkeypatch.setenv("PATH", os.pathsep.join([beside, os.environ["PATH"]]))
    write_course(LAB, tmp_path)
    nbgrader(tmp_path, "generate_assignment", LAB[0].stem)
    released = tmp_path / "release" / LAB[0].stem / f"{LAB[0].stem}.ipynb"
    assert "HIDDEN" not in released.read_text()
    right = {cell.id: cell.source for cell in read_lab(LAB[0]).cells}
    for name in ("alice", "eve"):
        notebook = nbformat.read(released, 4)
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id", "").startswith("task-"):
                cell.source = right[cell.id]
                if name == "eve" and "def squared_error" in cell.source:
                    cell.source = f"{OVERWRITE}\n{WRONG}"
        target = tmp_path / "submitted" / name / LAB[0].stem / released.name
        target.parent.mkdir(parents=True)
        nbformat.write(notebook, target)
    nbgrader(tmp_path, "autograde", LAB[0].stem)
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as book:
        for name, expected in (
            ("alice", EVERYTHING_RIGHT),
            ("eve", {**EVERYTHING_RIGHT, "squared_error": 0.0}),
        ):
            (found,) = book.find_submission(LAB[0].stem, name).notebooks
            points = {g.cell.name.removeprefix("check-"): g.score for g in found.grades}
            assert {key: points[key] for key in expected} == expected


def nbgrader(folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    command = ["nbgrader", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]

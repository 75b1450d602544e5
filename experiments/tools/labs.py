"""Writes the notebooks of the labs for students and teachers, and grades what students hand in.

Student notebooks have stubs and hints in place of solutions, and empty cells for answers. Teacher
notebooks contain solutions and answers, and are executed. With --data mnist, teacher notebooks are
executed on MNIST, and their output is compared with the figures that they quote.

"grade FOLDER" runs each notebook that students handed in in a separate process, calls every check
on what it defines, and writes a table with a row per student.

    python -m experiments labs
    python -m experiments labs --student
    python -m experiments labs --labs 2 --no-execute
    python -m experiments labs --data mnist
    python -m experiments labs grade FOLDER --out grades.csv
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.errors import UsageError
from experiments.options.ranges import Positive
from experiments.runs.cli import cli
from experiments.teaching.notebooks.sources import find_labs
from experiments.teaching.notebooks.versions import (
    is_packed,
    keep_work,
    pack,
    read_lab,
    save,
    student,
)


@dataclass(frozen=True)
class Config:
    task: tyro.conf.Positional[Literal["write", "grade"]] = "write"
    """Write notebooks, or grade those that were handed in."""
    folder: tyro.conf.Positional[Path | None] = None
    """Folder of submissions: notebooks, folders or zip files, named after the students."""
    labs: tuple[int, ...] = ()
    """Numbers of the labs; by default all of them."""
    student: bool = False
    """Write only the student notebooks, and execute nothing."""
    data: Literal["digits", "mnist"] = "digits"
    """Data set for executing teacher notebooks; with mnist only these are written."""
    execute: bool = True
    """Execute the teacher notebooks."""
    nbgrader: bool = False
    """Write a course folder for nbgrader instead."""
    zip: Path | None = None
    """Zip file that also gets all notebooks."""
    source: Path | None = None
    """Folder of the labs' sources; by default those of the project."""
    out: Path | None = None
    """Folder for the notebooks (default: build/labs), or file for the grades (grades.csv)."""
    seconds: Positive = 600.0
    """Time limit per graded notebook."""


def main(config: Config) -> dict[str, Any]:
    check(config)
    sources = find_labs(config.source, config.labs)
    if config.folder is not None:
        from experiments.teaching.grading.grade import grade

        return grade(config.folder, sources, config.out or Path("grades.csv"), config.seconds)
    out = config.out or Path("build/labs")
    if config.nbgrader:
        from experiments.teaching.notebooks.nbgrader import write_course

        return {"labs": write_course(sources, out)}
    return write(config, sources, out)


def check(config: Config) -> None:
    """Refuse options that the task does not use, and a --zip file that labs did not write."""
    grading = config.folder is not None
    if grading != (config.task == "grade"):
        raise UsageError("labs grade FOLDER needs the folder with what was handed in.")
    if config.zip is not None:
        if config.nbgrader or grading:
            raise UsageError("--zip is for the notebooks of students and teachers: leave it out.")
        if config.zip.exists() and not is_packed(config.zip):
            raise UsageError(f"--zip {config.zip} exists and was not written by labs.")
    given = {
        "--student": config.student,
        "--data": config.data != "digits",
        "--nbgrader": config.nbgrader and grading,
        "--no-execute": grading and not config.execute,
    }
    unused = ", ".join(name for name, is_given in given.items() if is_given)
    if unused and (grading or config.nbgrader):
        task = "labs grade" if grading else "labs --nbgrader"
        raise UsageError(f"{task} does not use {unused}: leave that out.")
    if config.student and given["--data"]:
        raise UsageError("labs --student does not use --data: leave that out.")


def write(config: Config, sources: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write, and execute, the notebooks that were asked for."""
    folders = folders_of(config)
    targets = {
        (path, folder): out / folder / f"{path.stem}.ipynb"
        for path in sources
        for folder in folders
    }
    keep_work(targets.values())
    seconds: dict[str, float] = {}
    for (path, folder), target in targets.items():
        notebook, took = read_lab(path), ""
        if folder == "student":
            notebook = student(notebook, path.name)
        elif config.execute:
            from experiments.teaching.notebooks.execution import executed

            notebook, seconds[path.stem] = executed(notebook, path.name, config.data)
            took = f", executed in {seconds[path.stem]:.0f} s"
        save(notebook, target)
        print(f"{target}{took}", flush=True)
    if config.zip is not None:
        pack(targets.values(), out, config.zip)
        print(config.zip)
    return {"labs": [path.stem for path in sources], "seconds": seconds}


def folders_of(config: Config) -> tuple[str, ...]:
    """Folders to write, one per version of the notebooks."""
    if config.student:
        return ("student",)
    if config.data == "mnist":
        from experiments.data import load

        load("mnist")  # a notebook would fall back to digits
        return ("mnist",)
    return "student", "teacher"


if __name__ == "__main__":
    cli(Config, main)

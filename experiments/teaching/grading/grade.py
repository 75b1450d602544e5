"""From a folder of submissions to a table of points and a page of written answers."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.errors import UsageError
from experiments.runs.files import make_directories, missing, write_text
from experiments.teaching.grading.running import Outcome, rerun
from experiments.teaching.grading.submissions import Submission, submissions
from experiments.teaching.grading.table import Graded, table
from experiments.teaching.grading.written import PAGE, answers_of, page
from experiments.teaching.notebooks import Node, calls_of, read_lab


class Lab(NamedTuple):
    """A lab as it was given out.

    Args:
        name: of its source.
        notebook: with solutions and answers.
        calls: its checks, with the keys LAB.CHECK.
    """

    name: str
    notebook: Node
    calls: list[dict[str, Any]]


def lab_of(source: Path) -> Lab:
    """What is asked in a lab."""
    notebook = read_lab(source)
    short = source.stem.split("_")[0]
    calls: list[dict[str, Any]] = []
    for call in calls_of(notebook):
        key = f"{short}.{call.name}"
        number = sum(other["name"] == call.name for other in calls)
        key += f".{number + 1}" if number else ""
        calls.append({**call._asdict(), "key": key})
    return Lab(source.stem, notebook, calls)


def grade(folder: Path, sources: Sequence[Path], out: Path, seconds: float) -> dict[str, Any]:
    """Grade everything in a folder, and write a table and a page of written answers.

    Args:
        folder: what was handed in: notebooks, folders or zip files named after students.
        sources: of the labs.
        out: the table; the page of answers lies beside it, as .html.
        seconds: the time limit per notebook.

    Raises:
        UsageError: If there are no notebooks, or the table cannot lie there.
    """
    if out.is_dir() or out.suffix.lower() in (".html", ".ipynb", ".zip"):
        raise UsageError(f"{out} is no name for a table of grades (grades.csv).")
    answers = out.with_suffix(".html")
    for file, start in ((out, "student,"), (answers, PAGE)):
        if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(
            start
        ):
            raise UsageError(f"{file} exists and is no earlier table: name another --out.")
    labs = {lab.name: lab for lab in map(lab_of, sources)}
    found = submissions(folder)
    make_directories(missing(out.parent))  # before the notebooks take their time
    graded = []
    for submission in found:
        one = grade_one(submission, labs, seconds)
        graded.append(one)
        points = f"{len(one.outcome.passed)} of {len(labs[one.lab].calls)}" if one.lab else "-"
        print(f"{submission.name}: {points} {'; '.join(one.outcome.errors)}".rstrip(), flush=True)
    used = [lab for lab in labs.values() if any(one.lab == lab.name for one in graded)]
    text, rows = table(graded, {lab.name: [c["key"] for c in lab.calls] for lab in used})
    write_text(out, text)
    write_text(answers, page(graded, {lab.name: lab.notebook for lab in used}))
    print(f"{out}: {len(rows)} students; {answers}: their written answers, and hints")
    return {"students": rows}


def grade_one(submission: Submission, labs: dict[str, Lab], seconds: float) -> Graded:
    """Run one notebook."""
    nothing = Outcome(set(), {}, [], [])
    if submission.notebook is None:
        return Graded(submission, "", nothing._replace(errors=[submission.trouble]), {})
    name, trouble = recognised(submission, labs)
    if not name:
        return Graded(submission, "", nothing._replace(errors=[trouble]), {})
    lab = labs[name]
    outcome = rerun(submission.notebook, lab.calls, seconds) if lab.calls else nothing
    if trouble:
        outcome.errors.insert(0, trouble)
    return Graded(submission, name, outcome, answers_of(submission.notebook, lab.notebook))


def recognised(submission: Submission, labs: dict[str, Lab]) -> tuple[str, str]:
    """Which lab a notebook is, by its metadata, else by its name; and what is odd about it."""
    assert submission.notebook is not None
    about = submission.notebook["metadata"].get("ppl_models") or {}
    name = about.get("lab") if isinstance(about, dict) else None
    if isinstance(name, str) and name in labs:
        given = labs[name].notebook.metadata["ppl_models"]["version"]
        old = about.get("version") != given
        return name, f"{submission.name} is another version of {name}" if old else ""
    file = re.sub(r"lab[\s_-]+(?=\d)", "lab", submission.name.rsplit("/", 1)[-1].lower())
    named = [lab for lab in labs if re.search(rf"{lab.split('_')[0]}(?!\d)", file)]
    if len(named) == 1 and name is None:
        return named[0], f"{submission.name} has lost its metadata: taken for {named[0]}"
    but = f", but {str(name)[:40]}" if name else ""
    return "", f"{submission.name} is none of the labs {', '.join(labs)}{but}"

"""From a folder of submissions to a table of points and a page of written answers."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from experiments.errors import UsageError
from experiments.reports.markdown import csv_table
from experiments.runs.files import make_directories, missing, write_text
from experiments.teaching.grading.running import Outcome, rerun
from experiments.teaching.grading.submissions import Submission, submissions
from experiments.teaching.notebooks.myst import Call, Node, calls_of
from experiments.teaching.notebooks.versions import PROMPT, read_lab

DETAILS = re.compile(r"</?details>|<summary>.*?</summary>")
STYLE = """body { font: 16px/1.5 sans-serif; max-width: 50em; margin: 1em auto; padding: 0 1em }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .6em }
details pre { background: #eef4ee }"""
PAGE = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Written answers</title>'


class Lab(NamedTuple):
    """A lab as it was given out, with solutions and answers, and its checks, by LAB.CHECK."""

    name: str
    notebook: Node
    calls: dict[str, Call]


class Graded(NamedTuple):
    """A submission and what came of it; ``lab`` is empty if it is none of the labs."""

    submission: Submission
    lab: str
    outcome: Outcome
    answers: dict[str, str]


def lab_of(source: Path) -> Lab:
    """What is asked in a lab."""
    notebook = read_lab(source)
    short = source.stem.split("_")[0]
    calls: dict[str, Call] = {}
    for call in calls_of(notebook):
        key = f"{short}.{call.name}"
        number = sum(other.name == call.name for other in calls.values())
        calls[f"{key}.{number + 1}" if number else key] = call
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
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else start
        if not text.startswith(start):
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
    text, rows = table(graded, used)
    write_text(out, text)
    write_text(answers, page(graded, used))
    print(f"{out}: {len(rows)} students; {answers}: their written answers, and hints")
    return {"students": rows}


def grade_one(submission: Submission, labs: dict[str, Lab], seconds: float) -> Graded:
    """Run one notebook."""
    name, trouble = recognised(submission, labs)
    if submission.notebook is None or not name:
        return Graded(submission, "", Outcome({}, [trouble], []), {})
    lab = labs[name]
    outcome = Outcome({}, [], [])
    if lab.calls:
        outcome = rerun(submission.notebook, lab.calls, seconds)
    if trouble:
        outcome.errors.insert(0, trouble)
    return Graded(submission, name, outcome, answers_of(submission.notebook, lab.notebook))


def recognised(submission: Submission, labs: dict[str, Lab]) -> tuple[str, str]:
    """Which lab a notebook is, by its metadata, else by its name; and what is odd about it."""
    if submission.notebook is None:
        return "", submission.trouble
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


def table(graded: Sequence[Graded], labs: Sequence[Lab]) -> tuple[str, list[dict[str, str | int]]]:
    """The table as CSV, and its rows.

    Of several notebooks of the same lab by one student, the one with the most points counts. A
    lab that a student did not hand in has empty cells.
    """
    keys = [key for lab in labs for key in lab.calls]
    names = ["student", *keys, "points", "of", "answers", "errors", "replaced"]
    rows = []
    for student in sorted({one.submission.student for one in graded}):
        own = [one for one in graded if one.submission.student == student]
        rows.append(_row(student, own, labs))
    shown = [{name: _harmless(row.get(name, "")) for name in names} for row in rows]
    return csv_table(shown), rows


def _row(student: str, own: list[Graded], labs: Sequence[Lab]) -> dict[str, str | int]:
    row: dict[str, str | int] = {"student": student}
    points = 0
    for lab in labs:
        tried = [one for one in own if one.lab == lab.name]
        if tried:
            passed = max((one.outcome.passed for one in tried), key=len)
            row |= {key: int(key in passed) for key in lab.calls}
            points += len(passed)
    row["points"] = points
    row["of"] = sum(len(lab.calls) for lab in labs)
    answered = {(one.lab, key) for one in own for key, text in one.answers.items() if text}
    row["answers"] = len(answered)
    row["errors"] = "; ".join(error for one in own for error in one.outcome.errors)
    row["replaced"] = ", ".join(sorted({name for one in own for name in one.outcome.replaced}))
    return row


def _harmless(value: str | int) -> str | int:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def questions_of(notebook: Any) -> dict[str, tuple[str, str]]:
    """What is asked in a lab and what is expected, by the names of the answers' cells."""
    found: dict[str, tuple[str, str]] = {}
    question = ""
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        if "answer" in cell["metadata"].get("tags", ()):
            expected = DETAILS.sub("", cell["source"]).strip()
            found[f"answer-{len(found) + 1}"] = question, expected
        elif "**Question.**" in cell["source"]:
            question = cell["source"].split("**Question.**")[1].strip()
    return found


def answers_of(notebook: dict[str, Any], lab: Any) -> dict[str, str]:
    """What a student wrote, by the names of the answers' cells; nothing where nothing is.

    Cells that were split or copied, and text cells added below an answer's, belong to it.
    """
    named: dict[str, list[str]] = {name: [] for name in questions_of(lab)}
    unnamed: list[list[str]] = []
    given = {text for cell in lab["cells"] for text in (cell["id"], cell["source"].strip())}
    own: list[str] | None = None  # the answer that a text cell belongs to
    for cell in notebook["cells"]:
        about = cell["metadata"].get("nbgrader")
        name = about.get("grade_id") if isinstance(about, dict) else None
        source = cell["source"].strip()
        if isinstance(name, str) and name in named:
            own = named[name]
        elif source.startswith(PROMPT):
            own = []
            unnamed.append(own)
        elif cell["cell_type"] != "markdown" or {str(cell.get("id")), source} & given:
            own = None
        if own is not None:
            own.append(source.replace(PROMPT, "", 1).strip())
    answers = {name: _joined(texts) for name, texts in named.items()}
    empty = [name for name, text in answers.items() if not text]
    return answers | dict(zip(empty, map(_joined, unnamed), strict=False))


def _joined(texts: Sequence[str]) -> str:
    return "\n\n".join(filter(None, texts))


def page(graded: Sequence[Graded], labs: Sequence[Lab]) -> str:
    """All answers to every question, and the hints of the checks, as one HTML page."""
    parts = [_page_of(lab, [one for one in graded if one.lab == lab.name]) for lab in labs]
    return f"{PAGE}\n<style>{STYLE}</style>\n<h1>Written answers</h1>\n{''.join(parts)}</html>\n"


def _page_of(lab: Lab, own: Sequence[Graded]) -> str:
    lines = [f"<h2>{escape(lab.name)}</h2>"]
    for key, (question, expected) in questions_of(lab.notebook).items():
        lines.append(f"<h3>{escape(key)}</h3>\n<p>{escape(question)}</p>")
        lines.append(f"<details><summary>Expected</summary>{_pre(expected)}</details>")
        for one in own:
            text = one.answers.get(key) or "(nothing)"
            lines.append(f"<h4>{escape(one.submission.student)}</h4>{_pre(text)}")
    lines.append("<h3>What the checks said</h3>")
    for one in own:
        hints = [f"{key}: {hint}" for key, hint in one.outcome.hints.items() if hint]
        words = "\n".join([*hints, *one.outcome.errors]) or "all right"
        lines.append(f"<h4>{escape(one.submission.student)}</h4>{_pre(words)}")
    return "\n".join(lines) + "\n"


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"

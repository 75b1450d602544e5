"""Points in a table, a row per student."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.reports.markdown import csv_table
from experiments.teaching.grading.running import Outcome
from experiments.teaching.grading.submissions import Submission


class Graded(NamedTuple):
    """A submission, and what came of it.

    Args:
        submission: what was handed in.
        lab: the name of the lab that it is; nothing if it is none.
        outcome: of running it.
        answers: what was written, by question.
    """

    submission: Submission
    lab: str
    outcome: Outcome
    answers: dict[str, str]


def table(
    graded: Sequence[Graded], checks: dict[str, list[str]]
) -> tuple[str, list[dict[str, str | int]]]:
    """The table as CSV, and its rows.

    Of several notebooks of the same lab by one student, the one with the most points counts. A
    lab that a student did not hand in has empty cells.

    Args:
        graded: all submissions.
        checks: the keys of the checks of every lab.
    """
    keys = [key for keys in checks.values() for key in keys]
    names = ["student", *keys, "points", "of", "answers", "errors", "replaced"]
    rows = []
    for student in sorted({one.submission.student for one in graded}):
        own = [one for one in graded if one.submission.student == student]
        rows.append(_row(student, own, checks))
    shown = [{name: _harmless(row.get(name, "")) for name in names} for row in rows]
    return csv_table(shown), rows


def _row(student: str, own: list[Graded], checks: dict[str, list[str]]) -> dict[str, str | int]:
    row: dict[str, str | int] = {"student": student}
    points = 0
    for lab, keys in checks.items():
        tried = [one for one in own if one.lab == lab]
        if tried:
            best = max(tried, key=lambda one: len(one.outcome.passed))
            row |= {key: int(key in best.outcome.passed) for key in keys}
            points += len(best.outcome.passed)
    row["points"] = points
    row["of"] = sum(len(keys) for keys in checks.values())
    answered = {(one.lab, key) for one in own for key, text in one.answers.items() if text}
    row["answers"] = len(answered)
    row["errors"] = "; ".join(error for one in own for error in one.outcome.errors)
    row["replaced"] = ", ".join(sorted({name for one in own for name in one.outcome.replaced}))
    return row


def _harmless(value: str | int) -> str | int:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value

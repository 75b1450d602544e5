"""Written answers, collected into one page beside what is expected."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from experiments.teaching.grading.table import Graded
from experiments.teaching.notebooks.versions import PROMPT

DETAILS = re.compile(r"</?details>|<summary>.*?</summary>")
STYLE = """body { font: 16px/1.5 sans-serif; max-width: 50em; margin: 1em auto; padding: 0 1em }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .6em }
details pre { background: #eef4ee }"""


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
    """What a student wrote, by the names of the answers' cells; nothing where nothing is."""
    answers = dict.fromkeys(questions_of(lab), "")
    unnamed = []
    for cell in notebook["cells"]:
        about = cell["metadata"].get("nbgrader")
        name = about.get("grade_id") if isinstance(about, dict) else None
        if isinstance(name, str) and name in answers:
            answers[name] = _own(cell["source"])
        elif cell["source"].lstrip().startswith(PROMPT):
            unnamed.append(_own(cell["source"]))
    empty = [name for name, text in answers.items() if not text]
    return answers | dict(zip(empty, unnamed, strict=False))


def _own(source: str) -> str:
    return source.replace(PROMPT, "", 1).strip()


PAGE = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Written answers</title>'


def page(graded: Sequence[Graded], labs: dict[str, Any]) -> str:
    """All answers to every question, and the hints of the checks, as one HTML page."""
    parts = [_lab(name, notebook, graded) for name, notebook in labs.items()]
    return f"{PAGE}\n<style>{STYLE}</style>\n<h1>Written answers</h1>\n{''.join(parts)}</html>\n"


def _lab(name: str, notebook: Any, graded: Sequence[Graded]) -> str:
    own = [one for one in graded if one.lab == name]
    lines = [f"<h2>{escape(name)}</h2>"]
    for key, (question, expected) in questions_of(notebook).items():
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

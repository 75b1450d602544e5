"""What nbgrader wants to know of a cell, by which it knows tasks, checks and answers."""

import re
from typing import Any

CALLED = re.compile(r"^check\.(\w+)\(", re.MULTILINE)
DEFINED = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)


def mark(notebook: Any) -> None:
    """Give tasks, checks and answers of a student's notebook the metadata that nbgrader reads.

    Students change tasks and answers; checks are locked, and each call is worth a point.
    """
    answers = 0
    for cell in notebook.cells:
        tags, called = cell.metadata["tags"], CALLED.findall(cell.source)
        if "answer" in tags:
            answers += 1
            _mark(cell, f"answer-{answers}", solution=True, points=1)
        elif cell.cell_type == "code" and "task" in tags:
            _mark(cell, "task-" + "-".join(DEFINED.findall(cell.source)), solution=True)
        elif cell.cell_type == "code" and called:
            _mark(cell, "check-" + "-".join(called), points=len(called))


def _mark(cell: Any, name: str, solution: bool = False, points: int = 0) -> None:
    cell.metadata["nbgrader"] = {
        "grade": bool(points),
        "grade_id": name,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    } | ({"points": points} if points else {})

"""The labs' notebooks: one source each, a version for students and one for teachers."""

from experiments.teaching.notebooks.calls import Call, calls_of
from experiments.teaching.notebooks.myst import Node, code_of, read_myst
from experiments.teaching.notebooks.sources import find_labs
from experiments.teaching.notebooks.versions import (
    read_lab,
    save,
    stubbed,
    student,
    teacher,
    worked_on,
)

__all__ = [
    "Call",
    "Node",
    "calls_of",
    "code_of",
    "find_labs",
    "read_lab",
    "read_myst",
    "save",
    "stubbed",
    "student",
    "teacher",
    "worked_on",
]

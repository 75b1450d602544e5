"""The labs' notebooks: one source each, a version for students and one for teachers."""

from experiments.teaching.notebooks.calls import calls_of
from experiments.teaching.notebooks.myst import Node, code_of, read_myst
from experiments.teaching.notebooks.sources import find_labs
from experiments.teaching.notebooks.versions import (
    keep_work,
    read_lab,
    save,
    sealed,
    stubbed,
    student,
    worked_on,
)

__all__ = [
    "Node",
    "calls_of",
    "code_of",
    "find_labs",
    "keep_work",
    "read_lab",
    "read_myst",
    "save",
    "sealed",
    "stubbed",
    "student",
    "worked_on",
]

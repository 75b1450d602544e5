"""The checks that a lab calls: what is worth a point, and which names it needs."""

import ast
import builtins
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.teaching.notebooks.myst import code_of


class Call(NamedTuple):
    """One call of a check in a lab.

    Args:
        name: of the check.
        code: the call, as Python.
        needs: the names in it that the notebook defines.
    """

    name: str
    code: str
    needs: tuple[str, ...]


def calls_of(notebook: Any) -> list[Call]:
    """The calls ``check.NAME(...)`` at the top level of a notebook's cells, in order."""
    return [call for code in code_of(notebook) for call in calls_in(code)]


def calls_in(code: str) -> Iterator[Call]:
    """The calls ``check.NAME(...)`` at the top level of some code."""
    for statement in ast.parse(code).body:
        if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
            continue
        function = statement.value.func
        if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "check":
            loaded = [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
            needs = dict.fromkeys(n for n in loaded if n != "check" and not hasattr(builtins, n))
            yield Call(function.attr, ast.unparse(statement), tuple(needs))

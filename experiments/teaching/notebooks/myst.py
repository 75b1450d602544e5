"""MyST markdown notebooks, as far as the labs use them, and the checks that they call."""

import ast
import builtins
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.errors import UsageError

FRONT = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```[ ]*$", re.DOTALL | re.MULTILINE)
TAGS = re.compile(r"\A:tags: \[(.*)\]\n+")
BREAK = re.compile(r"^\+\+\+[ ]*(\{.*\})?[ ]*$", re.MULTILINE)
MAGIC = re.compile(r"^(\s*)(?:[%!?].*|[\w.]+\?\??[ ]*)$", re.MULTILINE)
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class Node(dict):
    """A dictionary whose entries are attributes too, as notebook libraries have them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def read_myst(text: str) -> Node:
    """A MyST markdown notebook in the form of Jupyter's files (version 4.5).

    Raises:
        UsageError: If a code cell has no end.
    """
    cells = []
    for number, (kind, source, tags) in enumerate(_cells(FRONT.sub("", text))):
        cell = Node(cell_type=kind, id=f"cell-{number}", metadata=Node(tags=tags), source=source)
        if kind == "code":
            cell.update(execution_count=None, outputs=[])
        cells.append(cell)
    metadata = Node(kernelspec=dict(KERNEL))
    return Node(cells=cells, metadata=metadata, nbformat=4, nbformat_minor=5)


def _cells(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Kind, source and tags of every cell."""
    position = 0
    for code in CODE.finditer(text):
        yield from _markdown(text[position : code.start()])
        tags = TAGS.match(code[1])
        names = re.split(r"\s*,\s*", tags[1]) if tags else []
        yield "code", TAGS.sub("", code[1]).strip("\n"), names
        position = code.end()
    rest = text[position:]
    if "```{code-cell}" in rest:
        raise UsageError("a code cell has no end.")
    yield from _markdown(rest)


def _markdown(text: str) -> Iterator[tuple[str, str, list[str]]]:
    tags: list[str] = []
    for number, part in enumerate(BREAK.split(text)):
        if number % 2:  # what stands behind +++
            tags = json.loads(part).get("tags", []) if part else []
        elif part.strip():
            yield "markdown", part.strip("\n"), tags


def code_of(notebook: Any) -> list[str]:
    """The code cells as plain Python."""
    return [plain(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def plain(source: str) -> str:
    """A cell's code without the lines that only IPython understands."""
    lines = source.split("\n")
    with warnings.catch_warnings(action="ignore"):
        while True:
            try:
                ast.parse("\n".join(lines))
            except Exception as error:  # of any kind: the process that runs the cell reports it
                number = getattr(error, "lineno", None) or 0
                (line,) = lines[number - 1 : number] or [""]
                if not MAGIC.match(line):
                    return MAGIC.sub(r"\1pass", source)
                lines[number - 1] = MAGIC.sub(r"\1pass", line)
            else:  # where % and ! still begin a line, they are operators or inside a string
                return "\n".join(lines)


class Call(NamedTuple):
    """A call of a check: its name, the call as Python, and the notebook's names that it needs."""

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

"""One source, two versions: a lab for students and one for teachers.

A source is a MyST markdown notebook. In its code cells the lines between ``# BEGIN SOLUTION`` and
``# END SOLUTION`` are the solution; the lines ``# HINT: ...`` among them are what a student gets
instead. Cells tagged ``answer`` hold written answers, cells tagged ``teacher`` are for teachers
alone.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from experiments.errors import UsageError

__all__ = ["code_of", "read_lab", "student", "teacher", "worked_on"]

REGION = re.compile(
    r"^(?P<indent>[ ]*)# BEGIN SOLUTION\n(?P<body>.*?)^(?P=indent)# END SOLUTION$", re.M | re.S
)
HINT = re.compile(r"^ *# HINT: (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\((lab\d\w*)\.md\)")
EMPTY = "*Your answer:*\n\n"


def read_lab(path: Path) -> Any:
    """A lab's source as a notebook.

    Raises:
        UsageError: If jupytext is missing, or the source is no notebook.
    """
    try:
        import jupytext
    except ImportError as error:
        raise UsageError("jupytext is missing: pip install '.[labs]'") from error
    try:
        notebook = jupytext.read(path, fmt="md:myst")
    except Exception as error:  # jupytext lets through whatever its parsers raise
        raise UsageError(f"{path} is no MyST notebook: {error}") from error
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(r"](\1.ipynb)", cell.source)
    notebook.metadata.pop("jupytext", None)
    return notebook


def teacher(notebook: Any) -> Any:
    """The lab with its solutions and answers, as it is in the source."""
    return sealed(notebook)


def student(notebook: Any, name: str = "the lab") -> Any:
    """The lab with a stub and a hint for every solution, and room for every answer.

    Raises:
        UsageError: If a solution has no end or no hint.
    """
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata["tags"]
        if "teacher" in tags:
            continue
        if "answer" in tags:
            cell.source = EMPTY
        elif cell.cell_type == "code" and "# BEGIN SOLUTION" in cell.source:
            cell.source = stubbed(cell.source, name)
            cell.metadata["tags"] = ["task"]
        cells.append(cell)
    notebook.cells = cells
    return sealed(notebook)


def stubbed(source: str, name: str) -> str:
    """A cell's code with every solution replaced by its hint.

    Raises:
        UsageError: If a solution has no end or no hint.
    """
    found = REGION.sub(_stub, source)
    if "BEGIN SOLUTION" in found or "END SOLUTION" in found or "# HINT: " in found:
        first = source.strip().splitlines()[0]
        raise UsageError(f"{name}: a solution has no end, or no hint, in the cell '{first}'.")
    return found


def _stub(region: re.Match[str]) -> str:
    """The lines that stand for a solution."""
    hints = HINT.findall(region["body"])
    if not hints:
        return region[0]
    lines = [f"# Your turn. {hints[0]}", *(f"# {hint}" for hint in hints[1:])]
    words = " ".join(hints).replace('"', "'")
    lines.append(f'raise NotImplementedError("To be written: {words}")')
    return "\n".join(region["indent"] + line for line in lines)


def sealed(notebook: Any) -> Any:
    """The notebook with a checksum of its cells, by which later work on it is told."""
    notebook.metadata["ppl_models"] = {"checksum": _checksum(notebook)}
    return notebook


def _checksum(notebook: Any) -> str:
    text = "\0".join(cell["source"] for cell in notebook["cells"])
    return hashlib.sha256(text.encode()).hexdigest()


def worked_on(path: Path) -> bool:
    """Whether a file lies there that is not a notebook as ``sealed`` left it."""
    if not path.exists():
        return False
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        return bool(notebook.metadata["ppl_models"]["checksum"] != _checksum(notebook))
    except Exception:  # something else: not ours to overwrite
        return True


def code_of(notebook: Any) -> list[str]:
    """The code cells as plain Python: lines that only IPython understands left out."""
    return [
        re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]

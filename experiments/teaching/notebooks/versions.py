"""One source, two versions: a lab for students and one for teachers.

A source is a MyST markdown notebook. In its code cells the lines between ``# BEGIN SOLUTION`` and
``# END SOLUTION`` are the solution; the lines ``# HINT: ...`` among them are what a student gets
instead. Cells tagged ``answer`` hold written answers, cells tagged ``teacher`` are for teachers
alone.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from experiments.errors import UsageError
from experiments.runs.files import write
from experiments.teaching.notebooks.myst import calls_in, plain, read_myst

BEGIN = "# BEGIN SOLUTION"

REGION = re.compile(
    r"^(?P<indent>[ ]*)# BEGIN SOLUTION\n(?P<body>.*?)^(?P=indent)# END SOLUTION$", re.M | re.S
)
HINT = re.compile(r"^ *# HINT: (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\((lab\d\w*|exercises)\.md\)")
PROMPT = "*Your answer:*"
"""What stands where a written answer goes."""
UNKNOWN = re.compile(r'PROJECT = "\.".*')
DEFINED = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)
ERA = (1980, 1, 1, 0, 0, 0)
"""The date of every entry of a zip file: the same notebooks give the same file, bit for bit."""


def read_lab(path: Path) -> Any:
    """A lab's source as a notebook.

    Raises:
        UsageError: If the source is no notebook.
    """
    try:
        notebook = read_myst(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no MyST notebook: {error}") from error
    address = repository()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(r"](\1.ipynb)", cell.source)
        elif address:  # the first cell installs from there, without a change by hand
            cell.source = UNKNOWN.sub(f'PROJECT = "{address}"', cell.source)
    # a version is named after what students are asked: its tasks and checks
    asked = [c.source for c in notebook.cells if BEGIN in c.source or "check." in c.source]
    notebook.metadata["ppl_models"] = {"lab": path.stem, "version": _digest(asked)[:12]}
    return notebook


def repository() -> str:
    """The version of this project in its repository, as pip takes it; nothing without an address.

    The address is the entry ``Repository`` of the package's URLs.
    """
    try:
        about = metadata("ppl-models")
    except PackageNotFoundError:
        return ""
    for line in about.get_all("Project-URL") or ():
        name, _, address = line.partition(", ")
        if name.lower() == "repository":
            return f"git+{address}@v{about['Version']}"
    return ""


def student(notebook: Any, name: str) -> Any:
    """The lab with a stub and a hint for every solution, and room for every answer."""
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata["tags"]
        if "teacher" in tags:
            continue
        if "answer" in tags:
            cell.source = f"{PROMPT}\n\n"
        elif cell.cell_type == "code" and BEGIN in cell.source:
            cell.source = stubbed(cell.source, name)
            cell.metadata["tags"] = ["task"]
        cells.append(cell)
    notebook.cells = cells
    mark(notebook)
    return notebook


def mark(notebook: Any) -> None:
    """Give tasks, checks and answers of a student's notebook the metadata that nbgrader reads.

    Students change tasks and answers; checks are locked, and each call is worth a point.
    """
    answers = 0
    for cell in notebook.cells:
        tags = cell.metadata["tags"]
        if "answer" in tags:
            answers += 1
            _mark(cell, f"answer-{answers}", solution=True, points=1)
        elif cell.cell_type == "code" and "task" in tags:
            _mark(cell, "task-" + "-".join(DEFINED.findall(cell.source)), solution=True)
        elif cell.cell_type == "code":
            called = [call.name for call in calls_in(plain(cell.source))]
            if called:
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


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def keep_work(targets: Iterable[Path]) -> None:
    """Refuse to overwrite what somebody has worked on."""
    for path in filter(worked_on, targets):
        raise UsageError(f"{path} has been worked on: move it away, or give another --out.")


def worked_on(path: Path) -> bool:
    """Whether a file lies there that is not a notebook as ``save`` wrote it."""
    if not path.exists():
        return False
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        sources = ["".join(cell["source"]) for cell in notebook["cells"]]
        return bool(notebook["metadata"]["ppl_models"]["checksum"] != _digest(sources))
    except Exception:  # something else: not ours to overwrite
        return True


def save(notebook: Any, target: Path) -> None:
    """Write a notebook, with a checksum of its cells, by which later work on it is told."""
    about = notebook["metadata"]["ppl_models"]
    about["checksum"] = _digest(cell["source"] for cell in notebook["cells"])
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    write(target, lambda path: path.write_text(text, encoding="utf-8"), parents=True)


def is_packed(path: Path) -> bool:
    """Whether ``pack`` wrote a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # something else: not ours to overwrite
        return False
    return all(one.filename.startswith("labs/") and one.date_time == ERA for one in entries)


def pack(paths: Iterable[Path], root: Path, target: Path) -> None:
    """Put notebooks into a zip file, by their paths below ``root``."""

    def fill(file: Path) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(paths):
                entry = zipfile.ZipInfo(f"labs/{path.relative_to(root).as_posix()}", ERA)
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)

    write(target, fill, parents=True)

"""What students handed in: notebooks, in folders or zip files, and whose they are."""

import json
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments.errors import UsageError, reason

LAB_NAME = re.compile(
    r"[\s_.-]*(lab[\s_-]*\d\w*|exercises)"
    r"(?:[\s_-]*(?:copy|copie|copia|kopie|final|v(?=\d))|[\s().\d-])*$",
    re.IGNORECASE,
)
NOTEBOOK = re.compile(r"\.ipynb(\.(txt|json))?$", re.IGNORECASE)
"""Ends of notebooks' names; browsers and mail programs add the second."""
SKIPPED = re.compile(r"\.[^.]|__(MACOSX|pycache__)$")
"""Names of files and folders that are skipped: those of systems and programs, not . itself."""
ARCHIVE = re.compile(r"\.(7z|rar|tar|tgz|tar\.\w+)$", re.IGNORECASE)
"""Ends of the names of archives that are not read."""
LARGEST = 50_000_000
"""Maximum size of a notebook [bytes]."""


class Submission(NamedTuple):
    """One notebook, by its path below the folder; ``trouble`` says why it cannot be read."""

    student: str
    name: str
    notebook: dict[str, Any] | None
    trouble: str


def submissions(folder: Path) -> list[Submission]:
    """All notebooks in a folder, or in one student's zip file, in the order of their names.

    Raises:
        UsageError: If there are none.
    """
    if not folder.exists():
        raise UsageError(f"{folder}: there is no such folder.")
    root = folder if folder.is_dir() else folder.parent
    paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    found = [item for path in paths if path.is_file() for item in _read(root, path)]
    if not found:
        raise UsageError(
            f"there are no notebooks in {folder}: expected are files STUDENT.ipynb, folders or "
            "zip files named after students with notebooks in them."
        )
    if folder.is_dir():
        found += _without(folder, {one.student for one in found})
    return found


def _without(folder: Path, known: set[str]) -> Iterator[Submission]:
    """The folders of students who have handed in no notebook."""
    for path in sorted(folder.iterdir()):
        student = _student((path.name, ""))
        if path.is_dir() and not SKIPPED.match(path.name) and student not in known:
            yield Submission(student, path.name, None, f"there is no notebook in {path.name}")


def _read(root: Path, path: Path) -> Iterator[Submission]:
    """The notebooks in a file: one, several, or none."""
    parts = path.relative_to(root).parts
    if any(map(SKIPPED.match, parts)):
        return
    name = "/".join(parts)
    student = _student(parts)
    if NOTEBOOK.search(path.name):
        yield _opened(student, name, path.read_bytes())
    elif path.suffix.lower() == ".zip":
        try:
            yield from _unzipped(student, name, path)
        except Exception as error:  # damaged contents raise what their compression does
            trouble = f"{name} is no readable zip file ({reason(error)})"
            yield Submission(student, name, None, trouble)
    elif ARCHIVE.search(path.name):
        trouble = f"{name} is no zip file: other archives are not opened"
        yield Submission(student, name, None, trouble)


def _student(parts: tuple[str, ...]) -> str:
    """Who handed it in: the folder, or the file's name without that of the lab."""
    first = unicodedata.normalize("NFC", parts[0])
    if len(parts) > 1:
        return first
    stem = re.sub(r"(\.(ipynb|tar))?\.\w+$", "", first, flags=re.IGNORECASE)
    return LAB_NAME.sub("", stem) or stem


def _unzipped(student: str, name: str, path: Path) -> Iterator[Submission]:
    with zipfile.ZipFile(path) as archive:
        entries = [(_zip_name(entry), entry) for entry in archive.infolist()]
        notebooks = [
            (inside, entry)
            for inside, entry in entries
            if NOTEBOOK.search(inside) and not any(map(SKIPPED.match, inside.split("/")))
        ]
        if not notebooks:
            yield Submission(student, name, None, f"there is no notebook in {name}")
        for inside, entry in notebooks:
            if entry.file_size > LARGEST:
                yield Submission(student, inside, None, f"{inside} is too large for a notebook")
            else:
                yield _opened(student, f"{name}/{inside}", archive.read(entry))


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """The name of a file in a zip file; UTF-8 even where the file does not say so."""
    if entry.flag_bits & 0x800:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename


def _opened(student: str, name: str, content: bytes) -> Submission:
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
        cells = notebook["cells"]
        for cell in cells:
            cell["source"] = "".join(cell["source"])
            cell["metadata"] = dict(cell.get("metadata") or {})
            cell["cell_type"] = str(cell["cell_type"])
        notebook["metadata"] = dict(notebook.get("metadata") or {})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        kind = "empty" if not content.strip() else reason(error)
        return Submission(student, name, None, f"{name} is no notebook ({kind})")
    return Submission(student, name, notebook, "")

"""Notebooks in one file, for a release."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from experiments.runs.files import write

ERA = (1980, 1, 1, 0, 0, 0)
"""The date of every entry: the same notebooks give the same file, bit for bit."""


def pack(paths: Iterable[Path], root: Path, target: Path) -> None:
    """Put files into a zip file, by their paths below ``root``."""
    found = sorted(paths)

    def fill(file: Path) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in found:
                entry = zipfile.ZipInfo(f"labs/{path.relative_to(root).as_posix()}", ERA)
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)

    write(target, fill, parents=True)

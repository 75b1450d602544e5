"""The message for a run that does not exist."""

from collections.abc import Iterator
from pathlib import Path

SHOWN = 5
"""Number of runs to list, the newest first."""


def no_run(path: Path) -> str:
    """Why a file of a run is missing, and the newest runs nearby, in one line."""
    from ppl_models.names import suggestion  # imports torch

    directory = path.parent
    if directory.is_dir():
        words = f"{directory} is not a run: it has no {path.name}."
        return words + _listed(directory, "It holds the runs")
    parent = directory.parent if any(_runs(directory.parent)) else Path("runs")
    near = suggestion(directory.name, [run.name for run in _runs(parent)])
    return f"{directory} does not exist. {near.capitalize()}".rstrip() + _listed(
        parent, f"The newest runs {'here' if parent == Path() else f'in {parent}'} are"
    )


def _listed(directory: Path, words: str) -> str:
    names = [run.name for run in _runs(directory)][:SHOWN]
    return f" {words} {', '.join(names)}." if names else ""


def _runs(directory: Path) -> Iterator[Path]:
    """The runs in a directory, the newest first; none if it cannot be read."""
    dated = []
    try:
        for run in directory.iterdir():
            config = run / "config.json"
            if config.is_file():
                dated.append((config.stat().st_mtime, run))
    except OSError:
        pass
    yield from (run for _, run in sorted(dated, reverse=True))

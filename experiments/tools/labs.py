"""What do students and teachers get? The labs' notebooks, from one source each.

Student notebooks have a stub and a hint where a solution was, and room for answers; teacher
notebooks have both, and are executed. With --data mnist the teachers' are executed on MNIST, and
what they print is compared with the figures that they quote.

    python -m experiments labs
    python -m experiments labs --labs 2 --no-execute
    python -m experiments labs --data mnist
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.errors import TrainingError, UsageError, one_line
from experiments.runs.cli import cli
from experiments.runs.files import write
from experiments.teaching.notebooks import read_lab, student, teacher, worked_on


@dataclass(frozen=True)
class Config:
    labs: tuple[int, ...] = ()
    """Numbers of the labs; by default all of them."""
    data: Literal["digits", "mnist"] = "digits"
    """What teacher notebooks are executed on; with mnist they alone are written."""
    execute: bool = True
    """Execute the teacher notebooks."""
    source: Path = Path("docs/labs")
    """Where the sources are: in a clone of the repository."""
    out: Path = Path("build/labs")
    """Where the notebooks go: student, teacher and mnist inside it."""


def main(config: Config) -> dict[str, Any]:
    sources = find(config)
    if config.data == "mnist":
        from experiments.data import load

        load("mnist")  # a notebook would fall back to digits
    folders = ("mnist",) if config.data == "mnist" else ("student", "teacher")
    targets = {
        (path, folder): config.out / folder / f"{path.stem}.ipynb"
        for path in sources
        for folder in folders
    }
    kept = [target for target in targets.values() if worked_on(target)]
    if kept:
        raise UsageError(f"{kept[0]} has been worked on: move it away, or give another --out.")
    seconds: dict[str, float] = {}
    for (path, folder), target in targets.items():
        notebook = read_lab(path)
        if folder == "student":
            student(notebook, path.name)
        else:
            teacher(notebook)
        took = ""
        if config.execute and folder != "student":
            seconds[path.stem] = executed(notebook, path.name, config.data)
            took = f", executed in {seconds[path.stem]:.0f} s"
        save(notebook, target)
        print(f"{target}{took}", flush=True)
    return {"labs": [path.stem for path in sources], "seconds": seconds}


def find(config: Config) -> list[Path]:
    """The sources of the labs that were asked for.

    Raises:
        UsageError: If there are none.
    """
    found = sorted(config.source.glob("lab[0-9]*.md"))
    if not found:
        raise UsageError(
            f"there are no labs in {config.source}: start this in a clone of the repository, or "
            "give --source."
        )
    numbers = {int(path.stem.split("_")[0].removeprefix("lab")): path for path in found}
    for number in config.labs:
        if number not in numbers:
            words = ", ".join(map(str, numbers))
            raise UsageError(f"there is no lab {number}; there are {words}.")
    return [numbers[number] for number in config.labs or numbers]


def save(notebook: Any, target: Path) -> None:
    """Write a notebook."""
    import nbformat

    write(target, lambda path: nbformat.write(notebook, path), parents=True)


def executed(notebook: Any, name: str, data: str) -> float:
    """Run all cells in a kernel of their own, and keep what they show; the seconds it took.

    Raises:
        UsageError: If there is no Jupyter to run them.
        TrainingError: If a cell fails.
    """
    try:
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
        from traitlets.config import Config as Traits
    except ImportError as error:
        raise UsageError("nbclient is missing: pip install '.[labs]', or --no-execute") from error
    os.environ["LAB_DATA"] = data  # the kernel inherits it
    started = time.perf_counter()
    local = {"KernelManager": {"transport": "ipc"}} if os.name == "posix" else {}
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": "."}},
        config=Traits(local),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise TrainingError(f"{name}: {one_line(str(error), 1500)}") from error
    return round(time.perf_counter() - started, 1)


if __name__ == "__main__":
    cli(Config, main)

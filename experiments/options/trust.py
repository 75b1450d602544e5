"""Where a module's code would be imported from, determined before any of it runs."""

import os
import sys
from collections.abc import Collection, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from experiments.errors import UsageError


class Trusted(NamedTuple):
    """What the user allows to be imported for a run.

    ``model`` and ``guide`` are those that the user names for the run; ``others`` are further
    guides that the user names; ``everything`` is ``--trust``.
    """

    model: str | None = None
    guide: str | None = None
    others: Collection[str] = ()
    everything: bool = False


NOTHING = Trusted()


def check_named(directory: Path, model: str, guide: str, trusted: Trusted) -> None:
    """Refuse to import a class that the run names but the user does not."""
    for kind, name, named in (("model", model, trusted.model), ("guide", guide, trusted.guide)):
        known = trusted.everything or name == named or (kind == "guide" and name in trusted.others)
        if ":" in name and not known:
            option = f"--model {name}" if kind == "model" else "--trust"
            raise UsageError(
                f"{directory} was trained with a {kind} from outside this package, {name!r}: if "
                f"you know and trust that code, add {option}"
            )
        if named not in (None, name):
            raise UsageError(f"the {kind} of {directory} is {name}, not {named}.")


def check_outside_of_runs(module: str) -> None:
    """Refuse a module, or a package around it, that lies in a run directory."""
    for path in _places(module):
        for folder in (path, *path.parents, *path.resolve().parents):
            if (folder / "config.json").exists() and (folder / "checkpoint").exists():
                raise UsageError(
                    f"module {module} lies in the run directory {folder}, and no code is imported "
                    "from there: move it elsewhere."
                )


def _places(module: str) -> Iterator[Path]:
    """A module's file, and the folders and files of the packages around it, outermost first.

    ``importlib.util.find_spec`` would import these packages.
    """
    outer, *inner = module.split(".")
    found = (finder.find_spec(outer, None) for finder in sys.meta_path)
    spec = next((spec for spec in found if spec is not None), None)
    while spec is not None:
        if spec.origin is not None and spec.has_location:
            yield Path(os.path.abspath(spec.origin))
        folders = list(spec.submodule_search_locations or ())
        yield from (Path(os.path.abspath(folder)) for folder in folders)
        spec = PathFinder.find_spec(inner.pop(0), folders) if inner else None

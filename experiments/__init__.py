"""Everything that combines models and guides: data, inference, evaluation, commands."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.data import Data, load
    from experiments.evaluation.metrics import evaluate
    from experiments.inference.fit import fit
    from experiments.inference.svi import SVI

__all__ = ["SVI", "Data", "evaluate", "fit", "load"]

HOMES = {
    "SVI": "experiments.inference.svi",
    "Data": "experiments.data",
    "evaluate": "experiments.evaluation.metrics",
    "fit": "experiments.inference.fit",
    "load": "experiments.data",
}
"""Modules that define the public names; they are imported lazily, so that `--help` loads no
torch."""

# `python -m experiments` puts the working directory first on the path, so a file such as torch.py
# there would be imported as a library. A user's models are imported from it by name.
if (
    sys.argv[:1] == ["-m"]
    and sys.path[:1] == [os.getcwd()]
    and not os.path.samefile(os.getcwd(), os.path.dirname(os.path.dirname(__file__)))
):
    sys.path.pop(0)
# While `python -m experiments.vae` looks for its module, argv[0] is still "-m"; `-m experiments`
# checks for itself, after its --help.
if sys.argv[:1] == ["-m"] and not {"experiments", "-mexperiments"} & set(sys.orig_argv):
    from experiments.options.process.installed import check_installed

    check_installed()


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)

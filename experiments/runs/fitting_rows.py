"""The training of a run whose model is frozen: every row of its guide by itself."""

import time
from typing import TYPE_CHECKING

from experiments.data import Data
from experiments.inference.fit import Position, Progress
from experiments.inference.frozen import fit_rows
from experiments.inference.svi import SVI
from experiments.runs.fitting import Fitting

if TYPE_CHECKING:
    from experiments.runs.run import Run

__all__ = ["fit_frozen"]


def fit_frozen(run: "Run", svi: SVI, data: Data) -> None:
    """Give every row of a per-datum guide under a frozen model its steps."""
    fitting, guide = Fitting(run, svi, data), svi.guide
    if fitting.restore():
        run.say("every row has had its steps already.")
        return
    run.say(
        f"the model is frozen: every row takes {guide.local_steps} steps of its own "
        "(--guide.local-steps), no epochs."
    )
    began = time.perf_counter()
    losses = fit_rows(svi.model, guide, data, svi.objective)
    seconds = time.perf_counter() - began
    run.record(Progress(1, len(losses), losses[-1], losses, guide.local_lr, seconds))
    fitting.position = Position(1)
    fitting.save()

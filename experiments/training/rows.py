"""The training of a run with a frozen model and a per-datum guide."""

import time
from collections.abc import Callable, Iterator

from experiments.data import Data
from experiments.inference.fit import Position, Progress
from experiments.inference.frozen import fit_rows
from experiments.inference.optim import Schedule
from experiments.inference.svi import SVI, Pair
from experiments.runs.checkpoint import save_weights
from experiments.runs.processes import require_one_process
from experiments.runs.run import Run
from experiments.training.fitting import Fitting


def fit_frozen(run: Run, svi: SVI, data: Data) -> None:
    """Fit all rows of a per-datum guide with the model frozen."""
    fitting, guide = Fitting(run, svi, data), svi.guide
    if not fitting.restore():
        fitting.save()  # a log alone could not be continued
        run.renew()
    elif fitting.position.epoch:
        run.say("all rows have been fitted already.")
        return
    run.say(
        f"the model is frozen: every row takes {guide.local_steps} local steps "
        "(--guide.local-steps) instead of epochs."
    )
    began = time.perf_counter()
    losses = fit_rows(svi.model, guide, data, svi.objective)
    seconds = time.perf_counter() - began
    run.record(Progress(1, len(losses), losses[-1], losses, guide.local_lr, seconds))
    fitting.position = Position(1)
    fitting.save()


def fit_in(
    run: Run,
    svi: SVI,
    data: Data,
    anneal: Callable[[float], None] | None = None,
    schedule: Schedule | None = None,
) -> Iterator[Progress]:
    """``fit`` with the options of this run, with log, checkpoints and ``--resume``."""
    if not svi.trains:
        require_one_process("what has nothing to train runs")
        save_weights(run.path, Pair(svi.model, svi.guide))
        run.renew()
        run.say("nothing to train: neither the model nor the guide has free parameters.")
    elif not any(p.requires_grad for p in svi.model.parameters()) and svi.local_optim:
        require_one_process("a per-datum guide with a frozen model is fitted")
        fit_frozen(run, svi, data)
    else:
        yield from Fitting(run, svi, data)(anneal, schedule)

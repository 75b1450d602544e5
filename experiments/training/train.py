"""Training and evaluation of a pair in a run directory."""

import time
from collections.abc import Callable
from typing import Any

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.bounds import DRAWS, whole_bound
from experiments.evaluation.metrics import measure, protocol, summary
from experiments.inference.fit import Position, Progress
from experiments.inference.frozen import fit_rows
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import IWAE, OBJECTIVES, DReG, LogJoint, Renyi
from experiments.inference.optim import Schedule
from experiments.inference.optim.schedules import cyclical
from experiments.inference.precision import products
from experiments.inference.svi import SVI, Pair
from experiments.reports.page import finish, finish_pair
from experiments.reports.tables import figures_table
from experiments.reports.words.titles import subject
from experiments.runs.checkpoint import save_weights
from experiments.runs.metrics import Metrics, save_values
from experiments.runs.processes import require_one_process
from experiments.runs.run import Run
from experiments.training.fitting import Fitting
from experiments.training.pair import is_frozen
from experiments.training.pictures import lab_pictures, loss_picture
from experiments.training.watch import collapsed
from guides import Guide
from ppl_models.random_numbers import seeded
from ppl_models.sites import describe


def start(run: Run, pair: SVI | Pair, options: dict[str, Any] | None = None) -> None:
    """Write the configuration and print what will be trained."""
    names = ("model", "model_options", "guide", "guide_options")
    options = options or {name: getattr(run.config, name) for name in names}
    run.save_config(pair=options)
    number = Pair(pair.model, pair.guide).number_of_parameters
    run.say(f"{options['model']} under {options['guide']}: {number} parameters")


def train_pair(run: Run, svi: SVI, data: Data, options: dict[str, Any] | None = None) -> None:
    """Train a pair with a run's options, with log, checkpoints and ``--resume``."""
    config = run.config
    beta, rise, cycles = config.beta, config.kl_anneal, config.cycles
    annealed = beta != 1 or rise
    if annealed and isinstance(svi.objective, (IWAE, DReG, Renyi, LogJoint)):
        raise UsageError(
            "--beta and --kl-anneal weight the KL of an ELBO: use --objective elbo, "
            "elbo_analytic_kl, elbo_free_bits, stl or miselbo."
        )
    if annealed and trains_rows_only(svi):
        raise UsageError(
            "--beta and --kl-anneal do not apply to per-datum guides with a frozen decoder."
        )
    if rise and config.patience:
        raise UsageError("--patience compares losses that --kl-anneal changes: use one of them.")
    if trains_rows_only(svi):
        for name in ("minutes", "patience", "clip", "compile"):
            if getattr(config, name) not in (None, False):
                raise UsageError(
                    f"--{name} has no effect: with a frozen decoder the rows of a per-datum guide "
                    "take --guide.local-steps instead of epochs."
                )
    start(run, svi, options)
    temper = TemperKL(beta)

    def anneal(progress: float) -> None:
        temper.beta = cyclical(progress, beta, rise, cycles)

    with temper, products(config.products):
        fit_in(run, svi, data, anneal)


def trains_rows_only(svi: SVI) -> bool:
    """Whether only the rows of a per-datum guide are trained, the model being frozen."""
    return is_frozen(svi.model) and svi.local_optim is not None


def fit_in(
    run: Run,
    svi: SVI,
    data: Data,
    anneal: Callable[[float], None],
    schedule: Schedule | None = None,
) -> None:
    """``fit`` with the options of this run, with log, checkpoints and ``--resume``."""
    if not svi.trains:
        require_one_process("what has nothing to train runs")
        save_weights(run.path, Pair(svi.model, svi.guide))
        run.renew()
        run.say("nothing to train: neither the model nor the guide has free parameters.")
    elif trains_rows_only(svi):
        require_one_process("a per-datum guide with a frozen model is fitted")
        fit_frozen(run, svi, data)
    else:
        Fitting(run, svi, data).train(anneal, schedule)


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


def conclude(run: Run, svi: SVI, train: Data, test: Data, **more: Any) -> dict[str, Any]:
    """Evaluate both splits; write metrics, the lab's pictures and the report.

    The contents of ``metrics.json`` are returned. ``protocol`` is that of the test split; the one
    of the train split differs only in its images.
    """
    config, model, guide = run.config, svi.model, svi.guide
    built = run.content["pair"]
    objective = next(n for n, c in OBJECTIVES.items() if type(svi.objective) is c)
    train, test = train.fixed().like(model), test.fixed().like(model)
    epochs = more.pop("epochs", len(run.lines))
    decoder = "frozen" if is_frozen(model) else "learned"
    metrics = Metrics(
        built["model"],
        built["guide"],
        train.name,
        protocol(test, guide, None),
        objective,
        config.seed,
        epochs,
        Pair(model, guide).number_of_parameters,
        more={"sampled_sites": svi.objective.sampled_sites, "decoder": decoder, **more},
    )
    if describe(model).of_all_data:
        return conclude_whole(run, svi, train, metrics)
    fitted: list[Guide] = []
    for data in (train, test):
        measured = measure(model, guide, data, config.seed, None, config.memory)
        metrics.add(data.split, summary(measured.values, guide, None))
        fitted.append(measured.guide)
    save_values(run.path, measured.values)
    run.save_metrics(metrics)
    model.eval(), guide.eval()
    lab_pictures(run, model, (fitted[0], fitted[1]), train, test, objective)
    return finish_pair(run, metrics, warnings=collapsed(svi, fitted[1], test, rows=500))


def conclude_whole(run: Run, svi: SVI, train: Data, metrics: Metrics) -> dict[str, Any]:
    """As ``conclude``, with global latents: the bound of the whole training set.

    Test rows are not measured: their density given the training set needs its latents integrated
    out, which a bound does not do.
    """
    model, guide, config = svi.model.eval(), svi.guide.eval(), run.config
    with seeded(config.seed):
        value, error = whole_bound(model, guide, train, DRAWS, config.memory)
    name = "log_joint" if metrics.objective == "log_joint" else "elbo"
    how = {"estimator": "whole_data", "particles": DRAWS}
    metrics.protocol = protocol(train, guide, None) | how
    metrics.add("train", {name: value, f"{name}_se": error})
    run.say(
        f"train {name} {value:.4f} ± {error:.4f} ({DRAWS} draws)  [nats per data point of the "
        "whole set]"
    )
    run.save_metrics(metrics)
    loss_picture(run, str(metrics.objective))
    found = (
        f"The {name} of the whole training set, divided by its rows, is {value:.4f} ± {error:.4f} "
        "nats per data point. The latents are global, so the error is that of the draws, and no "
        "test rows are measured."
    )
    tables = {"Figures": figures_table(metrics.measured, "data point", "draws of q")}
    title = subject(metrics.model, metrics.data, str(metrics.guide))
    return finish(run, metrics, title, [found], tables)

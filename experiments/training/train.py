"""Training and evaluation of a pair in a run directory."""

from typing import Any

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.metrics import measure, protocol, summary
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import IWAE, OBJECTIVES, DReG, LogJoint, Renyi
from experiments.inference.optim.schedules import cyclical
from experiments.inference.precision import products
from experiments.inference.svi import SVI, Pair
from experiments.reports.page import finish_pair
from experiments.runs.metrics import Metrics, save_values
from experiments.runs.run import Run
from experiments.training.pair import is_frozen
from experiments.training.pictures import lab_pictures
from experiments.training.rows import fit_in
from experiments.training.watch import collapsed
from experiments.training.whole_data import conclude_whole
from guides import Guide
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
    beta, rise, cycles = run.config.beta, run.config.kl_anneal, run.config.cycles
    if (beta != 1 or rise) and isinstance(svi.objective, (IWAE, DReG, Renyi, LogJoint)):
        raise UsageError(
            "--beta and --kl-anneal weight the KL of an ELBO: use --objective elbo, "
            "elbo_analytic_kl, elbo_free_bits, stl or miselbo."
        )
    if (beta != 1 or rise) and is_frozen(svi.model) and svi.local_optim:
        raise UsageError(
            "--beta and --kl-anneal do not apply to per-datum guides with a frozen decoder."
        )
    if rise and run.config.patience:
        raise UsageError("--patience compares losses that --kl-anneal changes: use one of them.")
    if is_frozen(svi.model) and svi.local_optim:
        config = run.config
        asked = (("minutes", config.minutes), ("patience", config.patience))
        for name, value in (*asked, ("compile", config.compile or None)):
            if value is not None:
                raise UsageError(
                    f"--{name} has no effect: with a frozen decoder the rows of a per-datum guide "
                    "take --guide.local-steps instead of epochs."
                )
    start(run, svi, options)
    temper = TemperKL(beta)

    def anneal(progress: float) -> None:
        temper.beta = cyclical(progress, beta, rise, cycles)

    with temper, products(run.config.products):
        for _ in fit_in(run, svi, data, anneal):
            pass


def conclude(run: Run, svi: SVI, train: Data, test: Data, **more: Any) -> dict[str, Any]:
    """Evaluate both splits, write metrics, the lab's pictures and the report.

    ``protocol`` is that of the test split; the one of the train split differs only in its images.

    Returns:
        The contents of ``metrics.json``.
    """
    config, model, guide = run.config, svi.model, svi.guide
    built = run.content["pair"]
    objective = next(n for n, c in OBJECTIVES.items() if type(svi.objective) is c)
    train, test = train.fixed().like(model), test.fixed().like(model)
    epochs = more.pop("epochs", len(run.lines))
    decoder = more.pop("decoder", "frozen" if is_frozen(model) else "learned")
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
        figures = summary(measured.values, guide, None)
        metrics.add(data.split, figures)
        fitted.append(measured.guide)
    save_values(run.path, measured.values)
    run.save_metrics(metrics)
    model.eval(), guide.eval()
    lab_pictures(run, model, (fitted[0], fitted[1]), train, test, objective)
    return finish_pair(run, metrics, warnings=collapsed(svi, fitted[1], test, rows=500))

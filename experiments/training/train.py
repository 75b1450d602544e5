"""What every training command does before and after its ten lines of model, guide and SVI."""

import inspect
from typing import Any

import torch
from torch import nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.bounds import particles_at_a_time
from experiments.evaluation.metrics import measure, protocol, protocol_rows, summary, table_line
from experiments.evaluation.shared_draws import numbers_per_image
from experiments.inference.frozen import announce_rows
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import (
    IWAE,
    OBJECTIVES,
    DReG,
    LogJoint,
    Objective,
    Renyi,
    check_objective,
    default_objective,
)
from experiments.inference.optim.annealing import cyclical
from experiments.inference.precision import products
from experiments.inference.svi import SVI, Pair
from experiments.reports.page import finish
from experiments.runs.checkpoint import save_values
from experiments.runs.run import Run
from experiments.training.pictures import lab_pictures
from experiments.training.rows import fit_in
from guides import GUIDES, Guide, check_pair
from ppl_models.likelihoods import LIKELIHOODS, Likelihood
from ppl_models.program import describe

__all__ = ["at_maximum_likelihood", "conclude", "fit_run", "make_objective", "prepare", "start"]


def make_guide(run: Run, model: nn.Module, name: str, options: dict, data: Data) -> Guide:
    """The guide asked for, with a row per datum where it wants them; says how large they are.

    Raises:
        ValueError: If it does not fit the model, the data or ``--memory``.
    """
    check_pair(model, name)
    guide = GUIDES[name](model, **options)
    line = announce_rows(guide, data, run.config.memory)
    if line:
        run.say(line)
    return guide.for_data(len(data))


def make_objective(
    model: nn.Module,
    guide: str,
    name: str | None = None,
    particles: int | None = None,
    config: Any = None,
) -> Objective:
    """The objective asked for, or the one that fits the guide; its own options from ``config``.

    Rows under a frozen model are fitted with ``stl`` and four particles by default.

    Raises:
        ValueError: If it does not fit the guide.
    """
    rows = guide in ("mean_field", "full_rank") and is_frozen(model)
    name = name or ("stl" if rows else default_objective(guide))
    check_objective(guide, name)
    draws = {"iwae": 5, "dreg": 5, "renyi": 5, "stl": 4 if rows else 1}.get(name, 1)
    accepted = set(inspect.signature(OBJECTIVES[name]).parameters) - {"particles"}
    options = {key: getattr(config, key) for key in accepted if hasattr(config, key)}
    return OBJECTIVES[name](particles or draws, **options)


def is_frozen(model: nn.Module) -> bool:
    """Whether no parameter of the model is trainable."""
    return not any(parameter.requires_grad for parameter in model.parameters())


def at_maximum_likelihood(model: Any, data: Data) -> nn.Module:
    """A model of the same size at its closed-form maximum of the likelihood, frozen.

    Raises:
        UsageError: If the model has none.
    """
    if not hasattr(model, "maximum_likelihood"):
        raise UsageError(
            f"{type(model).__name__} has no closed-form maximum of the likelihood to be "
            "frozen at: train it under another guide and refit that run, or use --decoder learned."
        )
    (shape,) = describe(model).latents.values()
    x = data.fixed().like(model).observations().double()
    like = next(model.parameters())
    frozen = model.maximum_likelihood(x, shape[0]).to(like)
    return frozen.requires_grad_(False)


def check_pixels(model: Any, data: Data) -> None:
    """Refuse a likelihood that is no density (or probability) of the data's pixels.

    Raises:
        UsageError: Naming the likelihoods that fit.
    """
    likelihood = getattr(model, "likelihood", None)
    if not isinstance(likelihood, Likelihood):
        return
    levels = getattr(likelihood, "levels", data.levels)
    if data.kind not in likelihood.pixels or levels != data.levels:
        fitting = [
            name
            for name, family in LIKELIHOODS.items()
            if data.kind in family.pixels and getattr(family, "levels", data.levels) == data.levels
        ]
        raise UsageError(
            f"{type(likelihood).__name__} is for {' or '.join(likelihood.pixels)} pixels"
            f"{'' if levels == data.levels else f' of {levels + 1} levels'}, the data are "
            f"{data.kind} of {data.levels + 1} levels; use {', '.join(fitting)} "
            "(or --binarize, --dequantize)."
        )


def prepare(run: Run, model: nn.Module, train: Data) -> Any:
    """Put a fresh model on the run's device and in its dtype; freeze it if asked to.

    Raises:
        UsageError: If the model's likelihood is not one of such pixels.
    """
    config = run.config
    check_pixels(model, train)
    particles_at_a_time(1, numbers_per_image(model, train), config.memory)
    model.to(device=run.device, dtype=getattr(torch, config.dtype))
    decoder = config.decoder or ("frozen" if config.guide == "point" else "learned")
    if decoder == "frozen":
        return at_maximum_likelihood(model, train)
    if config.guide == "point":
        run.say("warning: with a learned decoder the point guide's log joint has no optimum.")
    return model


def start(run: Run, pair: SVI | Pair, recipe: dict[str, Any]) -> None:
    """Write the configuration and say what is about to be trained."""
    run.save_config(pair=recipe)
    number = Pair(pair.model, pair.guide).number_of_parameters
    run.say(f"{recipe['model']} under {recipe['guide']}: {number} parameters")


def fit_run(run: Run, svi: SVI, data: Data) -> None:
    """Train with the run's options, the KL's factor among them.

    Raises:
        UsageError: If the objective has no KL of its own to be weighed.
    """
    beta, rise, cycles = run.config.beta, run.config.kl_anneal, run.config.cycles
    if (beta != 1 or rise) and isinstance(svi.objective, (IWAE, DReG, Renyi, LogJoint)):
        raise UsageError(
            "--beta and --kl-anneal weigh the KL of an ELBO: use --objective elbo, "
            "elbo_analytic_kl, elbo_free_bits, stl or miselbo."
        )
    if (beta != 1 or rise) and is_frozen(svi.model) and svi.local_optim:
        raise UsageError("--beta and --kl-anneal are not for rows under a frozen decoder.")
    if rise and run.config.patience:
        raise UsageError("--patience compares losses that --kl-anneal changes: use one of them.")
    temper = TemperKL(beta)

    def anneal(progress: float) -> None:
        temper.beta = cyclical(progress, beta, rise, cycles)

    with temper, products(run.config.products):
        for _ in fit_in(run, svi, data, anneal):
            pass


def centre(data: Data, *parts: Any) -> None:
    """Start models and guides at the mean image of data in their own form (``Data.like``).

    Raises:
        UsageError: If one of them cannot.
    """
    for part in parts:
        if not hasattr(part, "centre"):
            raise UsageError(f"--centre is for a VAE with an encoder, not {type(part).__name__}.")
    parameter = next(parts[0].parameters())
    rows = data.without_noise()
    total = torch.stack([batch.x.double().sum(0) for batch in rows.batches(5000)]).sum(0)  # type: ignore[union-attr]
    for part in parts:
        part.centre((total / len(data)).to(parameter))


def recipe(model: str, model_options: dict, guide: str, guide_options: dict) -> dict[str, Any]:
    """What a saved run is rebuilt from."""
    return {
        "model": model,
        "model_options": model_options,
        "guide": guide,
        "guide_options": guide_options,
    }


def conclude(
    run: Run, svi: SVI, train: Data, test: Data, built: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """Evaluate both splits, write metrics, the lab's pictures and the report.

    ``protocol`` is that of the test split; the train split has the same but for its images.
    """
    config, model, guide = run.config, svi.model, svi.guide
    objective = next(n for n, c in OBJECTIVES.items() if type(svi.objective) is c)
    train, test = train.fixed().like(model), test.fixed().like(model)
    metrics: dict[str, Any] = {
        "model": built["model"],
        "guide": built["guide"],
        "objective": objective,
        "data": train.name,
        "seed": config.seed,
        "epochs": len(run.lines),
        "parameters": Pair(model, guide).number_of_parameters,
        "seconds": {},
        "sampled_sites": svi.objective.sampled_sites,
        "decoder": "frozen" if is_frozen(model) else "learned",
        "protocol": protocol(test, guide, None),
        **more,
    }
    fitted: list[Guide] = []
    for data in (train, test):
        measured = measure(model, guide, data, config.seed, None, config.memory)
        metrics[data.split] = summary(measured.values, guide, None)
        fitted.append(measured.guide)
        run.say(table_line(data.split, metrics[data.split]))
    save_values(run.path, measured.values)
    run.save_metrics(metrics)
    svi.model.eval(), svi.guide.eval()
    lab_pictures(run, model, (fitted[0], fitted[1]), train, test, objective)
    words = (
        f"{built['model']} under the guide {built['guide']}, objective {objective}, "
        f"{len(run.lines)} epochs on {train.name} (decoder {metrics['decoder']})."
    )
    rows = [{"split": name, **metrics[name]} for name in ("train", "test")]
    shown = [{key: value for key, value in row.items() if value is not None} for row in rows]
    tables = {"Figures [nats per data point]": shown, "Protocol": protocol_rows(metrics)}
    return finish(run, metrics, words, tables)

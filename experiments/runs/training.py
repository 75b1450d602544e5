"""What every training command does before and after its ten lines of model, guide and SVI."""

from typing import Any

import torch
from torch import nn

from experiments.data import Data
from experiments.inference.frozen import announce_rows
from experiments.inference.objectives import (
    OBJECTIVES,
    Objective,
    check_objective,
    default_objective,
)
from experiments.inference.svi import SVI, Pair
from experiments.runs.errors import UsageError
from experiments.runs.metrics import measure, protocol, summary, table_line
from experiments.runs.pictures import lab_pictures
from experiments.runs.run import Run
from guides import Guide
from ppl_models.program import describe

__all__ = ["at_maximum_likelihood", "conclude", "make_objective", "prepare", "start"]


def make_objective(guide: str, name: str | None = None, particles: int | None = None) -> Objective:
    """The objective asked for, or the one that fits the guide.

    Raises:
        UsageError: If it does not fit the guide.
    """
    name = name or default_objective(guide)
    check_objective(guide, name)
    return OBJECTIVES[name](particles or (5 if name == "iwae" else 1))


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


def prepare(run: Run, model: nn.Module, train: Data) -> Any:
    """Put a fresh model on the run's device and in its dtype; freeze it if asked to."""
    config = run.config
    model.to(device=run.device, dtype=getattr(torch, config.dtype))
    decoder = config.decoder or ("frozen" if config.guide == "point" else "learned")
    if decoder == "frozen":
        return at_maximum_likelihood(model, train)
    if config.guide == "point":
        run.say("warning: with a learned decoder the point guide's log joint has no optimum.")
    return model


def start(run: Run, svi: SVI, train: Data, recipe: dict[str, Any]) -> None:
    """Write the configuration and say what is about to be trained."""
    line = announce_rows(svi.guide, train, run.config.memory)
    if line:
        run.say(line)
    run.save_config(pair=recipe)
    number = Pair(svi.model, svi.guide).number_of_parameters
    run.say(f"{recipe['model']} under {recipe['guide']}: {number} parameters")


def recipe(model: str, model_options: dict, guide: str, guide_options: dict) -> dict[str, Any]:
    """What a saved run is rebuilt from."""
    return {"model": model, "model_options": model_options, "guide": guide,
            "guide_options": guide_options}  # fmt: skip


def conclude(
    run: Run,
    svi: SVI,
    train: Data,
    test: Data,
    built: dict[str, Any],
    particles: int | None = None,
) -> dict[str, Any]:
    """Evaluate both splits, draw the lab's pictures, write metrics and report."""
    config, model, guide = run.config, svi.model, svi.guide
    objective = next(n for n, c in OBJECTIVES.items() if type(svi.objective) is c)
    train, test = train.fixed().like(model), test.fixed().like(model)
    metrics: dict[str, Any] = {
        "model": built["model"], "guide": built["guide"], "objective": objective,
        "data": train.name, "seed": config.seed, "epochs": len(run.records),
        "parameters": Pair(model, guide).number_of_parameters, "seconds": {},
        "sampled_sites": svi.objective.sampled_sites,
        "decoder": "learned" if any(p.requires_grad for p in model.parameters()) else "frozen",
        "protocol": protocol(test, guide, particles),
    }  # fmt: skip
    fitted: list[Guide] = []
    for data in (train, test):
        measured = measure(model, guide, data, config.seed, particles, config.memory)
        metrics[data.split] = summary(measured.values, guide, particles)
        fitted.append(measured.guide)
        run.say(table_line(data.split, metrics[data.split]))
    lab_pictures(run, model, (fitted[0], fitted[1]), train, test, objective)
    words = (
        f"{built['model']} under the guide {built['guide']}, objective {objective}, "
        f"{len(run.records)} epochs on {train.name} (decoder {metrics['decoder']})."
    )
    rows = [{"split": name, **metrics[name]} for name in ("train", "test")]
    shown = [{key: value for key, value in row.items() if value is not None} for row in rows]
    protocol_rows = [{"field": k, "value": v} for k, v in metrics["protocol"].items()]
    return run.finish(
        metrics, words, {"Figures [nats per data point]": shown, "Protocol": protocol_rows}
    )

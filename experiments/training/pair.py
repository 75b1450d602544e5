"""Model, guide, objective and SVI of a run, built from its options."""

import inspect
import math
from typing import Any

import torch
from torch import nn

from experiments.data import Data
from experiments.errors import UsageError, reason
from experiments.evaluation.bounds import rows_at_a_time
from experiments.inference.checks.observations import check_observations
from experiments.inference.checks.pair_check import check_once, check_rows
from experiments.inference.frozen import announce_rows, check_held_out, for_data
from experiments.inference.guard import Guard
from experiments.inference.objectives import OBJECTIVES, Objective, check_objective
from experiments.inference.optim import OPTIMIZERS
from experiments.inference.svi import SVI
from experiments.options.constructors import gives_points, new_guide, own_objective
from experiments.options.ranges import option_name
from experiments.runs.run import Run
from experiments.training.compiling import compiles
from guides import Guide, check_pair
from ppl_models import MODELS, NVAE
from ppl_models.likelihoods import LIKELIHOODS, Likelihood
from ppl_models.sites import describe


def prepare(run: Run, model: nn.Module, train: Data, test: Data) -> Any:
    """Put a fresh model on the run's device and in its dtype; freeze it if asked to."""
    config = run.config
    check_pixels(model, train)
    rows_at_a_time(model, train, config.memory)  # refuses a memory too small for one
    model.to(device=run.device, dtype=getattr(torch, config.dtype))
    for split in (test, train):  # the model remembers what is given with the last
        check_observations(model, split.like(model))
    decoder = config.decoder or ("frozen" if config.guide == "point" else "learned")
    if decoder == "frozen":
        return at_maximum_likelihood(model, train)
    learned = not (is_frozen(model) or describe(model).of_all_data)
    if learned and gives_points(config.guide):
        words = f"the log joint of the guide {config.guide} has no optimum."
        run.say(f"warning: with a learned decoder {words}")
    return model


def make_guide(run: Run, model: nn.Module, data: Data) -> Guide:
    """The guide named by a run's options; centred at the mean image with ``--centre``."""
    config = run.config
    guide = build_guide(run, model, config.guide, config.guide_options, data)
    if getattr(config, "centre", False):
        centre(data.like(model), *(() if is_frozen(model) else (model,)), guide)
    return guide


def build_guide(
    run: Run, model: nn.Module, name: str, options: dict, data: Data, announce: bool = True
) -> Guide:
    """A guide by name, with one row per datum if it is a per-datum guide, whose size is said."""
    if ":" not in name:
        check_pair(model, name)
    guide = new_guide(name, model, options)
    line = announce_rows(guide, data, run.config.memory)
    if line and announce:
        run.say(line)
    sibling = for_data(guide, len(data))
    if not describe(model).of_all_data:  # else there are no held-out figures
        check_held_out(guide, sibling)
    guide = sibling
    if ":" in name:  # errors are reported before anything is written
        try:
            rows = data.like(model)
            if describe(model).of_all_data:
                check_once(model, guide, next(rows.batches(2)))
            else:  # it will be measured by datum
                check_rows(model, guide, rows)
        except ValueError:
            raise
        except Exception as error:  # a user's code may raise anything
            raise UsageError(
                f"guide '{name}' does not run on the data ({type(error).__name__}: "
                f"{reason(error)})."
            ) from error
    return guide


def make_objective(run: Run, model: nn.Module, default: str | None = None) -> Objective:
    """The objective that a run's options name, or the guide's own.

    ``default`` is used in place of the guide's own if that is ``elbo``.
    """
    config = run.config
    leaves_it = own_objective(config.guide) == "elbo"
    name = config.objective or (default if leaves_it else None)
    return build_objective(model, config.guide, name, config.particles, config)


def build_objective(
    model: nn.Module,
    guide: str,
    name: str | None = None,
    particles: int | None = None,
    config: Any = None,
) -> Objective:
    """An objective by name, or the guide's own; its options are taken from ``config``.

    Rows under a frozen model are fitted with ``stl`` and four particles by default.
    """
    own = own_objective(guide)
    rows = guide in ("mean_field", "full_rank") and is_frozen(model)
    name = name or ("stl" if rows else own)
    check_objective(guide, own, name)
    accepted = set(inspect.signature(OBJECTIVES[name]).parameters) - {"particles"}
    for option in ("alpha", "free_bits", "strata"):
        given = getattr(config, option, None) != getattr(type(config), option, None)
        if given and option not in accepted:
            words = f"{option_name(option)} has no effect on the objective {name}"
            raise UsageError(f"{words}; --objective chooses another one.")
    options = {key: getattr(config, key) for key in accepted if hasattr(config, key)}
    if particles or (rows and name == "stl"):
        options["particles"] = particles or 4
    return OBJECTIVES[name](**options)


def make_svi(run: Run, model: nn.Module, guide: Guide, objective: Objective, data: Data) -> SVI:
    """The SVI of a pair with the optimizer of a run's options, compiled or not."""
    optimizer = OPTIMIZERS[run.config.optimizer](model, guide, run.config.lr)
    guard = Guard(run.config.clip or math.inf)
    return SVI(model, guide, optimizer, objective, guard, compile=compiles(run, guide, data))


def is_frozen(model: nn.Module) -> bool:
    """Whether no parameter of the model is trainable."""
    return not any(parameter.requires_grad for parameter in model.parameters())


def at_maximum_likelihood(model: Any, data: Data) -> nn.Module:
    """A frozen model of the same size at its maximum-likelihood solution."""
    if not hasattr(model, "maximum_likelihood"):
        raise UsageError(
            f"{type(model).__name__} has no maximum-likelihood solution in closed form: "
            "train it with another guide and refit that run, or use --decoder learned."
        )
    (shape,) = describe(model).latents.values()
    x = data.fixed().like(model).observations().double()
    like = next(model.parameters())
    frozen = model.maximum_likelihood(x, shape[0]).to(like)
    return frozen.requires_grad_(False)


def check_pixels(model: Any, data: Data) -> None:
    """Refuse a likelihood that does not fit the pixels, and what no model of ours reads."""
    if data.given and type(model) in MODELS.values():
        raise UsageError(
            f"--given labels: {type(model).__name__} takes nothing but x; a model of your own may "
            "read batch.given."
        )
    if isinstance(model, NVAE) and model.data_shape[0] == 3 and model.measure == "probability":
        check_levels(data, 2**model.bits - 1)
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


def check_levels(data: Data, levels: int) -> None:
    """Refuse pixels between the levels k / ``levels`` that a likelihood gives probabilities of."""
    between = data.kind == "grey-dequantised"
    if data.kind == "grey" and data.pixels.is_floating_point():
        scaled = (levels * rows.float() for rows in data.pixels.split(1000))
        between = any(bool(((k - k.round()).abs() > 0.1).any()) for k in scaled)
    if between:
        raise UsageError(
            f"NVAE gives probabilities of RGB pixels k / {levels}: save the images as bytes "
            "(uint8), and leave out --dequantize; --mixture 1 gives densities of any pixels."
        )


def centre(data: Data, *parts: Any) -> None:
    """Centre models and guides at the mean image of data in their form (``Data.like``)."""
    for part in parts:
        if not hasattr(part, "centre"):
            raise UsageError(f"--centre is for a VAE with an encoder, not {type(part).__name__}.")
    parameter = next(parts[0].parameters())
    rows = data.without_noise()
    total = torch.stack([batch.x.double().sum(0) for batch in rows.batches(5000)]).sum(0)  # type: ignore[union-attr]
    for part in parts:
        part.centre((total / len(data)).to(parameter))

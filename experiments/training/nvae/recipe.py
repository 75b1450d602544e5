"""NVAE's recipe from its options: objective, schedules, guard and average."""

from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.data import Data
from experiments.errors import UsageError
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import OBJECTIVES, FreeBits, Objective
from experiments.inference.objectives.nvae import BalancedKL, FineTuned, Regularised
from experiments.inference.objectives.regularisers import SpectralNorm, batch_norm_gains
from experiments.inference.optim import adamax, hierarchical_muon
from experiments.inference.optim.schedules import (
    kl_coefficient,
    published_rate,
    regularisation_weight,
)
from experiments.inference.svi import Pair
from experiments.options.nvae import NVAEOptions


class Recipe(NamedTuple):
    """What a step maximises, the handler it runs in, and what changes from step to step."""

    objective: Objective
    temper: TemperKL
    anneal: Callable[[float], None]
    schedule: Callable[[float], float]


def recipe_of(config: NVAEOptions, pair: Pair, rows: int) -> Recipe:
    """The published recipe with the options' numbers."""
    if config.free_bits and (config.balance != "none" or config.objective == "elbo"):
        raise UsageError(
            f"--free-bits {config.free_bits:g} needs --balance none and --objective "
            "elbo_analytic_kl."
        )
    free = FreeBits(free_bits=config.free_bits)
    objective: Objective = free if config.free_bits else _plain(config, pair)
    tuned = FineTuned(objective, config.fine_tune_particles)
    if config.fine_tune:
        objective = tuned
    if config.regularise:
        gains = lambda: batch_norm_gains(pair)  # noqa: E731
        objective = Regularised(objective, [SpectralNorm(pair), gains], config.regularise)
    temper = TemperKL(1.0)

    def anneal(progress: float) -> None:
        tuned.last = progress >= 1 - config.fine_tune
        # the importance-weighted bound takes no factor on the KL
        temper.beta = 1.0 if tuned.last else kl_coefficient(progress, anneal=config.kl_anneal)
        free.free_bits = config.free_bits if progress < config.free_bits_until else 0.0
        if isinstance(objective, Regularised) and config.regularise_start:
            objective.weight = regularisation_weight(
                temper.beta, config.regularise_start, config.regularise
            )

    steps = -(-rows // config.batch_size)
    warmup = round(config.warmup * config.epochs)
    schedule = published_rate(steps, config.epochs, warmup, config.lr, config.least_lr)
    return Recipe(objective, temper, anneal, schedule)


def _plain(config: NVAEOptions, pair: Pair) -> Objective:
    """The objective without free bits."""
    if config.objective == "elbo_analytic_kl" and config.balance != "none":
        return BalancedKL(pair.model.groups_per_scale, config.balance)
    return OBJECTIVES[config.objective]()


def optimizer_of(config: NVAEOptions, pair: Pair) -> Any:
    """Adamax as published, or Muon."""
    if config.optimizer == "muon":
        return hierarchical_muon(pair.model, pair.guide, config.lr, config.weight_decay)
    return adamax(pair.model, pair.guide, config.lr, config.weight_decay, config.eps)


def check_data(config: NVAEOptions, data: Data) -> None:
    """Refuse images that the preset is not for."""
    if not data.are_images:
        raise UsageError(
            f"nvae takes images [N, C, H, W] with one or three channels; rows of '{data.name}' "
            f"are {list(data.image_shape)}."
        )
    colours, grey = data.image_shape[0], _is_grey(config)
    if (colours == 1) != grey:
        fitting = [
            name
            for name, preset in config.PRESETS.items()
            if (preset["data"] in ("mnist", "digits")) != grey
        ]
        raise UsageError(
            f"preset '{config.preset}' is for {'grey' if grey else 'RGB'} images, "
            f"'{data.name}' has {colours} channels; use --preset {', '.join(fitting)}."
        )
    if grey and data.kind != "binary":
        raise UsageError("NVAE's grey pixels are binary: use --binarize dynamic or static.")


def check_guide(config: NVAEOptions) -> None:
    """Refuse ``point``, whose log joint has no optimum while p is learned."""
    if config.guide == "point":
        pixels = " with --binarize static" if _is_grey(config) else ""
        raise UsageError(
            f"--guide point has no optimum while p is learned: train another guide{pixels}, and "
            "refit that run with --guide point."
        )


def _is_grey(config: NVAEOptions) -> bool:
    """Whether the preset is for grey images."""
    return config.PRESETS[config.preset]["data"] in ("mnist", "digits")

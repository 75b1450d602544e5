"""Options that commands share, as frozen dataclasses. Nothing here imports torch."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.data.names import check_name
from experiments.errors import UsageError
from experiments.options.data import DataOptions

__all__ = [
    "MAY_CHANGE",
    "AnnealOptions",
    "DataOptions",
    "FitOptions",
    "FreshRunOptions",
    "RunOptions",
    "SavedRunOptions",
    "TrainOptions",
    "check",
    "every",
]

MAY_CHANGE = {
    "resume",
    "out",
    "epochs",
    "device",
    "memory",
    "data_root",
    "data_changed",
    "evaluate",
    "readjust",
    "checkpoint_levels",
    "checkpoint_every",
    "keep",
    "max_rollbacks",
}
"""Options that a resumed run may give another value."""


@dataclass(frozen=True)
class RunOptions:
    seed: int = 0
    """Fixes initial parameters, order of the data and noise."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""
    memory: float = 2.0
    """GiB for per-datum tables and for intermediate values of an evaluation."""
    out: Path | None = None
    """Run directory; by default runs/<command>-<time>."""


@dataclass(frozen=True)
class FreshRunOptions(RunOptions):
    dtype: Literal["float32", "float64"] = "float32"
    """Of parameters and observations."""


@dataclass(frozen=True)
class FitOptions:
    guide: str = "amortized"
    """q(z | x): prior, point, exact, mean_field, full_rank, amortized, flow, mixture or
    semi_amortized. Its own options are --guide.OPTION."""
    objective: str | None = None
    """elbo, elbo_analytic_kl, elbo_free_bits, stl, iwae, dreg, renyi, miselbo or log_joint; by
    default what fits the guide."""
    particles: int | None = None
    """Monte-Carlo draws per datum; by default 1, 5 for iwae, dreg and renyi, 4 for rows under a
    frozen model."""
    alpha: float = 0.5
    """Of renyi: 0 is iwae, 1 is elbo."""
    free_bits: float = 0.5
    """Of elbo_free_bits: a smaller KL of a latent costs nothing less [nats]."""
    strata: int = 0
    """Of miselbo: components drawn from per step; 0 for all."""
    epochs: int = 20
    """Passes over the data."""
    batch_size: int = 500
    """Rows per step."""
    lr: float = 0.01
    """Learning rate."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Adam; or Muon for the guide's weight matrices (linear encoders on pixels need it)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What the learning rate follows after its warm-up."""
    warmup: float = 0.0
    """Fraction of training in which the learning rate rises from zero."""
    minutes: float | None = None
    """Train for so many minutes instead of --epochs: the schedule runs over that time."""
    patience: int | None = None
    """Stop when the loss has not improved for so many epochs; off by default."""
    compile: bool | None = None
    """Take the loss and its gradient as one compiled graph: faster steps, after some ten seconds
    to a few minutes. By default in long runs; the rule is printed."""
    products: Literal["exact", "bfloat16"] = "exact"
    """bfloat16: matrix products and convolutions are rounded (much faster on recent GPUs, slower
    on most processors); densities never are."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint."""
    data_changed: Literal["refuse", "ok"] = "refuse"
    """Refuse data that differ from those the run was made with, or go on with a warning (ok)."""
    checkpoint_every: str = "1m"
    """How often training is kept on disk: a time (30s, 10m, 1h), or a number of epochs."""
    keep: int = 2
    """So many checkpoints are kept."""
    max_skipped: int = 20
    """Steps that are not finite are not taken. After so many of them in a row training returns to
    the last checkpoint, with half the learning rate."""
    max_rollbacks: int = 3
    """It does so this often, and then gives up."""
    deterministic: bool = False
    """Use algorithms only that give the same bits every time, even on a GPU; slower there."""
    guide_options: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Options of the guide's constructor."""


@dataclass(frozen=True)
class AnnealOptions:
    beta: float = 1.0
    """Factor on log q - log p in the loss; 1 is the bound itself, others are beta-VAEs."""
    kl_anneal: float = 0.0
    """Fraction of each cycle in which the factor rises from 0 to --beta."""
    cycles: int = 1
    """So often it does (cyclical annealing)."""


@dataclass(frozen=True)
class TrainOptions(AnnealOptions, FitOptions, DataOptions, FreshRunOptions):
    decoder: Literal["learned", "frozen"] | None = None
    """Whether p is learned, or frozen at its closed-form maximum of the likelihood; by default
    frozen for the guide point, learned for the others."""
    centre: bool = False
    """Start at the mean image: the encoder sees it as zero, the decoder gives it for every z."""


@dataclass(frozen=True)
class SavedRunOptions:
    run: tyro.conf.Positional[Path]
    """Directory of a trained run."""
    model: str | None = None
    """The run's model, package.module:Class, where it is from outside this package: its code is
    imported only if it is named here."""
    data_root: Path | None = None
    """Where the data lie; by default $PPL_DATA, else ./data."""
    data_changed: Literal["refuse", "ok"] = "refuse"
    """Refuse data that differ from those the run was made with, or go on with a warning (ok)."""
    seed: int = 0
    """Seed of the draws."""
    device: str = "auto"
    """cpu, cuda, ...; auto takes a GPU if there is one."""
    memory: float = 2.0
    """GiB for intermediate values."""
    out: Path | None = None
    """Where the results go; by default runs/<command>-<time>."""


AT_LEAST_ONE = (
    "rows",
    "epochs",
    "batch_size",
    "particles",
    "patience",
    "latent_dim",
    "seeds",
    "count",
    "steps",
    "images",
    "samples",
    "evaluate",
    "jobs",
    "draws",
    "chains",
    "ais_steps",
    "simulations",
    "simulated",
    "leapfrog",
    "cycles",
    "sets",
    "tune",
    "keep",
    "max_skipped",
    "tail_draws",
)
ABOVE_ZERO = ("lr", "prior_scale", "memory", "minutes", "eps", "clip", "regularise_start")
NOT_NEGATIVE = (
    "pad",
    "resize",
    "seed",
    "binarize_seed",
    "alpha",
    "free_bits",
    "strata",
    "regularise",
    "weight_decay",
    "least_lr",
    "readjust",
    "beta",
    "gpus",
    "max_rollbacks",
    "tail_images",
)


def check(config: Any) -> None:
    """Refuse numbers that no command can use.

    Raises:
        UsageError: With the option, the value and what would be right.
    """
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    for name, number in _numbers(values):
        if not abs(number) < (2**63 if isinstance(number, int) else float("inf")):
            what = "be finite" if isinstance(number, float) else "be below 2^63"
            raise UsageError(f"--{name.replace('_', '-')} must {what}, got {number}.")
    for names, fits, words in (
        (AT_LEAST_ONE, lambda value: value >= 1, "at least 1"),
        (ABOVE_ZERO, lambda value: value > 0, "above 0"),
        (NOT_NEGATIVE, lambda value: value >= 0, "0 or more"),
    ):
        for name, value in _numbers({name: values.get(name) for name in names}):
            if not fits(value):
                raise UsageError(f"--{name.replace('_', '-')} must be {words}, got {value}.")
    if values.get("products") == "bfloat16" and values.get("dtype") == "float64":
        raise UsageError("--products bfloat16 rounds float32: leave out --dtype float64.")
    _check_objective(values.get("objective"))
    every(values.get("checkpoint_every", "1"))
    if isinstance(config, DataOptions):
        check_name(config.data)
    if values.get("pad", 0) > 4096:
        raise UsageError(f"--pad must be at most 4096, got {values['pad']}.")
    for name in ("seed", "binarize_seed"):
        if values.get(name, 0) >= 2**32:
            words = f"--{name.replace('_', '-')}"
            raise UsageError(f"{words} must be below 2^32, got {values[name]}.")
    for name in ("warmup", "kl_anneal", "ema"):
        if not 0 <= values.get(name, 0) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must lie in [0, 1), got {values[name]}.")


def _check_objective(name: Any) -> None:
    """Refuse an unknown objective before data are looked for."""
    from experiments.inference.objectives import OBJECTIVES
    from ppl_models.names import unknown

    if isinstance(name, str) and name not in OBJECTIVES:
        raise UsageError(unknown("objective", name, OBJECTIVES))


def every(text: str) -> tuple[int | None, float | None]:
    """``--checkpoint-every`` as epochs or as seconds.

    Raises:
        UsageError: If it is neither.
    """
    if text.isdecimal() and int(text) > 0:
        return int(text), None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise UsageError(
            f"--checkpoint-every must be a time (30s, 10m, 1h) or a number of epochs, got {text}."
        )
    return None, float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _numbers(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number among options, those of a guide or model among them, with its name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{name.removesuffix('_options')}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)):
                yield f"{above}{name}", number

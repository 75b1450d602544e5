"""Options that commands share, as frozen dataclasses.

``group`` is the heading under which ``--help`` lists the options that a class declares; options
marked ``RARE`` are listed by ``--help-all`` alone.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from experiments.data.loading import check_name
from experiments.errors import UsageError
from experiments.inference.objectives import OBJECTIVES
from experiments.options.constructors import defaults_of, import_guide, import_model
from experiments.options.data import RARE, DataOptions
from experiments.options.ranges import (
    Count,
    Fraction,
    NotNegative,
    NotNegativeInt,
    Positive,
    Seed,
    check_ranges,
)
from ppl_models.names import unknown

MAY_CHANGE = {
    *("resume", "out", "epochs", "device", "memory", "data_root", "data_changed", "evaluate"),
    *("readjust", "checkpoint_levels", "checkpoint_every", "keep", "max_rollbacks"),
}
"""Options that may differ when a run is resumed."""


@dataclass(frozen=True)
class RunOptions:
    group: ClassVar[str] = "run"

    seed: Seed = 0
    """Seed of initial parameters, data order and noise."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto uses a GPU if there is one."""
    memory: Annotated[Positive, RARE] = 2.0
    """Memory limit for per-datum parameters and for intermediate values of an evaluation [GiB]."""
    out: Path | None = None
    """Run directory; by default runs/<command>-<time>."""


@dataclass(frozen=True)
class FreshRunOptions(RunOptions):
    dtype: Annotated[Literal["float32", "float64"], RARE] = "float32"
    """Number type of parameters and observations."""


@dataclass(frozen=True)
class GuideOptions:
    group: ClassVar[str] = "guide and objective"

    guide: str = "amortized"
    """q(z | x): prior, point, exact, mean_field, full_rank, amortized, flow, mixture or
    semi_amortized; bottom_up or top_down for models with several latents; auto_normal and other
    Pyro autoguides for models with global latents; or a class of your own as
    package.module:Class. Options of the guide are --guide.OPTION."""
    objective: str | None = None
    """elbo, elbo_analytic_kl, elbo_enum, elbo_free_bits, stl, iwae, dreg, renyi, miselbo or
    log_joint; by default stl for mean_field and full_rank under a frozen model, and else the one
    that the class of the guide names (elbo for most)."""
    particles: Count | None = None
    """Monte-Carlo draws per datum; by default 1, 5 for iwae, dreg and renyi, and 4 for mean_field
    and full_rank with stl under a frozen model."""
    alpha: Annotated[NotNegative, RARE] = 0.5
    """Order of the Renyi bound (objective renyi): 0 is iwae, 1 is elbo."""
    free_bits: Annotated[NotNegative, RARE] = 0.5
    """Minimum KL in the loss (objective elbo_free_bits) of every dimension of a Gaussian vector
    latent, or of any other latent as a whole [nats]."""
    strata: Annotated[NotNegativeInt, RARE] = 0
    """Number of mixture components to draw from in each step (objective miselbo); 0 for all."""
    guide_options: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Options of the guide's constructor."""


@dataclass(frozen=True)
class OptimizationOptions:
    group: ClassVar[str] = "optimization"

    epochs: Count = 20
    """Passes over the data."""
    batch_size: Count = 500
    """Rows per step."""
    lr: Positive = 0.01
    """Learning rate."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Adam, or Muon for the guide's weight matrices (good for linear encoders on pixels)."""
    schedule: Annotated[Literal["cosine", "constant"], RARE] = "cosine"
    """Learning rate after the warm-up: a cosine to zero, or constant."""
    warmup: Fraction = 0.0
    """Fraction of training in which the learning rate rises from zero."""
    clip: Annotated[Positive | None, RARE] = None
    """Maximum norm of the gradient, excluding per-datum parameters; no limit by default."""
    minutes: Positive | None = None
    """Train for this many minutes instead of --epochs; the schedule spans that time."""
    patience: Annotated[Count | None, RARE] = None
    """Stop when the loss has not improved for this many epochs; off by default."""
    compile: bool | None = None
    """Compile each step's loss and gradient into one graph. Steps are faster, after ten seconds to
    a few minutes of compiling; by default only long runs are compiled."""
    products: Annotated[Literal["exact", "bfloat16"], RARE] = "exact"
    """Precision of matrix products and convolutions; bfloat16 is much faster on recent GPUs and
    slower on most CPUs. Densities are never rounded."""
    deterministic: Annotated[bool, RARE] = False
    """Use deterministic algorithms only, also on a GPU, where they are slower."""


@dataclass(frozen=True)
class CheckpointOptions:
    group: ClassVar[str] = "run"

    resume: bool = False
    """Continue the run in --out from its last checkpoint."""
    data_changed: Annotated[Literal["refuse", "ok"], RARE] = "refuse"
    """What to do if the data differ from those the run was made with: refuse, or go on with a
    warning."""
    checkpoint_every: Annotated[str, RARE] = "1m"
    """Time (30s, 10m, 1h) or number of epochs between checkpoints."""
    keep: Annotated[Count, RARE] = 2
    """Number of checkpoints to keep."""
    max_skipped: Annotated[Count, RARE] = 20
    """Number of consecutive steps with a loss or gradient that is not finite after which training
    returns to the last checkpoint with half the learning rate."""
    max_rollbacks: Annotated[NotNegativeInt, RARE] = 3
    """Maximum number of returns to the last checkpoint after steps that are not finite; at the
    next one the run fails."""


@dataclass(frozen=True)
class FitOptions(CheckpointOptions, OptimizationOptions, GuideOptions):
    """Everything that training a pair needs besides data, model and run."""


@dataclass(frozen=True)
class AnnealOptions:
    group: ClassVar[str] = "guide and objective"

    beta: NotNegative = 1.0
    """Factor on log q - log p in the loss; 1 gives the ELBO, other values a beta-VAE."""
    kl_anneal: Fraction = 0.0
    """Fraction of each cycle in which the factor on log q - log p rises from 0 to --beta."""
    cycles: Annotated[Count, RARE] = 1
    """Number of cycles of --kl-anneal (cyclical annealing)."""


@dataclass(frozen=True)
class TrainOptions(AnnealOptions, FitOptions, DataOptions, FreshRunOptions):
    group: ClassVar[str] = "model"

    decoder: Annotated[Literal["learned", "frozen"] | None, RARE] = None
    """Learn p, or freeze it at its maximum-likelihood solution; by default frozen for the guide
    point and learned for the others."""
    centre: Annotated[bool, RARE] = False
    """Centre at the mean image: the encoder subtracts it, and the decoder starts near it."""


@dataclass(frozen=True)
class SavedRunOptions:
    INSTEAD: ClassVar[tuple[str, ...]] = ()
    """Guides that a command can use instead of the run's guide."""

    run: tyro.conf.Positional[Path]
    """Directory of a trained run."""
    model: str | None = None
    """Model of the run as package.module:Class, if it comes from outside this package; its code is
    imported only if you name it here or add --trust."""
    guide: str | None = None
    """Guide of the run as package.module:Class, if it comes from outside this package; its code is
    imported only if you name it here or add --trust."""
    trust: bool = False
    """Import a model or guide from outside this package if the run names one."""
    data_root: Path | None = None
    """Directory of the data; by default $PPL_DATA, else ./data."""
    data_changed: Literal["refuse", "ok"] = "refuse"
    """What to do if the data differ from those the run was made with: refuse, or go on with a
    warning."""
    seed: Seed = 0
    """Seed of the draws."""
    device: str = "auto"
    """cpu, cuda, ...; auto uses a GPU if there is one."""
    memory: Positive = 2.0
    """Memory limit for intermediate values [GiB]."""
    out: Path | None = None
    """Directory for the results; by default runs/<command>-<time>."""


def check(config: Any) -> None:
    """Refuse invalid options before data are read."""
    check_ranges(config)
    objective = getattr(config, "objective", None)
    if isinstance(objective, str) and objective not in OBJECTIVES:
        raise UsageError(unknown("objective", objective, OBJECTIVES))
    rounds = getattr(config, "products", "") == "bfloat16"
    if rounds and getattr(config, "dtype", "float32") == "float64":
        raise UsageError("--products bfloat16 rounds float32: leave out --dtype float64.")
    if getattr(config, "cycles", 1) > 1 and not config.kl_anneal:
        raise UsageError("--cycles are those of --kl-anneal: give a fraction above 0.")
    checkpoint_interval(getattr(config, "checkpoint_every", "1"))
    if isinstance(config, DataOptions):
        check_name(config.data)
    check_networks(config)


def check_networks(config: Any) -> None:
    """Refuse options of an MLP for a decoder or an encoder that is not an MLP."""
    options = getattr(config, "model_options", {})
    if getattr(config, "model", None) == "vae" and options.get("network") == "conv":
        check_no_mlp(options, import_model("vae"), "--network conv")
    options = getattr(config, "guide_options", {})
    encoder = options.get("encoder")
    if getattr(config, "guide", None) == "amortized" and encoder in ("linear", "conv"):
        check_no_mlp(options, import_guide("amortized"), f"--guide.encoder {encoder}", "--guide.")


def check_no_mlp(options: dict[str, Any], owner: type, network: str, prefix: str = "--") -> None:
    """Refuse options of an MLP, beside another network, that differ from the owner's defaults."""
    usual = defaults_of(owner)
    for name in ("hidden_dims", "activation"):
        if options.get(name, usual[name]) != usual[name]:
            option = prefix + name.replace("_", "-")
            raise UsageError(f"{option} has no effect on {network}.")


def checkpoint_interval(text: str) -> tuple[int | None, float | None]:
    """``--checkpoint-every`` as epochs or as seconds."""
    if text.isdecimal() and int(text) > 0:
        return int(text), None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise UsageError(
            f"--checkpoint-every must be a time (30s, 10m, 1h) or a number of epochs, got {text}."
        )
    return None, float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]

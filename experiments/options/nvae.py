"""Options of the command on NVAE; ``--preset`` sets their defaults."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import tyro

from experiments.options.common import DataOptions, FitOptions, FreshRunOptions
from experiments.options.presets import PRESETS
from experiments.options.ranges import Count, Fraction, NotNegative, NotNegativeInt, Positive

__all__ = ["NVAEOptions"]


@dataclass(frozen=True)
class NVAEOptions(FitOptions, DataOptions, FreshRunOptions):
    group: ClassVar[str] = "recipe"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    model: tyro.conf.Fixed[tyro.conf.Suppress[str]] = "nvae"
    preset: str = "mnist-small"
    """Sizes and recipe: digits-tiny, mnist-small, mnist, mnist-large, cifar10, celeba64,
    celeba-hq256 or ffhq256. With --help after it, its defaults are shown."""
    pretrained: str | None = None
    """Use the weights that come with this package instead of training."""
    list: bool = False
    """Print every preset's parameters, groups, latents and arithmetic, and stop."""
    guide: str = "top_down"
    """q(z | x): top_down, bottom_up, mean_field or prior. Its own options are --guide.OPTION."""
    objective: Literal["elbo_analytic_kl", "elbo"] = "elbo_analytic_kl"
    """With the KL of every group in closed form (and balanced), or sampled (and not)."""
    batch_size: Count = 400
    """Rows per step."""
    optimizer: Literal["adamax", "muon"] = "adamax"  # type: ignore[assignment]
    """Adamax, or Muon for convolutions and matrices with Adam for all else."""
    schedule: tyro.conf.Suppress[str] = "published"  # type: ignore[assignment]
    decoder: tyro.conf.Suppress[str | None] = None
    particles: tyro.conf.Suppress[int | None] = None
    alpha: tyro.conf.Suppress[float] = 0.5
    free_bits: NotNegative = 0.0
    """KL below which a group of latents costs nothing early in training [nats], with --balance
    none; 0 leaves it out."""
    free_bits_until: Fraction = 0.4
    """Fraction of training after which --free-bits no longer holds."""
    strata: tyro.conf.Suppress[int] = 0
    patience: tyro.conf.Suppress[int | None] = None
    warmup: Fraction = 0.0125
    """Fraction of training in which the learning rate rises from zero."""
    least_lr: NotNegative = 1e-4
    """The learning rate at the end."""
    kl_anneal: Fraction = 0.3
    """Fraction of training in which the factor on the KL rises from zero to one."""
    balance: Literal["square", "linear", "sqrt", "equal", "none"] = "square"
    """How much of the annealed KL the finer scales may have."""
    regularise: NotNegative = 1e-2
    """Weight of the convolutions' spectral norms and the batch norms' gains; 0 leaves them out."""
    regularise_start: Positive | None = None
    """That weight at the start, if it changes with the factor on the KL."""
    weight_decay: NotNegative = 3e-4
    """Of Adamax: added to the gradient, times the weight."""
    eps: Positive = 1e-3
    """Of Adamax: what a gradient must exceed to set the size of its steps."""
    ema: Fraction = 0.0
    """Decay of an average of the weights that is evaluated and kept; 0 takes the last ones."""
    clip: Positive | None = None
    """Gradients are scaled down to this norm; by default they are left."""
    fine_tune: Fraction = 0.0
    """Fraction of training, at its end, that maximises the importance-weighted bound instead."""
    fine_tune_particles: Count = 5
    """Importance samples per image of that bound, all in one batch."""
    checkpoint_levels: bool = False
    """Compute the cells a second time on the way back instead of keeping what they computed: the
    same steps with less memory and more time."""
    evaluate: Count = 10
    """Importance samples per test image at the end."""
    readjust: NotNegativeInt = 500
    """Passes that move batch norms to the temperature of samples; 0 leaves them as trained."""
    model_options: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Options of the model's constructor."""

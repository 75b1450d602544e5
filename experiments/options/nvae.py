"""Options of the command on NVAE; ``--preset`` sets their defaults."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import tyro

from experiments.options.common import DataOptions, FitOptions, FreshRunOptions
from experiments.options.presets import PRESETS
from experiments.options.ranges import Count, Fraction, NotNegative, NotNegativeInt, Positive


@dataclass(frozen=True)
class NVAEOptions(FitOptions, DataOptions, FreshRunOptions):
    group: ClassVar[str] = "recipe"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    model: tyro.conf.Fixed[tyro.conf.Suppress[str]] = "nvae"
    preset: str = "mnist-small"
    """Sizes and recipe: digits-tiny, mnist-small, mnist, mnist-large, cifar10, celeba64,
    celeba-hq256 or ffhq256. --preset NAME --help shows the preset's defaults."""
    pretrained: str | None = None
    """Name of weights that come with this package (mnist-small), used instead of training."""
    list: bool = False
    """Print the parameters, groups, latents and cost of every preset, and stop."""
    guide: str = "top_down"
    """q(z | x): top_down, top_down_mixture, bottom_up, mean_field or prior. Options of the guide
    are --guide.OPTION."""
    objective: Literal["elbo_analytic_kl", "elbo"] = "elbo_analytic_kl"
    """ELBO with the KL of every group in closed form and balanced (elbo_analytic_kl), or sampled
    and not balanced (elbo)."""
    batch_size: Count = 400
    """Rows per step."""
    optimizer: Literal["adamax", "muon"] = "adamax"  # type: ignore[assignment]
    """Adamax, or Muon for convolutions and matrices with Adam for all other parameters."""
    schedule: tyro.conf.Suppress[str] = "published"  # type: ignore[assignment]
    decoder: tyro.conf.Suppress[str | None] = None
    particles: tyro.conf.Suppress[int | None] = None
    alpha: tyro.conf.Suppress[float] = 0.5
    free_bits: NotNegative = 0.0
    """KL below which a group of latents costs nothing early in training [nats]; needs --balance
    none, and 0 switches it off."""
    free_bits_until: Fraction = 0.4
    """Fraction of training after which --free-bits no longer applies."""
    strata: tyro.conf.Suppress[int] = 0
    patience: tyro.conf.Suppress[int | None] = None
    warmup: Fraction = 0.0125
    """Fraction of training in which the learning rate rises from zero, rounded to whole
    epochs."""
    least_lr: NotNegative = 1e-4
    """Final learning rate."""
    kl_anneal: Fraction = 0.3
    """Fraction of training in which the factor on the KL rises from zero to one."""
    balance: Literal["square", "linear", "sqrt", "equal", "none"] = "square"
    """KL balancing over groups during warm-up. A group's weight is proportional to its KL divided
    by the size of its scale j, counted from the coarsest: 4^j / number of groups (square), 2^j
    (linear), 2^(j/2) (sqrt) or 1 (equal)."""
    regularise: NotNegative = 1e-2
    """Weight of the penalties on spectral norms of convolutions and gains of batch norms; 0 for
    none."""
    regularise_start: Positive | None = None
    """Initial weight of the penalties of --regularise, which then changes along with the factor
    on the KL; by default the weight is constant."""
    weight_decay: NotNegative = 3e-4
    """Weight decay: an L2 term in the gradient for Adamax; decoupled for Muon (weights shrink by
    this factor times the learning rate at every step)."""
    eps: Positive = 1e-3
    """Epsilon of Adamax, a lower limit of the running maximum by which gradients are divided."""
    ema: Fraction = 0.0
    """Decay of a moving average of the weights, which is evaluated and saved; 0 uses the last
    weights."""
    fine_tune: Fraction = 0.0
    """Final fraction of training that maximises the importance-weighted bound."""
    fine_tune_particles: Count = 5
    """Importance samples per image during --fine-tune, all in one batch."""
    checkpoint_levels: bool = False
    """Recompute the cells in the backward pass instead of storing their values, which needs less
    memory and more time."""
    evaluate: Count = 10
    """Importance samples per test image in the final evaluation."""
    readjust: NotNegativeInt = 500
    """Passes that readjust batch norms to the temperature of samples; 0 keeps the trained
    statistics."""
    model_options: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Options of the model's constructor."""

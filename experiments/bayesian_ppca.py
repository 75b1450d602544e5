"""How many dimensions do the data have? Bayesian PPCA with Pyro's autoguides or NUTS.

W, mu and sigma have priors, z is integrated out, and columns of W that the data do not need shrink
to zero. All guides approximate the same posterior. If nuts is among them, the others are compared
with it in quantities that do not depend on the rotation of W: W W⊤, sigma and log p. LOO is the
expected log density of a held-out datum. The draws are saved as NetCDF for ArviZ.

    python -m experiments bayesian-ppca --guide auto_multivariate_normal nuts
    python -m experiments bayesian-ppca --data digits --latent-dim 20 --guide auto_normal
    python -m experiments bayesian-ppca --identified --guide auto_laplace auto_iaf nuts
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from experiments.data import Data, as_data, load
from experiments.data.dataset import Source
from experiments.errors import TrainingError, UsageError
from experiments.evaluation.bayesian.draws import REPLICATED, draws_of_guide, posterior
from experiments.inference.bayesian.laplace import curvature_at_mode
from experiments.inference.bayesian.mcmc import check_cost, nuts
from experiments.inference.bayesian.start import at_maximum_likelihood
from experiments.inference.compiled.graph import can_compile
from experiments.inference.fit import fit
from experiments.inference.guard import Diverged, Guard
from experiments.inference.objectives import ELBO
from experiments.inference.optim.light import Adam
from experiments.inference.svi import SVI
from experiments.options.common import RunOptions
from experiments.options.ranges import Count, Positive, at_least
from experiments.reports.bayesian import Fitted, report_guides
from experiments.runs.cli import cli
from experiments.runs.run import Run
from guides.auto import AUTOGUIDES, Auto
from ppl_models import PPCA, Batch
from ppl_models.bayesian_ppca import BayesianPPCA
from ppl_models.names import unknown


@dataclass(frozen=True)
class Config(RunOptions):
    device: Literal["cpu"] = "cpu"
    """Device; the models are so small that only the CPU is supported."""
    guide: tuple[str, ...] = ("auto_multivariate_normal",)
    """One or more of auto_delta, auto_normal, auto_multivariate_normal, auto_low_rank,
    auto_laplace, auto_iaf and nuts."""
    data: Literal["simulated", "digits", "mnist", "fashion_mnist", "kmnist"] = "simulated"
    """Data set; simulated has 500 rows of 20 numbers, generated from 3 columns."""
    data_root: Path | None = None
    """Directory of the data; by default $PPL_DATA, else ./data."""
    rows: Count | None = None
    """Number of rows to use, from the first; by default all."""
    latent_dim: Count = 8
    """M, the maximum number of columns of W."""
    prior_scale: Positive = 1.0
    """Prior scale of sigma, mu and the norms of the columns, in the units of x."""
    identified: bool = False
    """Make W lower triangular with a positive diagonal, which excludes rotations; auto_laplace
    requires it."""
    steps: Count = 10_000
    """Gradient steps of each guide, on all data."""
    lr: Positive | None = None
    """Initial learning rate of the guides, decreased to zero along a cosine; by default 0.02, and
    0.002 for auto_iaf."""
    particles: Count = 1
    """Draws from the guide per gradient step."""
    draws: Annotated[int, at_least(4)] = 1000
    """Number of draws to keep from every guide and every chain."""
    tune: Count = 1000
    """Warm-up draws per chain, which tune the step size of nuts."""
    chains: Count = 4
    """Number of chains of nuts, run one after the other."""


def main(config: Config) -> dict[str, Any]:
    check(config)
    with Run("bayesian_ppca", config) as run:
        data = observed(config)
        x = data.observations().flatten(1).double()
        run.save_config()
        run.say(
            f"{data.name}: {len(x)} data of {x.shape[1]} numbers, at most "
            f"{config.latent_dim} columns"
        )
        model = BayesianPPCA(
            x.shape[1], config.latent_dim, config.prior_scale, identified=config.identified
        ).double()
        check_memory(config, x)
        if "nuts" in config.guide:
            check_cost(model, Batch.of(x), config.chains * (config.draws + config.tune))
        found = {}
        for name in dict.fromkeys(config.guide):
            try:
                found[name] = fitted(run, model, name, x)
            except TrainingError as error:  # other guides may still work
                run.say(f"{name} failed: {error}")
            else:
                run.say(f"{name}: {found[name].seconds:.0f} s")
        if not found:
            raise TrainingError("all guides failed.")
        return report_guides(run, found, model, data, x)


def check(config: Config) -> None:
    """Refuse options that would only fail after the sampling is done."""
    names = [*AUTOGUIDES, "nuts"]
    others = [name for name in config.guide if name not in names]
    if others or not config.guide:
        raise UsageError(
            unknown("guide", others[0], names) if others else f"--guide is one of {names}."
        )
    if "auto_laplace" in config.guide and not config.identified:
        raise UsageError(
            "auto_laplace needs --identified: along rotations of W the density has no curvature."
        )


def check_memory(config: Config, x: Tensor) -> None:
    """Refuse data whose draws, as W W⊤ or as replicated data, do not fit into ``--memory``."""
    draws = config.draws * (config.chains if "nuts" in config.guide else 1)
    gib = 8 * max(draws * x.shape[1] ** 2, 2 * REPLICATED * x.numel()) / 2**30
    if gib > config.memory:
        raise UsageError(
            f"{len(x)} data of {x.shape[1]} numbers need {gib:.1f} GiB for {draws} draws of W W⊤ "
            f"and replicated data: more than --memory {config.memory}; take fewer --draws."
        )


def observed(config: Config) -> Data:
    """The chosen data set; simulated data have columns of norms 6, 4 and 2.5, and sigma = 0.5."""
    if config.data != "simulated":
        train, _ = load(config.data, config.data_root)
        return train.rows(config.rows).fixed()
    truth = PPCA(20, 3)
    with torch.no_grad():
        directions = torch.linalg.qr(torch.randn(20, 3)).Q
        truth.W.copy_(directions * torch.tensor([6.0, 4.0, 2.5]))
        truth.mu.normal_()
        truth.log_sigma.fill_(0.5).log_()
        data = as_data(truth(Batch.draw(config.rows or 500)).double())
        return replace(data, source=Source("simulated"))


def fitted(run: Run, model: BayesianPPCA, name: str, x: Tensor) -> Fitted:
    """The posterior according to one guide."""
    config, batch = run.config, Batch.of(x)
    began = time.perf_counter()
    start = at_maximum_likelihood(model, x)
    if name == "nuts":
        chains = nuts(
            model,
            batch,
            config.draws,
            config.tune,
            config.chains,
            start=start,
            compile=can_compile(),
            progress=sys.stderr.isatty(),
        )
        seconds = time.perf_counter() - began  # seconds of sampling, with compiling
        return Fitted(posterior(model, chains.draws, x), seconds, chains.divergences)
    guide = Auto(model, name, start=start).double()
    rate = config.lr or (0.002 if name == "auto_iaf" else 0.02)
    adam = Adam(guide.parameters(), rate)
    bounded = Guard(clip=1.0)  # single draws may lie far out
    svi = SVI(model, guide, adam, ELBO(config.particles), bounded)
    try:
        for progress in fit(svi, x, config.steps, len(x), seed=config.seed):
            if progress.epoch % max(1, config.steps // 5) == 0:
                run.say(
                    f"{name}, step {progress.epoch}: loss {progress.loss:.4f} nats per datum, "
                    f"{bounded.skipped} steps skipped"
                )
        if name == "auto_laplace":
            curvature_at_mode(guide, batch)
        latents = draws_of_guide(guide, batch, config.draws)
        return Fitted(posterior(model, latents, x), time.perf_counter() - began)
    except UsageError:
        raise
    except (torch.linalg.LinAlgError, ValueError, Diverged):  # what broken parameters end in
        raise TrainingError(f"it diverged at --lr {rate}; a lower one may help.") from None


if __name__ == "__main__":
    cli(Config, main)

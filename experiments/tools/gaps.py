"""What does a guide lose through its family and its encoder, and on which images?

log p(x) - ELBO of a saved run is split at the best ELBO that the guide's family reaches on each
image: the part above is due to the family, the part below to the encoder (Cremer, Li & Duvenaud
2018). log p(x) is exact if the model has a closed form; otherwise it is estimated by importance
weighting or annealed importance sampling, whichever is higher on average. The report also gives
k-hat, the tail index of every image's importance weights; above 0.7 the weights are unreliable.
For Gaussian q, the tail index far out is estimated too, for the first few images.

    python -m experiments gaps runs/vae-...
    python -m experiments gaps runs/nvae-... --images 100 --ais-from prior
    python -m experiments gaps runs/vae-... --guide mean_field
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.ais import annealed_bound, check_anneals, sandwich
from experiments.evaluation.bounds import exact_marginal, mean_and_error, rows_at_a_time
from experiments.evaluation.gaps import best_evidence, gap_rows, local_elbo, stopping_rule
from experiments.evaluation.khat import UNRELIABLE, khat, share_unreliable, weights_of_draws
from experiments.evaluation.metrics import protocol
from experiments.evaluation.tail_index import DEPTH, far_tail
from experiments.inference.frozen import held_out
from experiments.inference.svi import Pair
from experiments.options.common import SavedRunOptions
from experiments.options.ranges import Count, NotNegativeInt, Positive, Several
from experiments.reports import plots
from experiments.reports.gap_table import gaps_in_words
from experiments.reports.markdown import markdown_table
from experiments.reports.page import finish
from experiments.reports.words.titles import subject, unit
from experiments.runs.cli import cli
from experiments.runs.metrics import save_values
from experiments.runs.run import Run
from experiments.training.pictures import as_images
from experiments.training.saved_run import SavedRun, opened_for
from guides import GUIDES, Guide, check_pair
from guides.local import PerDatumGuide


@dataclass(frozen=True)
class Config(SavedRunOptions):
    INSTEAD = ("mean_field", "full_rank")
    guide: str | None = None
    """mean_field or full_rank, fitted to each image, in place of the run's guide; or the run's
    guide as package.module:Class, which allows its import."""
    images: Several = 500
    """Maximum number of test images, from the first; all estimates use the same images."""
    particles: Count = 1000
    """Importance samples per image, for the bound and for k-hat."""
    local_steps: Count = 2000
    """Maximum number of local optimization steps per image, before averaging starts."""
    local_lr: Positive = 0.02
    """Initial learning rate of the local optimization steps."""
    tail_images: NotNegativeInt = 5
    """Number of images for which the tail index is also estimated from draws in the tail."""
    tail_draws: Count = 100_000
    """Draws per image for the tail index of the first --tail-images images."""
    ais_from: Literal["guide", "prior", "none"] = "guide"
    """Initial distribution of annealed importance sampling; none skips it."""
    chains: Count = 16
    """Chains of annealed importance sampling per image."""
    ais_steps: Count = 200
    """Number of temperatures of annealed importance sampling."""
    leapfrog: Count = 8
    """Leapfrog steps per Hamiltonian proposal of annealed importance sampling."""
    simulated: Count = 50
    """Number of data drawn from the model to check annealing by an upper and a lower bound."""

    @property
    def annealing(self) -> tuple[int, int, int, Any]:
        """Chains, temperatures, leapfrog steps and start of annealed importance sampling."""
        return self.chains, self.ais_steps, self.leapfrog, self.ais_from


def main(config: Config) -> dict[str, Any]:
    with Run("gaps", config) as run:
        saved = opened_for(run)
        data = saved.images(config.images)
        one = unit({"shape": data.image_shape})
        guide = guide_of(saved, data, config.guide)
        values = measured(run, saved, guide, data, config)
        share = share_unreliable(values["khat"])
        run.say(f"k-hat above {UNRELIABLE}: {share:.1%} of the {one}s")
        tails = far_tails(run, saved.model, guide, data, values["khat"], config)
        bounds = ("log_evidence", "iw_bound", "ais_bound")
        estimator, evidence = best_evidence({k: values[k] for k in bounds if k in values})
        rows = gap_rows(values, evidence, config.seed, isinstance(guide, Guide))
        run.say(f"\n{markdown_table(rows)}")
        save_values(run.path, values)
        pictures(run, values, rows, data)
        metrics = saved.new_metrics(data, config.seed, config.particles)
        metrics.guide = config.guide or metrics.guide
        metrics.parameters = Pair(saved.model, guide).number_of_parameters
        how = how_measured(values, tails, config, one)
        metrics.protocol = protocol(data, guide, config.particles) | how
        metrics.more = {
            "gaps": rows,
            "evidence": estimator,
            "means": {key: value.double().mean().item() for key, value in values.items()},
            "share_unreliable": share,
            "tails": tails,
            "sandwich": checked(run, saved, guide, config),
        }
        title = f"{subject(metrics.model, metrics.data, str(metrics.guide))}: what it loses"
        found, warnings = gaps_in_words(rows, estimator, share, one)
        tables = {f"Gaps [nats per {one}]": rows} | ({"Tail index": tails} if tails else {})
        return finish(run, metrics, title, [found], tables, warnings)


def guide_of(saved: SavedRun, data: Data, name: str | None) -> Guide:
    """The run's guide, or another one with a row per image, fitted to these images."""
    own = saved.config["pair"]["guide"]
    if name in Config.INSTEAD or ":" not in own:
        check_pair(saved.model, name or own)
    guide = GUIDES[name](saved.model) if name in Config.INSTEAD else saved.guide
    return held_out(saved.model, guide, data).eval()


def how_measured(
    values: dict[str, Tensor], tails: list[dict[str, Any]], config: Config, one: str
) -> dict[str, Any]:
    """Fields of the protocol on local optimization, annealing and draws in the tail."""
    how = {}
    if "local_elbo" in values:
        how["local"] = f"{stopping_rule(config.local_steps)}; first rate {config.local_lr}"
    if "ais_bound" in values:
        how["ais"] = (
            f"{config.chains} chains from the {config.ais_from}, {config.ais_steps} "
            f"temperatures, {config.leapfrog} leapfrog steps"
        )
    if tails:
        how["tails"] = (
            f"{config.tail_draws} draws each of the first {len(tails)} {one}s, "
            f"half of them sent {DEPTH:g} standard deviations out"
        )
    return how


def checked(run: Run, saved: SavedRun, guide: Guide, config: Config) -> dict[str, float] | None:
    """The upper minus the lower annealed bound, on data drawn from the model."""
    if config.ais_from == "none" or isinstance(guide, PerDatumGuide):
        return None  # a guide with rows has none for such data
    width = sandwich(saved.model, guide, config.simulated, *config.annealing)
    mean, error = mean_and_error(width)
    run.say(
        f"AIS on {config.simulated} simulated data: upper minus lower bound of log p(x) "
        f"{mean:.4f} ± {error:.4f} nats"
    )
    return {"simulated": config.simulated, "width": mean, "width_se": error}


def measured(
    run: Run, saved: SavedRun, guide: Guide, data: Data, config: Config
) -> dict[str, Tensor]:
    """Every estimate of every image, ``[N]`` each [nats]."""
    model: Any = saved.model
    log_w = weights_of_draws(model, guide, data, config.particles)
    values = {
        "elbo": log_w.mean(1),
        "iw_bound": log_w.logsumexp(1) - math.log(log_w.shape[1]),
        "khat": khat(log_w),
    }
    run.say(
        f"ELBO {values['elbo'].mean():.4f}, IW-{config.particles} bound "
        f"{values['iw_bound'].mean():.4f} nats per datum"
    )
    if config.ais_from != "none":
        check_anneals(model, guide, next(data.batches(2)), config.ais_from)
    try:
        local = local_elbo(
            model, guide, data, config.particles, config.local_lr, config.local_steps
        )
    except NotImplementedError:
        known = isinstance(guide, Guide)
        words = "has no encoder, so there is no amortisation gap"
        run.say(f"the guide {words if known else 'is no guides.Guide: its gap is not divided'}.")
    else:
        values["local_elbo"] = local.elbo
        run.say(f"best ELBO of the family {local.elbo.mean():.4f}, after {local.steps} steps")
    if marginal := exact_marginal(model):
        values["log_evidence"] = torch.cat(
            [marginal.log_prob(batch.only.double()) for batch in data.batches(1000)]
        ).detach()
    if config.ais_from != "none":
        values["ais_bound"] = annealed(model, guide, data, config)
        run.say(f"AIS bound {values['ais_bound'].mean():.4f}")
    return values


def far_tails(
    run: Run, model: Any, guide: Guide, data: Data, khats: Tensor, config: Config
) -> list[dict[str, Any]]:
    """Estimates of the far tail of the first images, a row each; none if q is not Gaussian."""
    if not config.tail_images:
        return []
    try:
        found = far_tail(model, guide, data, config.tail_draws, config.tail_images)
    except UsageError as error:
        run.say(f"no tail index beside k-hat: {error}")
        return []
    count, one = len(found.tail_index), unit({"shape": data.image_shape})
    columns = {"k-hat": khats[:count], **found._asdict()}
    means = {name: column.double().mean().item() for name, column in columns.items()}
    run.say(
        f"tail index of the first {count} {one}s: {means['tail_index']:.3f}, from draws tilted "
        f"into the tail (k-hat, from draws of q: {means['k-hat']:.3f}); largest eigenvalue of the "
        f"quadratic that log w is near: {means['eigenvalue']:.3f}, R^2 {means['r2']:.3f}"
    )
    return [
        {one: row, **{name: column[row].item() for name, column in columns.items()}}
        for row in range(count)
    ]


def annealed(model: Any, guide: Guide, data: Data, config: Config) -> Tensor:
    """The annealed bound of every image, at most a hundred images at a time."""
    rows = rows_at_a_time(model, data, config.memory, 100 * config.chains) // config.chains or 1
    runs = (annealed_bound(model, guide, batch, *config.annealing) for batch in data.batches(rows))
    found = torch.cat([run.bound for run in runs])
    for row in (~found.isfinite()).nonzero().flatten().tolist():
        raise UsageError(f"datum {row} has an annealed weight that is not finite.")
    return found


def pictures(run: Run, values: dict[str, Tensor], rows: list[dict[str, Any]], data: Data) -> None:
    """The gaps as bars, the tail indices by class, and the ten images with the worst."""
    errors = [(row["to"] - row["from"]) / 3.92 for row in rows]  # standard errors
    names = [row["gap"] for row in rows]
    run.figure("gaps", plots.bars(names, [row["nats"] for row in rows], "nats", errors))
    run.figure(
        "khat",
        plots.by_class(values["khat"], data.labels, "k-hat", UNRELIABLE, data.source.classes),
    )
    if data.are_images:
        worst = values["khat"].argsort(descending=True)[:10]
        shown = as_images(data.observations(worst.to(data.pixels.device)), data)
        titles = [f"{float(k):.2f}" for k in values["khat"][worst]]
        run.figure("worst", plots.images_in_rows({"worst k-hat": shown}, titles))


if __name__ == "__main__":
    cli(Config, main)

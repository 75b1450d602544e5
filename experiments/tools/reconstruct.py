"""What does the model keep of an image, and how does it complete half of one?

Without a mask, the report shows E[x | z*] at the guide's mean beside the originals. With a mask,
the hidden pixels are completed by conditioning: q(z | observed pixels) is fitted to the observed
pixels alone.

    python -m experiments reconstruct runs/ppca-...
    python -m experiments reconstruct runs/ppca-... --mask half
    python -m experiments reconstruct runs/vae-... --images 100
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.bounds import (
    ENCODING_DRAWS,
    mean_and_error,
    reconstruct,
    rows_at_a_time,
)
from experiments.evaluation.metrics import default_particles
from experiments.evaluation.sampling.reconstruction import counted
from experiments.evaluation.sampling.samples import complete
from experiments.inference.frozen import held_out
from experiments.options.common import SavedRunOptions
from experiments.options.ranges import Several
from experiments.reports import plots
from experiments.reports.page import finish
from experiments.reports.words.numbers import squared
from experiments.reports.words.titles import subject, unit
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.pictures import as_images
from experiments.training.saved_run import SavedRun, opened_for


@dataclass(frozen=True)
class Config(SavedRunOptions):
    mask: Literal["none", "half"] = "none"
    """Pixels to hide; half hides the lower half of every image, or the second half of a row."""
    images: Several = 1000
    """Maximum number of test images."""


def main(config: Config) -> dict[str, Any]:
    with Run("reconstruct", config) as run:
        saved = opened_for(run)
        test = saved.images(config.images)
        observed = mask_of(config.mask, saved)
        x = test.observations()
        shown, how = inferred(saved, test, observed, config)
        squares = (x - shown).square() * seen_of(saved.model, test, config.memory)
        error, error_se = mean_and_error(squares.flatten(1).sum(1))
        hidden, hidden_se = mean_and_error((squares * ~observed).flatten(1).sum(1))
        figures = {
            "squared_error": error,
            "squared_error_se": error_se,
            "hidden_squared_error": hidden,
            "hidden_squared_error_se": hidden_se,
        }
        run.say(f"squared error {squared(error, error_se)}, of hidden pixels {squared(hidden)}")
        what = "reconstructions" if config.mask == "none" else "completions"
        if test.are_images:
            rows = {"x": x[:10], "observed": (x * observed)[:10], "E[x | z]": shown[:10]}
            if config.mask == "none":
                del rows["observed"]
            pictures = {name: as_images(part, test) for name, part in rows.items()}
            run.figure(what, plots.images_in_rows(pictures, test.label_names(10)))
        metrics = saved.new_metrics(test, config.seed, draws_of(saved.guide, config.mask), **how)
        metrics.test = figures
        title = f"{subject(metrics.model, metrics.data)}: {what} ({config.run.name})"
        one = unit(metrics.protocol)
        found = (
            f"The squared error is {squared(error, error_se)} per {one}, averaged over the first "
            f"{len(test)} test {one}s."
        )
        if config.mask != "none":
            found += f" Hidden pixels account for {squared(hidden, hidden_se)} of it."
        return finish(run, metrics, title, [found], {f"Squared error per {one}": [figures]})


def inferred(
    saved: SavedRun, test: Data, observed: Tensor, config: Config
) -> tuple[Tensor, dict[str, Any]]:
    """E[x | z*] of every image, and the fields of the protocol that say how z* was inferred."""
    how: dict[str, Any] = {}
    if config.mask == "none":
        guide = held_out(saved.model, saved.guide, test)
        batches = test.batches(rows_at_a_time(saved.model, test, config.memory, 1000))
        shown = torch.cat([reconstruct(saved.model, guide, batch) for batch in batches])
    else:
        shown, fitted = complete(saved.model, test, observed, config.seed)
        how = fitted | {"mask": config.mask}
    if not shown.isfinite().all():
        raise UsageError(
            "E[x | z] is not finite: under a likelihood without a mean, such as a Categorical, "
            "there are no reconstructions; under another one the run has diverged."
        )
    return shown, how


def seen_of(model: nn.Module, test: Data, memory: float) -> Tensor:
    """True where a value counts in the likelihood, as in the squared error of an evaluation."""
    batches = test.batches(rows_at_a_time(model, test, memory, 1000))
    with torch.no_grad():
        return torch.cat([counted(model, batch) for batch in batches])


def draws_of(guide: nn.Module, mask: str) -> int:
    """Draws for an encoding: many of the prior; else the mean of q stands for them."""
    return ENCODING_DRAWS if mask == "none" and default_particles(guide) > 1 else 1


def mask_of(name: str, saved: SavedRun) -> Tensor:
    """True where a pixel is observed, shaped as the model's observations."""
    observed = torch.ones(saved.test.image_shape, dtype=torch.bool)
    if name == "half":
        lines = observed.movedim(-2, 0) if observed.ndim > 1 else observed
        lines[len(lines) // 2 :] = False
    shape = saved.test.event_shape or saved.test.image_shape
    return observed.reshape(shape).to(saved.test.pixels.device)


if __name__ == "__main__":
    cli(Config, main)

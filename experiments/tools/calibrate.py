"""Is a guide's uncertainty right? Simulation-based calibration of a saved run.

Data are drawn from the model together with their latents. If q(z | x) equals p(z | x), the rank of
each latent among draws of q is uniform. Too many ranks at both ends mean that q is too narrow
(overconfident), too many in the middle that it is too wide, too many at one end that it is
biased. Nothing is trained. Uniform ranks do not prove q: the prior has them, too.

    python -m experiments calibrate runs/ppca-...
    python -m experiments calibrate runs/vae-... --simulations 20000
    python -m experiments calibrate runs/vae-... --draws 199 --seed 1
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch

from experiments.errors import UsageError
from experiments.evaluation.calibration import calibrate
from experiments.options.common import SavedRunOptions
from experiments.options.ranges import at_least
from experiments.reports import plots
from experiments.reports.markdown import markdown_table
from experiments.reports.page import finish
from experiments.reports.words.titles import counted, joined, subject
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.saved_run import opened_for
from guides.local import PerDatumGuide


@dataclass(frozen=True)
class Config(SavedRunOptions):
    simulations: Annotated[int, at_least(100)] = 10_000
    """Number of data drawn from the model, at least 100."""
    draws: Annotated[int, at_least(9)] = 99
    """Draws from q per datum, at least 9; the rank of a latent takes one of draws + 1 values."""


def main(config: Config) -> dict[str, Any]:
    with Run("calibrate", config) as run:
        saved = opened_for(run)
        if isinstance(saved.guide, PerDatumGuide):
            raise UsageError(
                "calibration is for guides that take any x; this one has a row per datum."
            )
        torch.manual_seed(config.seed)
        found = calibrate(saved.model, saved.guide, config.simulations, config.draws)
        rows = [
            {
                "latent": int(name) if name.isdecimal() else name,
                "outside the band by": float(outside),
                "verdict": verdict(float(outside), float(ends)),
            }
            for name, outside, ends in zip(found.names, found.outside, found.ends, strict=True)
        ]
        run.say(f"\n{markdown_table(rows)}")
        run.figure("ranks", plots.rank_histograms(found.ranks, found.draws, found.names))
        metrics = saved.new_metrics(saved.test, config.seed, config.draws)
        metrics.more = {
            "calibration": rows,
            "passed": found.passed,
            "simulations": config.simulations,
        }
        title = f"{subject(metrics.model, metrics.data, str(metrics.guide))}: is q calibrated?"
        return finish(run, metrics, title, [in_words(rows, config)], {"Ranks": rows})


def in_words(rows: list[dict[str, Any]], config: Config) -> str:
    """The verdicts on all latents in one sentence."""
    verdicts = [row["verdict"] for row in rows]
    begin = f"On {config.simulations} simulated data, the ranks of the true latents"
    kinds = [kind for kind in dict.fromkeys(verdicts) if kind != "calibrated"]
    if not kinds:
        return (
            f"{begin} are uniform: on average over data, q is neither too narrow, too wide nor "
            "biased for any latent. A q that ignores x may pass, too; `gaps RUN` measures what q "
            "loses."
        )
    parts = [f"{kind} for {counted(verdicts.count(kind), 'latent')}" for kind in kinds]
    return f"{begin} are not uniform: q is {joined(parts)}."


def verdict(outside: float, ends: float) -> str:
    """The verdict on one latent."""
    if outside == 0:
        return "calibrated"
    return "too narrow" if ends > 0.005 else "too wide" if ends < -0.005 else "biased"


if __name__ == "__main__":
    cli(Config, main)

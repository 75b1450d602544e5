"""What does a deep hierarchy of latents gain? The NVAE of lab 4.

Nested latents from a 4x4 map to the image, a guide that corrects the model's priors group by
group, and the published recipe: KL warm-up, KL balancing over groups, Adamax and a cosine
schedule. A preset sets the defaults, and options override them.

    python -m experiments nvae --list
    python -m experiments nvae --preset digits-tiny
    python -m experiments nvae --pretrained mnist-small --evaluate 100
    python -m experiments nvae --preset mnist-small --guide bottom_up --minutes 20
"""

import math
from typing import Any

import torch

from experiments.benchmarks.preset_table import preset_table
from experiments.inference.average import WeightAverage
from experiments.inference.checkpointing import checkpoint_levels
from experiments.inference.guard import Guard
from experiments.inference.precision import products
from experiments.inference.svi import SVI, Pair
from experiments.options.nvae import NVAEOptions
from experiments.runs.checkpoint import save_weights
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.compiling import compiles
from experiments.training.data import load_data
from experiments.training.nvae.pretrained import check_available, load_pretrained
from experiments.training.nvae.recipe import check_data, check_guide, optimizer_of, recipe_of
from experiments.training.nvae.report import conclude_nvae
from experiments.training.pair import make_guide, prepare
from experiments.training.saved_run import build_model
from experiments.training.train import fit_in, start

Config = NVAEOptions


def main(config: Config) -> dict[str, Any]:
    if config.list:
        print(preset_table())
        return {}
    check_guide(config)
    if config.pretrained:
        check_available(config.pretrained, config.preset)
    with Run("nvae", config) as run:
        train, test = load_data(run)
        check_data(config, train)
        model = prepare(run, build_model("nvae", train, config.model_options), train, test)
        guide = make_guide(run, model, train)
        pair = Pair(model, guide).to(memory_format=torch.channels_last)  # a third faster on a CPU
        if config.checkpoint_levels:
            checkpoint_levels(pair)
        if config.pretrained:
            start(run, pair)
            about = load_pretrained(config.pretrained, pair, run.content["pair"])
            save_weights(run.path, pair)
            run.renew()
            return conclude_nvae(run, pair, train, test, about["epochs"])
        compile = compiles(run, guide, train)
        start(run, pair)
        chosen = recipe_of(config, pair, len(train))
        svi = SVI(
            model,
            guide,
            optimizer_of(config, pair),
            chosen.objective,
            Guard(config.clip or math.inf),
            WeightAverage(pair, config.ema) if config.ema else None,
            compile,
        )
        with chosen.temper, products(config.products):
            fit_in(run, svi, train, chosen.anneal, chosen.schedule)
        if svi.average:
            svi.average.apply()
        return conclude_nvae(run, pair, train, test)


if __name__ == "__main__":
    cli(Config, main)

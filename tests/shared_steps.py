"""What test_distributed trains, in one process and in several."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as processes

from experiments import nvae
from experiments.data import Data, load
from experiments.data.transforms import Flip
from experiments.inference.data_parallel import data_parallel
from experiments.inference.fit import fit
from experiments.inference.guard import Guard
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.optimizers import adam, adamax
from experiments.inference.svi import SVI, Pair
from experiments.runs.cli import parse
from experiments.runs.nvae_training import average_of, guard_of, recipe_of
from guides import GUIDES
from ppl_models import VAE
from ppl_models.nvae import NVAE

STEPS = 20
UNEVEN = ("unequal last batch", "fewer rows than processes, batch norms", "free bits", "mixture",
          "a row per datum")  # fmt: skip
"""What three processes train too."""


def digits(rows: int, binarize: str = "none") -> Data:
    return load("digits", rows=rows, binarize=binarize)[0]


def trained(
    svi: SVI, data: Data, batch_size: int, *more, steps: int = STEPS, **options
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Weights, average, random state, losses and skips after so many steps, or a few more."""
    data_parallel(svi)
    epochs = -(-steps // -(-len(data) // batch_size))
    done = list(fit(svi, data, epochs, batch_size, *more, **options))
    state = Pair(svi.model, svi.guide).state_dict()
    if svi.average:
        state |= {f"average.{name}": t for name, t in svi.average.weights.state_dict().items()}
    losses = torch.tensor([loss for progress in done for loss in progress.losses])
    skipped = torch.tensor(sum(progress.skipped for progress in done))
    assert len(losses) >= steps
    return {**state, "losses": losses, "skipped": skipped, "random state": torch.get_rng_state()}


def vae(
    guide: str = "amortized", objective: str = "elbo_analytic_kl", rows: int = 200,
    batch_size: int = 50, guide_options: dict | None = None, **options,
) -> dict[str, torch.Tensor]:  # fmt: skip
    data = digits(rows)
    model = VAE(tuple(data.image_shape), latent_dim=3, hidden_dims=(20,))
    q = GUIDES[guide](model, **(guide_options or {})).for_data(rows)
    svi = SVI(model, q, adam(model, q), OBJECTIVES[objective](**options))
    return trained(svi, data, batch_size)


def digits_tiny() -> dict[str, torch.Tensor]:
    """The preset with all that NVAE was published with."""
    published = ["--weight-decay", "3e-4", "--eps", "1e-3", "--regularise", "0.01"]
    args = ["--preset", "digits-tiny", "--epochs", "4", "--batch-size", "80", *published,
            "--regularise-start", "0.1", "--kl-anneal", "0.6"]  # fmt: skip
    config = parse(nvae.Config, nvae.main, args)
    data = digits(400, "dynamic")
    model = NVAE(tuple(data.image_shape), **config.model_options)
    guide = GUIDES["top_down"](model, **config.guide_options)
    pair = Pair(model, guide).to(memory_format=torch.channels_last)
    recipe = recipe_of(config, pair, len(data))
    svi = SVI(
        model, guide, adamax(model, guide, config.lr, config.weight_decay, config.eps),
        recipe.objective, guard_of(config, pair), average_of(config, pair),
    )  # fmt: skip
    with recipe.temper:
        return trained(svi, data, config.batch_size, recipe.schedule, anneal=recipe.anneal)


def nested(guide: str, rows: int = 45, **guide_options) -> dict[str, torch.Tensor]:
    """A small NVAE with two particles along the batch, and a last batch of another size."""
    sizes = {"groups": (1, 2), "latents": 2, "channels": 4, "blocks": 1, "cells_per_block": 1}
    data = digits(rows, "static")
    model = NVAE(tuple(data.image_shape), crop=0, **sizes)
    q = GUIDES[guide](model, **guide_options)
    svi = SVI(model, q, adamax(model, q), OBJECTIVES["elbo"](2))
    return trained(svi, data, 10, steps=4)  # batch norms of several processes are slow


def with_an_infinite_row(lazy: bool = False) -> dict[str, torch.Tensor]:
    data = digits(60)
    pixels = data.pixels.double() / data.levels
    pixels[7] = 1e200  # its square is infinite
    model = VAE(tuple(data.image_shape), latent_dim=3, hidden_dims=(20,))
    guide = GUIDES["prior"](model)
    guard = Guard(Pair(model, guide), lazy=lazy)
    svi = SVI(model, guide, adam(model, guide), OBJECTIVES["elbo"](), guard)
    state = trained(svi, Data(pixels, transforms=(Flip(),)), 10)
    guard.read()
    assert guard.last
    assert "site x: log-density -inf at Normal" in guard.last
    return state | {"skipped": torch.tensor(guard.skipped)}


CASES: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
    "vae": vae,
    "digits-tiny": digits_tiny,
    "unequal last batch": partial(vae, rows=65, batch_size=10),
    "fewer rows than processes": partial(vae, rows=31, batch_size=6),
    "fewer rows than processes, batch norms": partial(nested, "bottom_up", rows=31),
    "nvae, particles": partial(nested, "top_down", cells_per_block=1),
    "nvae, flows": partial(nested, "top_down", cells_per_block=1, flows=1),
    "iwae": partial(vae, objective="iwae", particles=5),
    "dreg": partial(vae, objective="dreg", particles=3),
    "stl, full covariance": partial(
        vae, objective="stl", particles=2, guide_options={"covariance": "full"}
    ),
    "renyi, prior": partial(vae, "prior", "renyi", particles=4),
    "free bits": partial(vae, objective="elbo_free_bits", free_bits=1.0, rows=65, batch_size=10),
    "flow": partial(vae, "flow", "elbo", particles=2),
    "mixture": partial(vae, "mixture", "miselbo", particles=2, strata=3, rows=65, batch_size=10),
    "semi-amortized": partial(
        vae, "semi_amortized", "iwae", particles=3, guide_options={"steps": 2}
    ),
    "a row per datum": partial(vae, "mean_field", "elbo", rows=65, batch_size=10),
    "infinite row": with_an_infinite_row,
    "infinite row, lazy": partial(with_an_infinite_row, lazy=True),
}


def in_process(rank: int, number: int, folder: Path) -> None:
    """Everything above in one of several processes; what it found in a file of its own."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    file = f"file://{folder / f'meeting-{number}'}"
    processes.init_process_group("gloo", init_method=file, rank=rank, world_size=number)
    found = {}
    for name in CASES if number == 2 else UNEVEN:
        torch.manual_seed(0)
        found[name] = CASES[name]()
    torch.save(found, folder / f"{rank}-of-{number}.pt")
    processes.destroy_process_group()

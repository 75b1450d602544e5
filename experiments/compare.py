"""What does the guide change? One model with several guides, compared image by image.

With a frozen decoder, all guides approximate the same posterior. With a learned decoder, the guide
also shapes the model: mean_field rotates W until the posterior is nearly diagonal.

    python -m experiments compare --data digits
    python -m experiments compare --guides exact,full_rank,amortized:covariance=full
    python -m experiments compare --of runs/vae-...   (guides on the decoder of a saved run)
    python -m experiments compare --runs runs/a runs/b
"""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from tqdm import tqdm

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.comparison import Entry, Row
from experiments.evaluation.oracle import rotate_to_largest_gap
from experiments.inference.checks.rows import check_local
from experiments.inference.optim import adam, muon
from experiments.inference.svi import SVI
from experiments.options.common import DataOptions, FreshRunOptions
from experiments.options.constructors import gives_points
from experiments.options.guide_lists import parse_guides
from experiments.options.ranges import Count, Positive
from experiments.options.settled import check_settled
from experiments.options.trust import Trusted
from experiments.reports.comparison import save_comparison
from experiments.reports.saved_comparison import check_same_images, read_runs, save_table_of_runs
from experiments.reports.words.titles import joined
from experiments.runs.cli import cli
from experiments.runs.environment import pick_device
from experiments.runs.run import Run
from experiments.training.data import load_data
from experiments.training.pair import (
    at_maximum_likelihood,
    build_guide,
    build_objective,
    check_pixels,
)
from experiments.training.saved_run import SavedRun, build_model, open_run
from guides import allowed_guides

SIX_GUIDES = ("exact", "full_rank", "mean_field", "amortized", "prior", "point")
WITH_RUNS = {"runs", "data_root", "data_changed", "trust", "seed", "device", "memory", "out"}
"""Options that may be given beside --runs."""


@dataclass(frozen=True)
class Config(DataOptions, FreshRunOptions):
    data: str = "digits"
    """Data set: digits, mnist, fashion_mnist, kmnist, omniglot, cifar10, celeba64, folder (the
    images in --data-root), or a file of numbers (.npy, .npz or .csv)."""
    model: str = "ppca"
    """p(x, z): ppca, vae, or a class of your own as package.module:Class. Options of the
    model are --model.OPTION, or --OPTION for short."""
    guides: str | None = None
    """Guides separated by commas, with their options after colons (amortized:covariance=full); a
    guide may be a class of your own, package.module:Class. By default those of exact, full_rank,
    mean_field, amortized, prior and point that fit the model."""
    decoder: Literal["frozen", "learned", "both"] | None = None
    """Freeze p at its maximum-likelihood solution, learn it with each guide, or do both in turn;
    by default both if the solution is known."""
    of: Path | None = None
    """Saved run whose frozen decoder all guides share; its data and model are used too."""
    data_changed: Literal["refuse", "ok"] = "refuse"
    """What to do if the data differ from those the run --of was made with: refuse, or go on with a
    warning."""
    trust: bool = False
    """Import a model or guide from outside this package if the run --of names one."""
    rotate: bool = True
    """Rotate the frozen W until the diagonal entries of the posterior precision are equal, which
    makes the gap of a diagonal Gaussian largest."""
    seeds: Count = 1
    """Number of repetitions, with seeds from --seed on."""
    epochs: Count = 300
    """Passes over the data."""
    batch_size: Count = 500
    """Rows per step."""
    lr: Positive = 0.01
    """Learning rate of decoder and encoder (Adam; linear encoders are trained with Muon)."""
    objective: str | None = None
    """Training objective of mean_field, full_rank and amortized; by default stl, but
    elbo_analytic_kl for amortized with a learned decoder. Other guides use their own."""
    particles: Count = 100
    """Draws from q per image in the evaluation."""
    runs: tuple[Path, ...] | None = None
    """Saved runs to compare in one table instead of training; refused if their protocols
    differ."""
    model_options: tyro.conf.Suppress[dict[str, Any]] = field(
        default_factory=lambda: {"latent_dim": 10}
    )
    """Options of the model's constructor."""


def main(config: Config) -> dict[str, Any]:
    if config.runs is not None:
        check_settled("--runs", config, dict.fromkeys(vars(config).keys() - WITH_RUNS))
        return compare_saved(config, config.runs)
    entries = parse_guides(config.guides or "exact")
    saved, asked = None, config
    if config.of:
        named = config.model if ":" in config.model else None  # else it is the default
        trusted = Trusted(named, None, {entry.name for entry in entries}, config.trust)
        device = pick_device(config.device)
        saved = open_run(config.of, config.data_root, device, config.data_changed, trusted)
        config = like_saved(config, saved)
    with Run("compare", config, asked) as run:
        train = (saved.train.rows(config.rows) if saved else load_data(run)[0]).fixed()
        entries, decoders = plan(config, saved.model if saved else fresh(run, train, config.seed))
        for entry in entries:  # refuse a guide that does not fit before any guide is trained
            trial = fresh(run, train, 0)
            check_local(trial, "compare")
            build_guide(run, trial, entry.name, entry.options, train, announce=False)
            build_objective(trial, entry.name, objective_for(entry.name, "learned", config))
        run.save_config()
        run.data_changed = saved.config["data_changed"] if saved else None
        rows = measure_all(run, entries, decoders, train, saved)
        return save_comparison(run, rows, train)


def measure_all(
    run: Run,
    entries: list[Entry],
    decoders: tuple[str, ...],
    train: Data,
    saved: SavedRun | None,
) -> list[Row]:
    """Every guide with every decoder and seed; guides of points only with a frozen decoder."""
    todo = [
        (decoder, seed, entry)
        for decoder in decoders
        for seed in range(run.config.seed, run.config.seed + run.config.seeds)
        for entry in entries
        if decoder == "frozen" or not gives_points(entry.name)
    ]
    names = joined([f"p {decoder}" for decoder in decoders])
    run.say(f"fitting {joined([entry.label for entry in entries])}, {names} ...")
    shared = frozen_decoder(run, train, saved) if "frozen" in decoders else None
    rows = []
    with tqdm(todo, leave=False, disable=not sys.stderr.isatty()) as bar:
        for decoder, seed, entry in bar:
            bar.set_postfix_str(f"{entry.label}, p {decoder}")
            rows.append(measure(run, entry, shared if decoder == "frozen" else None, seed, train))
    return rows


def compare_saved(config: Config, runs: Sequence[Path]) -> dict[str, Any]:
    """One table of saved runs that were evaluated on the same images."""
    if len(runs) < 2:
        raise UsageError("--runs needs at least two runs.")
    saved = read_runs(runs)
    check_same_images(saved)
    with Run("compare", config) as run:
        run.save_config()
        return save_table_of_runs(run, saved)


def plan(config: Config, model: Any) -> tuple[list[Entry], tuple[str, ...]]:
    """The guides and decoders to compare; by default the ``SIX_GUIDES`` that fit the model."""
    known = hasattr(model, "maximum_likelihood") or config.of is not None
    decoder = config.decoder or ("both" if known else "learned")
    if decoder != "learned" and not known:
        words = "has no closed-form maximum of the likelihood to be frozen at: use --decoder"
        raise UsageError(f"{type(model).__name__} {words} learned, or --of with a trained run.")
    allowed = allowed_guides(model)
    entries = parse_guides(config.guides or ",".join(g for g in SIX_GUIDES if g in allowed))
    if decoder == "learned" and all(gives_points(entry.name) for entry in entries):
        raise UsageError(
            f"{entries[0].name} has no optimum with a learned decoder; add another guide."
        )
    return entries, ("frozen", "learned") if decoder == "both" else (decoder,)


def fresh(run: Run, data: Data, seed: int) -> Any:
    """A model with random parameters."""
    torch.manual_seed(seed)
    model = build_model(run.config.model, data, run.config.model_options)
    check_pixels(model, data)
    return model.to(device=run.device, dtype=getattr(torch, run.config.dtype))


def like_saved(config: Config, saved: SavedRun) -> Config:
    """The options with the model and data of a saved run and a frozen decoder."""
    pair = saved.config["pair"]
    names = {f.name for f in dataclasses.fields(DataOptions)} - {"data_root", "rows"} | {"dtype"}
    taken = {name: saved.config["options"].get(name, getattr(config, name)) for name in names}
    taken |= {name: pair[name] for name in ("model", "model_options")} | {"decoder": "frozen"}
    check_settled("--of", config, taken)
    return dataclasses.replace(config, **taken)


def frozen_decoder(run: Run, train: Data, saved: SavedRun | None) -> Any:
    """The model that all guides share: that of a saved run, or the maximum-likelihood solution.

    The solution uses all rows of the data, even if guides are fitted to some of them only.
    """
    if saved:
        return saved.model.requires_grad_(False)
    data = load_data(run, every_row=True)[0] if run.config.rows else train
    model: Any = at_maximum_likelihood(fresh(run, data, run.config.seed), data)
    turn = run.config.rotate and hasattr(model, "rotated")
    return rotate_to_largest_gap(model) if turn else model


def objective_for(guide: str, decoder: str, config: Config) -> str | None:
    """The training objective of a guide; ``None`` for its default.

    With ``stl`` the noise vanishes as q reaches the posterior. While encoder and decoder are both
    learned it can diverge, unlike the ELBO with analytic KL.
    """
    if config.objective and guide in ("mean_field", "full_rank", "amortized"):
        return config.objective
    if guide in ("mean_field", "full_rank"):
        return "stl"
    if guide == "amortized":
        return "stl" if decoder == "frozen" else "elbo_analytic_kl"
    return None


def measure(run: Run, entry: Entry, shared: Any, seed: int, train: Data) -> Row:
    """Train one guide (and a decoder, unless one is shared) and measure it on every row."""
    config, decoder = run.config, "learned" if shared is None else "frozen"
    torch.manual_seed(seed)
    model = fresh(run, train, seed) if shared is None else shared
    guide = build_guide(run, model, entry.name, entry.options, train, announce=False)
    chosen = objective_for(entry.name, decoder, config)
    objective = build_objective(model, entry.name, chosen)
    optimizer = muon if entry.options.get("encoder") == "linear" else adam
    svi = SVI(model, guide, optimizer(model, guide, config.lr), objective)
    return Row.measured(entry, decoder, seed, svi, train, config)


if __name__ == "__main__":
    cli(Config, main)

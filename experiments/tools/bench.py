"""How fast is it? Several implementations of the same computation, timed in turns.

steps: a training step of the lab's VAE, a 2 x 200 IWAE, a convolutional VAE and a small NVAE, in
this project (eager and compiled), in hand-written PyTorch (eager and compiled), in pyro.infer.SVI,
and in NumPyro if the extra "peers" is installed. Ratios are to hand-written eager PyTorch.
lab-vae: an epoch of the lab's VAE with a DataLoader that fetches image by image, as in the lab;
with tensors in memory; and with this project's fit, eager and compiled.
profile: the time of such an epoch by operation.
closed-form: PPCA compared with scikit-learn.
scaling: the time of a step by batch size, particles and groups.
nvae-step: training steps of an NVAE preset, compared with its convolutions alone.

    python -m experiments bench
    python -m experiments bench lab-vae --data digits --epochs 10
    python -m experiments bench nvae-step --preset mnist-large --batch-size 32
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from experiments.benchmarks.closed_form import measure_closed_form
from experiments.benchmarks.epochs import measure_epochs, profile_epoch
from experiments.benchmarks.nvae_step import step_speed
from experiments.benchmarks.preset_table import preset_pair
from experiments.benchmarks.scaling import BATCHES, measure_scaling
from experiments.benchmarks.steps import SUBJECTS, measure_steps
from experiments.benchmarks.timing import matrix_peak
from experiments.data import Data, load
from experiments.errors import UsageError
from experiments.evaluation.metrics import protocol
from experiments.inference.checkpointing import checkpoint_levels
from experiments.options.common import RunOptions
from experiments.options.presets import PRESETS
from experiments.options.ranges import Count
from experiments.reports.markdown import markdown_table
from experiments.reports.page import finish
from experiments.runs.cli import cli
from experiments.runs.environment import pick_device
from experiments.runs.files import write_text
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run
from ppl_models.names import unknown


@dataclass(frozen=True)
class Config(RunOptions):
    name: tyro.conf.Positional[
        Literal["all", "steps", "lab-vae", "profile", "closed-form", "scaling", "nvae-step"]
    ] = "all"
    """Benchmark to run; all runs everything except nvae-step."""
    only: str = ""
    """Run only the entries of steps whose name contains this text, for example NVAE or B = 500."""
    rounds: Count = 20
    """Number of times that every implementation takes its turn."""
    preset: str = "mnist-large"
    """Preset of nvae-step."""
    steps: Count = 5
    """Number of timed steps of nvae-step, after one untimed step."""
    checkpoint_levels: bool = False
    """Recompute the cells of nvae-step in the backward pass instead of storing their values."""
    data: Literal["mnist", "fashion_mnist", "kmnist", "digits"] = "mnist"
    """Data set of grey images; steps and scaling need 28 x 28."""
    data_root: Path | None = None
    """Directory of the data; by default $PPL_DATA, else ./data."""
    rows: Count | None = None
    """Number of images to use, from the first; by default all. Steps needs 500, scaling 2048."""
    epochs: Count = 3
    """Number of timed epochs per implementation in lab-vae, after one untimed epoch."""
    batch_size: Count | None = None
    """Rows per step; 500 for lab-vae, 32 for nvae-step by default."""


def main(config: Config) -> dict[str, Any]:
    if config.preset not in PRESETS:
        raise UsageError(unknown("preset", config.preset, PRESETS))
    if not any(config.only in name for name in SUBJECTS):
        raise UsageError(f"--only '{config.only}' is in none of: {'; '.join(SUBJECTS)}.")
    names: list[str] = [config.name]
    if config.name == "all":
        names = [name for name in SUITES if name != "nvae-step"]
    check_rows(config, names)
    with Run("bench", config) as run:
        train = None if config.name == "nvae-step" else images(run, names)
        run.save_config()
        peak = matrix_peak(run.device)
        run.say(
            f"{torch.get_num_threads()} threads on {run.device}, {peak / 1e9:.0f} GFLOP/s in "
            "a product of 2048 x 2048 matrices"
        )
        tables: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for name, rows in tables.items():
            for table in SUITES[name](config, train, peak):
                run.say(f"\n{markdown_table(table)}")
                rows += table
        return save(run, train, tables, peak)


def check_rows(config: Config, names: list[str]) -> None:
    """Refuse fewer images than the largest batch of steps or scaling has."""
    batches = [subject.rows for name, subject in SUBJECTS.items() if config.only in name]
    needed = {"steps": max(batches), "scaling": max(BATCHES)}
    most, name = max((needed.get(name, 0), name) for name in names)
    if config.rows is not None and config.rows < most:
        raise UsageError(f"--rows {config.rows}: {name} needs {most} images or more.")


def images(run: Run, names: list[str]) -> Data:
    """The images that the suites are timed on."""
    config = run.config
    train = load(config.data, config.data_root, rows=config.rows)[0]
    if {"steps", "scaling"} & set(names) and train.image_shape[1:] != (28, 28):
        raise UsageError(f"steps and scaling are for 28 x 28 images, not --data {config.data}.")
    return train.to(run.device)


Tables = Iterator[list[dict[str, Any]]]


def steps(config: Config, train: Data, peak: float) -> Tables:
    grey = train.observations(slice(0, 2048))
    for name in SUBJECTS:
        if config.only in name:
            images = grey if name.startswith("lab") else torch.bernoulli(grey)
            yield measure_steps(name, images, config.rounds, peak)


def lab_vae(config: Config, train: Data, peak: float) -> Tables:
    yield measure_epochs(train, config.batch_size or 500, config.epochs, config.seed)


def profiled(config: Config, train: Data, peak: float) -> Tables:
    yield profile_epoch(train, config.batch_size or 500)


def closed_form(config: Config, train: Data, peak: float) -> Tables:
    x = train.observations().flatten(1)
    yield measure_closed_form(x, min(50, x.shape[1] // 4), config.rounds)


def scaling(config: Config, train: Data, peak: float) -> Tables:
    images = torch.bernoulli(train.observations(slice(0, 2048)))
    yield measure_scaling(images, max(1, config.rounds // 3))


def nvae_step(config: Config, train: None, peak: float) -> Tables:
    pair = preset_pair(config.preset).to(pick_device(config.device))
    pair.to(memory_format=torch.channels_last)
    if config.checkpoint_levels:
        checkpoint_levels(pair)
    yield [
        {
            "preset": config.preset,
            "checkpointed": config.checkpoint_levels,
            **step_speed(pair, config.batch_size or 32, config.steps),
        }
    ]


SUITES: dict[str, Callable[[Config, Any, float], Tables]] = {
    "steps": steps,
    "lab-vae": lab_vae,
    "profile": profiled,
    "closed-form": closed_form,
    "scaling": scaling,
    "nvae-step": nvae_step,
}


def save(
    run: Run, train: Data | None, tables: dict[str, list[dict[str, Any]]], peak: float
) -> dict[str, Any]:
    """The tables as JSON and as Markdown, and the run's usual files."""
    write_text(run.path / "bench.json", json.dumps(tables, indent=1))
    text = "\n".join(f"## {name}\n\n{markdown_table(rows)}" for name, rows in tables.items())
    write_text(run.path / "bench.md", text)
    metrics = Metrics(
        run.config.name,
        "",
        train.name if train else "noise",
        protocol(train, None, 1) if train else None,
        objective="",
        seed=run.config.seed,
        more={
            "bench": tables,
            "threads": torch.get_num_threads(),
            "matrix_peak_gflops": peak / 1e9,
        },
    )
    words = "Wall times. Competitors take turns, so that all meet the same load of the machine."
    return finish(run, metrics, f"Speed: {run.config.name}", [words], tables)


if __name__ == "__main__":
    cli(Config, main)

"""What is where in the latent space? An interactive page of a run that works offline.

The page contains the decoder and runs it: drag a point through the latent plane and see its image,
draw images at a temperature, and compare q(z | x) of a test image with the exact posterior. A
second guide for the same decoder (a run of refit) can be shown beside the first. The decoder of an
NVAE is too large for a page; its samples are computed in advance, at every temperature and with
the groups redrawn from every level down.

    python -m experiments explore runs/vae-...
    python -m experiments explore runs/vae-... --with runs/refit-... --out two-guides.html
    python -m experiments explore runs/nvae-... --temperature 0.6 1.0
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from experiments.errors import UsageError
from experiments.explorer.decoders import check_same, decoder_of
from experiments.explorer.groups import groups_page
from experiments.explorer.latents import check_weight, latents_page
from experiments.explorer.page import MARK
from experiments.options.common import SavedRunOptions
from experiments.options.ranges import NotNegativeInt, Positive, Range, Several
from experiments.runs.cli import cli
from experiments.runs.environment import pick_device
from experiments.runs.files import write
from experiments.training.saved_run import SavedRun, opened
from ppl_models.nvae import NVAE


@dataclass(frozen=True)
class Config(SavedRunOptions):
    run: tyro.conf.Positional[Path]
    """Directory of a trained run: PPCA, a VAE with an mlp decoder, or an NVAE."""
    with_: Annotated[Path | None, tyro.conf.arg(name="with")] = None
    """Second run with the same decoder and another guide, to show beside the first."""
    out: Path | None = None
    """File to write; by default RUN/explore.html."""
    limit: Annotated[Positive, Range(lambda size: size < 1e4, "be below 10000 MB")] = 2.0
    """Maximum size of the page [MB, a million bytes]."""
    weights: Literal["auto", "float32", "float16"] = "auto"
    """Number type of the decoder's weights; auto uses float32 if that fits --limit."""
    points: Several = 2000
    """Number of test images whose encodings are shown; at most 300 for a per-datum guide."""
    images: Several = 50
    """Number of test images to choose from, each with its q(z | x)."""
    particles: Annotated[Several, Range(lambda n: n <= 100_000, "be at most 100000")] = 200
    """Draws from q for the ELBO of each image of --images."""
    temperature: tuple[Positive, ...] = (0.6, 0.8, 1.0)
    """Temperatures of the samples of an NVAE; pages of other models draw in the browser."""
    readjust: NotNegativeInt = 500
    """Passes that readjust the batch norms of an NVAE to a temperature; 0 keeps the trained
    statistics."""


def main(config: Config) -> dict[str, Any]:
    file = config.out or config.run / "explore.html"
    check(file)
    saved = opened(config.run, config, pick_device(config.device))
    if not saved.test.are_images:
        shape = list(saved.test.image_shape)
        raise UsageError(f"a page shows images; the rows of '{saved.test.name}' are {shape}.")
    if isinstance(saved.model, NVAE):
        if config.with_:
            raise UsageError("--with is for pages that hold the decoder; an NVAE's does not.")
        page, facts = groups_page(saved, config)
    else:
        check_weight(decoder_of(saved.model, saved.config["pair"]["model"]), config)
        page, facts = latents_page([saved, *beside(saved, config)], config)
    size = len(page.encode())
    if size > config.limit * 1e6:
        raise UsageError(
            f"the page would take {size / 1e6:.2f} MB, more than --limit {config.limit:g}; "
            f"{facts['lighter']}."
        )
    write(file, lambda path: path.write_text(page, encoding="utf-8"), parents=True)
    print(f"written: {file} ({size / 1e6:.2f} MB{facts['words']})")
    return {"file": str(file), "bytes": size, **facts}


def check(file: Path) -> None:
    """Refuse to replace a file that explore did not write."""
    if file.is_symlink() or (file.exists() and not is_page(file)):
        raise UsageError(f"{file} exists and was not written by explore: choose another --out.")


def is_page(file: Path) -> bool:
    """Whether explore wrote a file."""
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return MARK.encode() in content.read(2000)


def beside(saved: SavedRun, config: Config) -> list[SavedRun]:
    """The run to be shown beside the first one, if there is one."""
    if config.with_ is None:
        return []
    other = opened(config.with_, config, pick_device(config.device))
    names = (config.run, config.with_)
    check_same(saved.model, other.model, names)
    x = [run.test.fixed().rows(min(100, len(run.test))).observations() for run in (saved, other)]
    if saved.test.sha256 != other.test.sha256 or not torch.equal(*x):
        raise UsageError(f"{config.with_} is tested on other images than {config.run}.")
    return [other]


if __name__ == "__main__":
    cli(Config, main)

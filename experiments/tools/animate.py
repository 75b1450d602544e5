"""What happens during training? An animation (GIF), or its last frame (PNG).

encodings   the test images in the latent plane of the lab's VAE, and the decoded plane
evidence    PPCA with W frozen: the ELBO of four guides approaches the exact log p(x)
khat        the tail index k-hat of every test image's importance weights, by class
posterior   a VAE with its decoder frozen: four guides fit the exact posterior of one digit

python -m experiments animate posterior --out posterior.png
python -m experiments animate evidence
python -m experiments animate khat --images 500 --out khat.gif
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from experiments.animations.encodings import encodings
from experiments.animations.evidence import evidence
from experiments.animations.frames import save_gif
from experiments.animations.khat import khat_by_digit
from experiments.animations.posterior import posterior
from experiments.data import load
from experiments.errors import UsageError
from experiments.options.ranges import Count, Range, Seed, Several
from experiments.runs.cli import cli
from experiments.runs.files import write

DRAWN = {
    "encodings": encodings,
    "evidence": evidence,
    "khat": khat_by_digit,
    "posterior": posterior,
}
ON_DIGITS = ("evidence", "posterior")
"""Animations whose default data set is digits; for the others it is mnist."""


@dataclass(frozen=True)
class Config:
    name: tyro.conf.Positional[Literal["encodings", "evidence", "khat", "posterior"]]
    """Subject of the animation."""
    data: Literal["digits", "mnist"] | None = None
    """Data set; by default digits for evidence and posterior, mnist for the others."""
    data_root: Path | None = None
    """Directory of the data; by default $PPL_DATA, else ./data."""
    frames: Several = 30
    """Number of frames, denser at the start of training."""
    images: Several = 1000
    """Maximum number of test images shown (encodings, khat)."""
    epochs: Count = 20
    """Passes over the training images (not used by evidence)."""
    batch_size: Count = 500
    """Rows per step (encodings, khat)."""
    steps: Count = 1000
    """Training steps of each guide on all rows (evidence, posterior)."""
    seconds: Annotated[float, Range(lambda s: 0.02 <= s <= 60, "lie between 0.02 and 60")] = 0.2
    """Duration of a frame in seconds; the last frame stays ten times as long."""
    seed: Seed = 0
    """Seed of initial parameters, data order and noise."""
    out: Path | None = None
    """File to write: .gif for the animation, .png for its last frame; by default NAME.gif."""


def main(config: Config) -> dict[str, Any]:
    path = config.out or Path(f"{config.name}.gif")
    check(config, path)
    if path.suffix == ".png" and config.name != "evidence":  # whose curves are of all frames
        config = replace(config, frames=2)  # the first and the last
    data = config.data or ("digits" if config.name in ON_DIGITS else "mnist")
    train, test = load(data, config.data_root)
    torch.manual_seed(config.seed)
    pictures = list(DRAWN[config.name](config, train, test))
    if path.suffix == ".png":
        write(path, lambda file: pictures[-1].save(file, "PNG", optimize=True), parents=True)
    else:
        save_gif(pictures, path, config.seconds, 10 * config.seconds)
    frames = len(pictures) if path.suffix == ".gif" else 1
    size = path.stat().st_size
    print(f"written: {path} ({frames} frame{'s' * (frames > 1)}, {size / 1e6:.2f} MB)")
    return {"file": str(path), "frames": frames, "bytes": size}


def check(config: Config, path: Path) -> None:
    """Refuse a file that exists already, or is neither a GIF nor a PNG."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"--out {path} exists already.")
    if path.suffix not in (".gif", ".png"):
        raise UsageError(f"--out {path} must end in .gif or .png.")


if __name__ == "__main__":
    cli(Config, main)

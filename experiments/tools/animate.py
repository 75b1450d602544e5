"""What happens while a pair is trained? A picture that moves: one GIF.

encodings: where the lab's VAE puts the digits, and what it decodes from where. evidence: PPCA
with its W frozen, the ELBO of four guides closing in on the exact log p(x). khat: the tail index
of every test image's importance weights, digit by digit, while an encoder learns.

    python -m experiments animate encodings
    python -m experiments animate evidence
    python -m experiments animate khat --images 500 --out khat.gif
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from experiments.animations.encodings import encodings
from experiments.animations.evidence import evidence
from experiments.animations.frames import save_gif
from experiments.animations.khat import khat_by_digit
from experiments.data import load
from experiments.errors import UsageError
from experiments.options.ranges import Count, Range, Seed, Several
from experiments.runs.cli import cli

DRAWN = {"encodings": encodings, "evidence": evidence, "khat": khat_by_digit}


@dataclass(frozen=True)
class Config:
    name: tyro.conf.Positional[Literal["encodings", "evidence", "khat"]]
    """What is shown."""
    data: Literal["digits", "mnist"] | None = None
    """Data set; by default digits for evidence, mnist for the others."""
    data_root: Path | None = None
    """Where the files lie; by default $PPL_DATA, else ./data."""
    frames: Several = 30
    """Pictures, ever farther apart: most happens early."""
    images: Count = 1000
    """Test images that are shown, if there are so many."""
    epochs: Count = 20
    """Passes over the training images."""
    batch_size: Count = 500
    """Rows per step."""
    steps: Count = 1000
    """Of evidence, whose steps see all rows."""
    seconds: Annotated[float, Range(lambda s: 0.02 <= s <= 60, "lie between 0.02 and 60")] = 0.2
    """That a picture is shown; the last one ten times as long."""
    seed: Seed = 0
    """Fixes initial parameters, order of the data and noise."""
    out: Path | None = None
    """The file; by default NAME.gif."""


def main(config: Config) -> dict[str, Any]:
    path = config.out or Path(f"{config.name}.gif")
    check(config, path)
    data = config.data or ("digits" if config.name == "evidence" else "mnist")
    train, test = load(data, config.data_root)
    torch.manual_seed(config.seed)
    pictures = list(DRAWN[config.name](config, train, test))
    save_gif(pictures, path, config.seconds, 10 * config.seconds)
    size = path.stat().st_size
    print(f"written: {path} ({len(pictures)} frames, {size / 1e6:.2f} MB)")
    return {"file": str(path), "frames": len(pictures), "bytes": size}


def check(config: Config, path: Path) -> None:
    """Refuse a file that is there already, or of another kind.

    Raises:
        UsageError: With the option.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"--out {path} exists already.")
    if path.suffix != ".gif":
        raise UsageError(f"--out {path} must end in .gif.")


if __name__ == "__main__":
    cli(Config, main)

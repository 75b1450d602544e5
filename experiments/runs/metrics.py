"""Final figures of a run: ``metrics.json``, and the values of every image beside it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from experiments.runs.files import write


@dataclass
class Metrics:
    """Final figures of a run, and what they describe.

    Args:
        model: p; its name or ``package.module:Class``.
        guide: q; several if guides are compared, None if there is none.
        data: the data set's name.
        protocol: everything that two figures must share to be comparable; None if nothing was
            measured on data.
        objective: training objective; None if nothing was trained.
        parameters: number of parameters of model and guide.
        train, test: figures of each split.
        more: further figures of this command.
    """

    model: str
    guide: str | list[str] | None
    data: str
    protocol: dict[str, Any] | None
    objective: str | None = None
    seed: int = 0
    epochs: int = 0
    parameters: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    data_changed: str | None = None
    train: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def add(self, split: str, figures: dict[str, Any]) -> None:
        """Set the figures of the split ``train`` or ``test``."""
        setattr(self, split, figures)

    @property
    def measured(self) -> list[dict[str, Any]]:
        """The figures of each split that was measured, as rows of a table.

        Those that are None are left out, but for an error over draws that is not known.
        """
        found = {"train": self.train, "test": self.test}
        return [
            {"split": name, **{k: v for k, v in figures.items() if _is_told(k, v)}}
            for name, figures in found.items()
            if figures
        ]

    def as_dict(self) -> dict[str, Any]:
        """The contents of ``metrics.json``, without fields of splits that were not measured."""
        optional = ("train", "test", "data_changed")
        values = {k: v for k, v in vars(self).items() if v is not None or k not in optional}
        more = values.pop("more")
        return values | more


def _is_told(name: str, value: Any) -> bool:
    return value is not None or name.endswith("_draws_se")


def save_values(directory: Path, values: dict[str, Tensor]) -> None:
    """Save the values of every image, so that runs can be compared image by image."""
    tensors = {name: value.cpu().contiguous() for name, value in values.items() if value.ndim == 1}
    write(directory / "per_image.safetensors", lambda path: save_file(tensors, path))

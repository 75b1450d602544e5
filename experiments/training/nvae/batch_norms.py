"""Batch norms readjusted to a temperature, their statistics kept with the run."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from pyro import poutine
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.inference.handlers import Temperature
from experiments.runs.files import write
from ppl_models.random_numbers import seeded
from ppl_models.sites import describe, request


def batch_norm_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The running means and variances of all batch norms, by name."""
    return {
        f"{name}.{buffer}": value
        for name, part in model.named_modules()
        if isinstance(part, _BatchNorm)
        for buffer, value in part.named_buffers()
    }


@torch.no_grad()
def readjust(model: nn.Module, temperature: float, passes: int) -> None:
    """Readjust the running statistics of batch norms to draws from the prior, 16 in a pass.

    At a low temperature, activations differ from those of posterior draws in training. The model
    is left in evaluation mode.

    References:
        Vahdat & Kautz (2020), section 4 and their published code.
    """
    drawn = Temperature(temperature, tuple(describe(model).observed))
    model.train()
    with seeded(0), drawn:
        for _ in range(passes):
            poutine.trace(model).get_trace(request(model, 16))
    model.eval()


def fingerprint(model: nn.Module, passes: int) -> dict[str, str]:
    """What statistics are valid for: these weights, and this number of passes."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"weights": digest.hexdigest(), "passes": str(passes)}


def _checksum(values: dict[str, Tensor]) -> str:
    return hashlib.sha256(save(values)).hexdigest()


def _kept(path: Path, wanted: dict[str, str]) -> dict[str, Tensor] | None:
    """The statistics on disk, if they are valid for this model and their checksum is right."""
    try:
        with safe_open(path, "pt") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if file.metadata() == wanted | {"checksum": _checksum(values)}:
                return values
    except (SafetensorError, OSError):
        pass
    return None


@contextmanager
def readjusted(
    directory: Path, model: nn.Module, temperature: float, passes: int
) -> Iterator[None]:
    """Inside, batch norms have the statistics of draws from the prior at a temperature.

    They are kept below the run's ``directory``, so that they are computed once. Without batch
    norms, or with 0 ``passes``, those of training stay.
    """
    own = {name: value.clone() for name, value in batch_norm_statistics(model).items()}
    if not passes or not own:
        yield
        return
    path = directory / f"checkpoint/batch_norms_T{temperature:g}.safetensors"
    wanted = fingerprint(model, passes)
    kept = _kept(path, wanted)
    try:
        if kept is None or kept.keys() != own.keys():
            readjust(model, temperature, passes)
            moved = {name: value.cpu() for name, value in batch_norm_statistics(model).items()}
            signed = wanted | {"checksum": _checksum(moved)}
            with suppress(OSError):  # a run that may only be read
                write(path, lambda file: save_file(moved, file, metadata=signed))
        else:
            _put(model, kept)
        yield
    finally:
        _put(model, own)


@torch.no_grad()
def _put(model: nn.Module, values: dict[str, Tensor]) -> None:
    for name, buffer in batch_norm_statistics(model).items():
        buffer.copy_(values[name])

"""The published NVAE's ``checkpoint.pt``, read without running anything in it, and written."""

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.inference.svi import Pair
from experiments.runs.errors import UsageError
from experiments.runs.files import write
from guides import GUIDES
from ppl_models.nvae import NVAE
from ppl_models.nvae.reference import from_reference, options_of_args, to_reference

__all__ = ["DATA", "pair_of", "read_checkpoint", "write_checkpoint"]

DATA = {"mnist": ("mnist", 32), "omniglot": ("omniglot", 32), "cifar10": ("cifar10", 0),
        "celeba_64": ("celeba64", 0)}  # fmt: skip
"""The published name of a data set -> ours, and the side it is padded to; others are folders."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint as plain values and tensors, its arguments as a dictionary.

    Raises:
        UsageError: If it is missing, damaged, no such checkpoint, or carries code.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist.") from None
    except pickle.UnpicklingError as error:
        words = str(error).split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL" in str(error) else ""
        what = f"carries code or foreign objects ({words})" if words else "is no checkpoint"
        raise UsageError(f"{path} {what}; nothing in it was run.") from error
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        raise UsageError(f"{path} cannot be read: {type(error).__name__}, {error}") from error
    wanted = ("state_dict", "args")
    if not isinstance(found, dict) or any(name not in found for name in wanted):
        raise UsageError(f"{path} is no NVAE checkpoint: it lacks {' or '.join(wanted)}.")
    return {**found, "args": vars(found["args"])}


def pair_of(checkpoint: dict[str, Any]) -> Pair:
    """The model and guide that a checkpoint's own arguments describe, with its weights.

    Raises:
        UsageError: If its arguments or tensors do not fit.
    """
    try:
        model_options, guide_options = options_of_args(checkpoint["args"])
        model = NVAE(**model_options)
        pair = Pair(model, GUIDES["top_down"](model, **guide_options))
        state = from_reference(pair, checkpoint["state_dict"])
        pair.to(dtype=next(iter(state.values())).dtype).load_state_dict(state)
    except KeyError as error:
        raise UsageError(f"the checkpoint's arguments lack {error}.") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    return pair


def write_checkpoint(path: Path, pair: nn.Module, rest: dict[str, Any]) -> None:
    """Write a checkpoint that the published code loads strictly.

    Args:
        path: the file.
        pair: an NVAE under ``top_down``.
        rest: everything but the weights; ``args`` as a dictionary.
    """
    state = OrderedDict((name, tensor.clone()) for name, tensor in to_reference(pair).items())
    content = {**rest, "state_dict": state, "args": argparse.Namespace(**rest["args"])}
    write(path, lambda file: torch.save(content, file))

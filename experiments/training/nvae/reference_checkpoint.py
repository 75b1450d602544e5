"""The published NVAE's ``checkpoint.pt``, read without running anything in it, and written."""

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.errors import UsageError, one_line
from experiments.inference.svi import Pair
from experiments.runs.files import write
from experiments.training.nvae.foreign_file import read_foreign
from experiments.training.nvae.reference_checks import (
    check_finite,
    check_whole,
    checked_args,
    checked_state,
)
from guides import GUIDES
from ppl_models.nvae import NVAE
from ppl_models.nvae.reference import from_reference, to_reference
from ppl_models.nvae.reference_options import SIZES, options_of_args

DATA = {
    "mnist": ("mnist", 32),
    "omniglot": ("omniglot", 32),
    "cifar10": ("cifar10", 0),
    "celeba_64": ("celeba64", 0),
}
"""The published name of a data set -> ours, and the side it is padded to; others are folders."""

CELLS = {
    **{
        name: ["res_bnswish", "res_bnswish"]
        for name in ("normal_enc", "down_enc", "normal_pre", "down_pre")
    },
    **{name: ["mconv_e6k5g0"] for name in ("normal_dec", "up_dec")},
    **{name: ["mconv_e3k5g0"] for name in ("normal_post", "up_post")},
    "ar_nn": [""],
}
"""The published names of the operations in every kind of cell: a checkpoint holds them."""


def published_name(data: str, data_shape: tuple[int, ...]) -> str:
    """The published name of a data set; others go by the size of their images."""
    named = {ours: theirs for theirs, (ours, _) in DATA.items()}
    by_size = {256: "celeba_256", 128: "lsun_bedroom_128", 64: "celeba_64", 32: "cifar10"}
    grey = data_shape[0] == 1
    name = "mnist" if grey else named.get(data, by_size.get(data_shape[1]))
    if name is None or SIZES[name] != data_shape[1] or data_shape[1] != data_shape[2]:
        raise ValueError(f"the published code has no data set of images {list(data_shape)}.")
    return name


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint as plain values and tensors, its arguments as a dictionary."""
    found = read_foreign(path)
    wanted = ("state_dict", "args")
    if not isinstance(found, dict) or any(name not in found for name in wanted):
        raise UsageError(f"{path} is no NVAE checkpoint: it lacks {' or '.join(wanted)}.")
    state = checked_state(found["state_dict"])
    args = checked_args(found["args"], len(state))
    if found.get("epoch") is not None:
        check_whole("epoch", found["epoch"], 0, 2**53)
    return {**found, "state_dict": state, "args": args}


def pair_of(checkpoint: dict[str, Any]) -> Pair:
    """The model and guide that a checkpoint's own arguments describe, with its weights.

    Names and shapes are compared before a model takes up memory. Weights in half precision
    become float32.
    """
    state = checkpoint["state_dict"]
    try:
        with torch.device("meta"):
            shapes = _pair(checkpoint["args"])
        weights = from_reference(shapes, state)
        check_finite(state)
        pair = _pair(checkpoint["args"])
    except KeyError as error:
        raise UsageError(f"the checkpoint's arguments lack {error}.") from error
    except (ValueError, RuntimeError, OverflowError) as error:  # sizes beyond all numbers
        raise UsageError(one_line(str(error), 300)) from error
    double = all(w.dtype == torch.float64 for w in weights.values() if w.is_floating_point())
    pair.to(dtype=torch.float64 if double else torch.float32).load_state_dict(weights)
    return pair


def _pair(args: dict[str, Any]) -> Pair:
    model_options, guide_options = options_of_args(args)
    model = NVAE(**model_options)
    return Pair(model, GUIDES["top_down"](model, **guide_options))


def write_checkpoint(path: Path, pair: nn.Module, rest: dict[str, Any]) -> None:
    """Write an NVAE under ``top_down`` as a checkpoint that the published code loads strictly.

    ``rest`` is everything but the weights; ``args`` as a dictionary.
    """
    state = OrderedDict((name, tensor.clone()) for name, tensor in to_reference(pair).items())
    content = {**rest, "state_dict": state, "args": argparse.Namespace(**rest["args"])}
    write(path, lambda file: torch.save(content, file), parents=True)

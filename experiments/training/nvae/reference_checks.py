"""What a published checkpoint says of itself, checked before anything is built from it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from experiments.errors import UsageError, one_line

COUNTS = (
    "num_latent_scales",
    "num_groups_per_scale",
    "num_cell_per_cond_dec",
    "num_cell_per_cond_enc",
    "num_postprocess_blocks",
    "num_postprocess_cells",
    "num_preprocess_cells",
)
"""Arguments that count parts of the model, each of which has tensors."""
SIZES = ("num_latent_per_group", "num_channels_dec", "num_channels_enc")
SWITCHES = ("use_se", "res_dist", "ada_groups")
OPTIONAL = {"ada_groups": False, "min_groups_per_scale": 1, "num_mixture_dec": 10}
MOST_BITS = 8

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""

COUNTERS = "num_batches_tracked"
"""Counters of batch norms, the only integers in a state dict."""


def checked_args(args: Any, tensors: int) -> dict[str, Any]:
    """The published code's arguments as a dictionary, each of its type and in its range.

    No count of parts of the model may exceed the number of ``tensors`` in the file.
    """
    found = args if isinstance(args, dict) else getattr(args, "__dict__", None)
    if not isinstance(found, dict):
        raise UsageError(
            f"the checkpoint's args are {_kind(args)}, not a dictionary of arguments."
        )
    if odd := [name for name in found if not isinstance(name, str)]:
        raise UsageError(f"the checkpoint's args have a name that is no text: {_shown(odd[0])}.")
    values = OPTIONAL | found
    missing = [
        name
        for name in ("dataset", *COUNTS, *SIZES, *SWITCHES, "num_x_bits", "num_nf")
        if name not in values
    ]
    if missing:
        raise UsageError(f"the checkpoint's arguments lack {', '.join(missing)}.")
    for name in ("dataset", "arch_instance"):
        if not isinstance(values.get(name, ""), str):
            raise UsageError(f"the checkpoint's {name}={_shown(values[name])} is no name.")
    for name in SWITCHES:
        check_whole(name, values[name], 0, 1)
    for name in COUNTS:
        check_whole(name, values[name], 1, tensors)
    for name in (*SIZES, "min_groups_per_scale", "num_mixture_dec"):
        check_whole(name, values[name], 1, 2**31)
    check_whole("num_nf", values["num_nf"], 0, tensors)
    check_whole("num_x_bits", values["num_x_bits"], 1, MOST_BITS)
    _check_sizes(values, tensors)
    return dict(found)


def _check_sizes(values: dict[str, Any], tensors: int) -> None:
    """Refuse arguments that together ask for more parts than there are tensors."""
    after = values["num_postprocess_blocks"]
    before = values.get("num_preprocess_blocks", after)
    if before != after:
        raise UsageError(
            f"the checkpoint's num_preprocess_blocks={_shown(before)} is not its "
            f"num_postprocess_blocks={after}."
        )
    scales, groups = values["num_latent_scales"], values["num_groups_per_scale"]
    if values["ada_groups"]:
        least = values["min_groups_per_scale"]
        total = sum(max(groups >> scale, least if scale else 0) for scale in range(scales))
    else:
        total = scales * groups
    inner = max(values["num_cell_per_cond_dec"], values["num_cell_per_cond_enc"])
    outer = max(values["num_postprocess_cells"], values["num_preprocess_cells"])
    parts = total * (1 + values["num_nf"]) + (total - 1) * inner + after * outer
    if parts > tensors:
        raise UsageError(
            f"the checkpoint's arguments ask for {parts} parts or more, its state_dict has "
            f"{tensors} tensors."
        )


def check_whole(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise UsageError(
            f"the checkpoint's {name}={_shown(value)} is no whole number from {least} to {most}."
        )


def checked_state(state: Any) -> dict[str, Tensor]:
    """A state dict of dense tensors of real numbers in memory, without wrappers' prefixes."""
    if not isinstance(state, Mapping) or not state:
        raise UsageError(
            f"the checkpoint's state_dict is {_kind(state)}, no dictionary of tensors."
        )
    for name, value in state.items():
        if not isinstance(name, str):
            raise UsageError(
                f"the checkpoint's state_dict has a name that is no text: {_shown(name)}."
            )
        if problem := _why_not(name, value):
            raise UsageError(f"the checkpoint's '{one_line(name, 100)}' is {problem}.")
    found = dict(state)
    for prefix in PREFIXES * 2:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _why_not(name: str, value: Any) -> str | None:
    """Why an entry is not a dense tensor of real numbers; None if it is one."""
    if not isinstance(value, Tensor):
        return f"{_kind(value)}, not a tensor"
    if value.is_quantized or value.layout != torch.strided or value.device.type != "cpu":
        kind = "quantised" if value.is_quantized else str(value.layout).removeprefix("torch.")
        where = "" if value.device.type == "cpu" else f" on '{value.device}'"
        return f"a tensor that is {kind}{where}, not one of plain numbers"
    counts = name.endswith(COUNTERS) and not value.dtype.is_complex
    if not (value.is_floating_point() or counts):
        return f"of {str(value.dtype).removeprefix('torch.')}, not of real numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"of shape {list(value.shape)}, of which the file holds fewer numbers"
    return None


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite."""
    for name, value in state.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            raise UsageError(f"the checkpoint's '{name}' holds NaN or infinite values.")


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _shown(value: Any) -> str:
    """A value as a message shows it, cut after 40 characters."""
    if isinstance(value, (list, dict, tuple, Tensor)):  # repr of a nested one may never end
        return f"<{type(value).__name__}>"
    return one_line(repr(value), 40)

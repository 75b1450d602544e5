"""The published implementation's arguments for our options, and back."""

from typing import Any

from ppl_models.names import unknown
from ppl_models.nvae.program import adaptive_groups

SIZES = {
    "mnist": 32,
    "omniglot": 32,
    "cifar10": 32,
    "imagenet_32": 32,
    "celeba_64": 64,
    "lsun_bedroom_128": 128,
    "celeba_256": 256,
    "ffhq": 256,
    "lsun_bedroom_256": 256,
}
"""Side of the images that a data set's model sees."""


def options_of_args(args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of ``NVAE`` and of ``TopDown`` from the published implementation's arguments.

    Raises:
        ValueError: If the data set or the cells are unknown.
    """
    data = args["dataset"]
    if data not in SIZES:
        raise ValueError(unknown("data set", data, SIZES))
    if args.get("arch_instance", "res_mbconv") != "res_mbconv":
        raise ValueError(f"cells '{args['arch_instance']}' are unknown; there are res_mbconv.")
    grey = data in ("mnist", "omniglot")
    scales, finest = args["num_latent_scales"], args["num_groups_per_scale"]
    groups = (
        adaptive_groups(scales, finest, args.get("min_groups_per_scale", 1))
        if args.get("ada_groups", False)
        else (finest,) * scales
    )
    model = {
        "data_shape": (1 if grey else 3, SIZES[data], SIZES[data]),
        "groups": groups,
        "latents": args["num_latent_per_group"],
        "channels": args["num_channels_dec"],
        "cells_per_group": args["num_cell_per_cond_dec"],
        "blocks": args["num_postprocess_blocks"],
        "cells_per_block": args["num_postprocess_cells"],
        "attention": args["use_se"],
        "mixture": args.get("num_mixture_dec", 10),
        "bits": args["num_x_bits"],
        "crop": 2 if grey else 0,
    }
    guide = {
        "channels": args["num_channels_enc"],
        "cells_per_group": args["num_cell_per_cond_enc"],
        "cells_per_block": args["num_preprocess_cells"],
        "attention": args["use_se"],
        "residual": args["res_dist"],
        "flows": args["num_nf"],
    }
    return model, guide


def args_of_options(model: dict[str, Any], guide: dict[str, Any]) -> dict[str, Any]:
    """The published arguments for a model and guide, except the data set's name.

    Args:
        model: options of ``NVAE``, all of them.
        guide: options of ``TopDown``, all of them.

    Raises:
        ValueError: If the published implementation has no such model.
    """
    groups = tuple(model["groups"])
    scales, finest = len(groups), groups[-1]
    adaptive = [m for m in range(1, finest + 1) if adaptive_groups(scales, finest, m) == groups]
    depthwise, lean = model["depthwise"], model.get("lean", False)  # older runs have no lean
    if not depthwise or lean or not (adaptive or groups == (finest,) * scales):
        raise ValueError(
            f"the published code has no model with groups {groups}, depthwise={depthwise} and "
            f"lean={lean}: its cells are depthwise, and its groups halve."
        )
    return {
        "num_latent_scales": scales,
        "num_groups_per_scale": finest,
        "ada_groups": bool(adaptive),
        "min_groups_per_scale": min(adaptive, default=1),
        "num_latent_per_group": model["latents"],
        "num_channels_dec": model["channels"],
        "num_cell_per_cond_dec": model["cells_per_group"],
        "num_postprocess_blocks": model["blocks"],
        "num_preprocess_blocks": model["blocks"],
        "num_postprocess_cells": model["cells_per_block"],
        "use_se": model["attention"],
        "num_mixture_dec": model["mixture"],
        "num_x_bits": model["bits"],
        "num_channels_enc": guide["channels"] or model["channels"],
        "num_cell_per_cond_enc": guide["cells_per_group"],
        "num_preprocess_cells": guide["cells_per_block"],
        "res_dist": guide["residual"],
        "num_nf": guide["flows"],
        "arch_instance": "res_mbconv",
    }

"""The cost of presets, counted without running them."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pyro
import torch

from experiments.inference.objectives.regularisers import convolutions
from experiments.inference.svi import Pair
from experiments.options.presets import PRESETS
from experiments.reports.markdown import text_table
from guides import GUIDES
from ppl_models.batch import Batch
from ppl_models.nvae import NVAE

SHAPES = {"digits-tiny": (1, 8, 8), "mnist-small": (1, 28, 28), "cifar10": (3, 32, 32),
          "celeba64": (3, 64, 64), "celeba-hq256": (3, 256, 256),
          "ffhq256": (3, 256, 256)}  # fmt: skip
"""Of a preset's images; the others are MNIST's, padded to 32."""


def preset_pair(name: str) -> Pair:
    """The model and guide of a preset, with fresh weights."""
    preset = PRESETS[name]
    model = NVAE(SHAPES.get(name, (1, 32, 32)), **preset["model_options"])
    return Pair(model, GUIDES["top_down"](model, **preset["guide_options"]))


def _flops(pair: Pair) -> int:
    """Of convolutions and linear layers for one image, two per multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode  # only nvae --list needs it

    batch = Batch.of(torch.zeros(1, *pair.model.data_shape, device="meta"))
    with pyro.validation_enabled(False), FlopCounterMode(display=False) as count:
        pair.guide(batch)  # which runs the model
    return count.get_total_flops()


def preset_rows(names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Parameters, groups, latents and arithmetic of presets, of all by default."""
    rows = []
    for name in names or PRESETS:
        preset = PRESETS[name]
        with torch.device("meta"):
            pair = preset_pair(name)
            flops = _flops(pair)
        model: Any = pair.model
        shapes = model.latent_shapes
        rows.append(
            {
                "preset": name,
                "data": preset["data"],
                "image": "x".join(map(str, model.data_shape)),
                "parameters": pair.number_of_parameters,
                "convolutions": len(list(convolutions(pair))),
                "groups": " + ".join(
                    f"{len(list(same))} of {h}x{h}"
                    for h, same in itertools.groupby(shape[1] for shape in shapes)
                ),
                "latents": sum(math.prod(shape) for shape in shapes),
                "GFLOP": flops / 1e9,
                "flows": preset["guide_options"].get("flows", 0),
                "epochs": preset["epochs"],
            }
        )
    return rows


def preset_table() -> str:
    """The rows as text; GFLOP for guide and model, forward, one image."""
    rows = [{name: _shown(value) for name, value in row.items()} for row in preset_rows()]
    return text_table(rows, left=rows[0])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value

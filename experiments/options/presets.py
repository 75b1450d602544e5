"""NVAE's sizes and recipes by name: the published ones, and two that a CPU can train.

A preset is a set of defaults of the command ``nvae``; every one of them is an option.
"""

from typing import Any

from ppl_models.nvae.program import adaptive_groups


def _published(
    data: str,
    channels: int,
    groups: tuple[int, ...],
    blocks: int = 1,
    cells: int = 2,
    per_block: int = 2,
    flows: int = 0,
    **recipe: Any,
) -> dict[str, Any]:
    """A published command: both ways have the same cells; 20 latents per group, attention."""
    grey = data == "mnist"
    return {
        "data": data, "flip": not grey, "pad": 32 if grey else 0,
        "binarize": "dynamic" if grey else "none",
        "model_options": {
            "groups": groups, "channels": channels, "cells_per_group": cells, "blocks": blocks,
            "cells_per_block": per_block, "crop": 2 if grey else 0,
        },
        "guide_options": {
            "cells_per_group": cells, "cells_per_block": per_block, "flows": flows,
        },
        "epochs": 400, "warmup": 5 / recipe.get("epochs", 400), **recipe,
    }  # fmt: skip


MNIST: Any = {"channels": 32, "groups": adaptive_groups(2, 10), "blocks": 2, "per_block": 3}
FACES: Any = {"channels": 30, "groups": adaptive_groups(5, 16, 4), "flows": 2}

PUBLISHED: dict[str, dict[str, Any]] = {
    "mnist": _published("mnist", **MNIST, cells=1),
    "mnist-large": _published("mnist", **MNIST),
    "cifar10": _published("cifar10", 128, (30,), flows=1, batch_size=256),
    "celeba64": _published(
        "celeba64", 64, adaptive_groups(3, 20), flows=1, batch_size=128, epochs=90,
        regularise=0.1,
    ),
    "celeba-hq256": _published(
        "folder", **FACES, batch_size=96, epochs=300, regularise_start=1.0, bits=5,
    ),
    "ffhq256": _published(
        "folder", **FACES, batch_size=96, epochs=200, regularise=0.1, regularise_start=1.0,
        lr=0.008, bits=5,
    ),
}  # fmt: skip
"""As published (Vahdat & Kautz 2020), the batch being that of all GPUs together. ``mnist`` is very
probably the released model, ``mnist-large`` what the published command builds."""

SMALL = {
    "regularise": 0.0, "weight_decay": 0.0, "eps": 1e-8, "ema": 0.999, "clip": 200.0,
    "batch_size": 100,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "digits-tiny": {
        **SMALL, "data": "digits", "pad": 0, "binarize": "dynamic", "epochs": 20, "warmup": 0.1,
        "ema": 0.98,
        "model_options": {
            "groups": (1, 2), "latents": 4, "channels": 8, "blocks": 1, "cells_per_block": 1,
            "depthwise": False, "crop": 0,
        },
        "guide_options": {"cells_per_block": 1},
    },
    "mnist-small": {
        **SMALL, "data": "mnist", "pad": 0, "binarize": "dynamic", "epochs": 61,
        "batch_size": 32, "optimizer": "muon", "lr": 0.01, "warmup": 1 / 30,
        "weight_decay": 0.02, "ema": 0.9995, "kl_anneal": 0.05, "balance": "none",
        "free_bits": 0.5, "free_bits_until": 0.3, "fine_tune": 0.12,
        "model_options": {
            "lean": True, "groups": (6, 3), "latents": 1, "channels": 16, "blocks": 1,
            "cells_per_block": 2, "depthwise": False, "crop": 0,
        },
        "guide_options": {"channels": 0, "cells_per_block": 2},
    },
    **PUBLISHED,
}  # fmt: skip

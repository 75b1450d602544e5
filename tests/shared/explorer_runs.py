"""Runs of digits that nobody trained: to the explorer random weights are as good."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from experiments.data import load
from experiments.inference.svi import Pair
from experiments.runs.checkpoint import save_weights
from experiments.runs.files import FORMAT
from experiments.training.saved_run import build_model
from guides import GUIDES

OPTIONS = {
    "data": "digits",
    "data_root": None,
    "rows": 100,
    "pad": 0,
    "binarize": "none",
    "binarize_seed": 0,
    "dtype": "float32",
    "epochs": 1,
    "batch_size": 50,
    "lr": 0.01,
    "seed": 0,
}


def untrained(
    path: Path,
    model: str,
    guide: str,
    like: Any = None,
    data: dict | None = None,
    guide_options: dict | None = None,
    **options: Any,
) -> Any:
    """Write a run of a fresh pair, of the model ``like`` if it is given; the model."""
    chosen = {**OPTIONS, **(data or {})}
    train, _ = load(
        "digits",
        None,
        chosen["pad"],
        chosen["binarize"],
        0,
        chosen["rows"],
        chosen.get("dequantize", False),
    )
    built = like or build_model(model, train, options)
    q = GUIDES[guide](built, **(guide_options or {})).for_data(len(train))
    path.mkdir(parents=True)
    content = {
        "format": FORMAT,
        "command": model,
        "options": chosen,
        "pair": {
            "model": model,
            "model_options": options,
            "guide": guide,
            "guide_options": guide_options or {},
        },
    }
    (path / "config.json").write_text(json.dumps(content))
    (path / "metrics.json").write_text("{}")
    save_weights(path, Pair(built, q))
    return built.eval()


def untrained_nvae(path: Path, guide: str = "top_down", **more: Any) -> Any:
    """An NVAE of two groups."""
    sizes = {"channels": 4, "groups": [1, 1], "latents": 2, "blocks": 1, "cells_per_block": 1}
    options = {**sizes, "crop": 0, **more}
    return untrained(path, "nvae", guide, data={"binarize": "static"}, **options)


def payload_of(page: str) -> dict[str, Any]:
    """What a page's script reads."""
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def spread_ppca(path: Path, guide: str = "exact", **options: Any) -> Any:
    """A run of PPCA whose posterior is neither round nor along the axes."""
    torch.manual_seed(1)
    model = build_model("ppca", load("digits", rows=100)[0], {"latent_dim": 2})
    with torch.no_grad():
        model.W.copy_(torch.randn(64, 2) @ torch.tensor([[0.5, 0.2], [0.0, 0.2]]))
        model.mu.fill_(0.3)
        model.log_sigma.fill_(-1.0)
    return untrained(path, "ppca", guide, like=model, guide_options=options, latent_dim=2)

"""The page of a model whose decoder is part of the page."""

import copy
from typing import Any

import torch
from torch import Tensor

from experiments.data import Data
from experiments.errors import UsageError
from experiments.explorer.decoders import Decoder, decoder_of
from experiments.explorer.page import (
    base64_of,
    command_of,
    html_page,
    packed_decoder,
    packed_images,
    rounded,
    symmetric,
)
from experiments.explorer.views import chosen_rows, packed_view
from experiments.training.saved_run import SavedRun
from guides.local import PerDatumGuide
from ppl_models.program import closed_form
from ppl_models.random_numbers import seeded

LIGHTER = "--weights float16 halves the decoder, fewer --points and --images the rest"
ROWS = 300
"""Maximum number of test images for a per-datum guide, whose rows are fitted to them."""
NUMBERS = 40000
"""Maximum number of values in encodings and covariances; more latents mean fewer images."""


def check_weight(decoder: Decoder, config: Any) -> None:
    """Refuse a decoder that is larger than --limit, before anything is computed."""
    least = config.weights
    if least == "auto":
        least = "float16" if decoder.fits("float16") else "float32"
    weight = decoder.bytes_of(least)
    if weight > config.limit * 1e6:
        raise UsageError(
            f"the decoder alone would take {weight / 1e6:.2f} MB as {least}, more than --limit "
            f"{config.limit:g}: raise it, or train a smaller decoder."
        )
    if not decoder.fits(least):
        raise UsageError("a weight of the decoder overflows float16: use --weights float32.")


def latents_page(runs: list[SavedRun], config: Any) -> tuple[str, dict[str, Any]]:
    """The page of one run, or of two guides for one model, and a summary of its contents."""
    saved = runs[0]
    title = f"The latent space of {saved.directory.name}"
    wanted = ("float32", "float16") if config.weights == "auto" else (config.weights,)
    decoder = decoder_of(saved.model, saved.config["pair"]["model"])
    for precision in (kind for kind in wanted if decoder.fits(kind)):
        for run in runs:  # q of another run may refer to that run's model
            _round(decoder_of(run.model, run.config["pair"]["model"]), precision)
        payload, data, chosen = _payload(runs, decoder, config)
        payload["decoder"] = packed_decoder(decoder, precision, data.levels)
        texts = {
            "summary": _summary(runs, decoder, len(data)),
            "command": command_of(config),
            "precision": _precision(precision),
        }
        page = html_page("page.html", title, texts, payload)
        if len(page.encode()) <= config.limit * 1e6:
            break
    return page, {
        "weights": precision,
        "points": len(data),
        "images": len(chosen),
        "words": f", weights in {precision}",
        "lighter": LIGHTER,
    }


@torch.no_grad()
def _round(decoder: Decoder, precision: str) -> None:
    """Round the model's weights in place: all results in the page belong to these."""
    for layer in decoder.layers:
        for part in layer:
            part.copy_(part.to(getattr(torch, precision)))


def _payload(
    runs: list[SavedRun], decoder: Decoder, config: Any
) -> tuple[dict[str, Any], Data, list[int]]:
    """The contents of the page except the decoder, and the test images that it shows."""
    model, test, dim = runs[0].model, runs[0].test.fixed(), decoder.latent_dim
    rows = any(isinstance(run.guide, PerDatumGuide) for run in runs)
    most = max(2, min(config.points, NUMBERS // dim, ROWS if rows else len(test), len(test)))
    data = test.rows(most)
    count = min(config.images, max(2, NUMBERS // (dim * (dim + 1) // 2)))
    chosen = chosen_rows(data.labels, len(data), count)
    guides = []
    for run in runs:
        with seeded(config.seed):
            view = packed_view(model, run, data, chosen, config)
        guides.append({"name": _guide_name(run), **view})
    x = data.observations(torch.tensor(chosen, device=data.pixels.device))
    labels, names = data.labels, list(data.source.classes)
    few: list[Any] = [None] * len(chosen)
    if labels is not None:
        few = [names[label] if names else label for label in labels[chosen].tolist()]
    payload = {
        "classes": names,
        "latents": dim,
        "shape": list(data.image_shape),
        # classes as bytes, if ten colours suffice
        "labels": None if labels is None or labels.max() > 9 else base64_of(labels, "uint8"),
        "guides": guides,
        "exact": _exact(model, x),
        "images": {"rows": chosen, "labels": few, **packed_images(x, data.levels)},
    }
    return payload, data, chosen


@torch.no_grad()
def _exact(model: Any, x: Tensor) -> dict[str, Any] | None:
    """p(z | x) and log p(x) in float64, if the model has closed forms."""
    if not closed_form(model, "posterior"):
        return None
    double = copy.deepcopy(model).double()
    q = double.posterior(x.double())
    evidence = double.marginal().log_prob(x.double())
    return {
        "mean": base64_of(q.mean, "float32"),
        "covariance": symmetric(q.covariance_matrix),
        "log_evidence": rounded(evidence),
    }


def _guide_name(run: SavedRun) -> str:
    options = run.config["pair"]["guide_options"]
    shown = {key: options[key] for key in ("encoder", "covariance") if key in options}
    words = ", ".join(f"{key} {value}" for key, value in shown.items())
    return f"{run.config['pair']['guide']}{f' ({words})' if words else ''}"


def _summary(runs: list[SavedRun], decoder: Decoder, points: int) -> str:
    pair, test = runs[0].config["pair"], runs[0].test
    sizes = [decoder.latent_dim, *(len(bias) for _, bias in decoder.layers)]
    network = " - ".join(map(str, sizes))
    guides = " and ".join(_guide_name(run) for run in runs)
    return (
        f"Model {pair['model']}, decoder {network}, likelihood {decoder.likelihood}; guide "
        f"{guides}. Points are means of q(z | x) of {points} test images of {test.name}."
    )


def _precision(precision: str) -> str:
    words = f"The decoder's weights are kept as {precision}"
    if precision == "float16":
        words += (
            ", rounded from those that were trained: everything here is what PyTorch computes "
            "from the rounded ones"
        )
    return f"{words}; the arithmetic is in double precision."

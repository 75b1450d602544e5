"""One self-contained file: markup, style, script and numbers."""

import base64
import html
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.explorer.decoders import Decoder
from experiments.options.words import words_of

HOME = Path(__file__).parent
SCRIPTS = ("numbers.js", "likelihoods.js", "decoder.js", "posterior.js")
"""Scripts that compute; they do not use the page."""
SHOWN = {
    "page.html": (*SCRIPTS, "drawing.js", "plane.js", "page.js"),
    "groups.html": ("groups.js",),
}
MARK = '<meta name="generator" content="ppl-models explore">'


def base64_of(values: Tensor, kind: str) -> str:
    """Numbers of a NumPy type as little-endian bytes in base 64, for ``numbersOf``."""
    array = values.detach().cpu().numpy().astype(np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(array.tobytes()).decode()


def read(name: str) -> str:
    """A file of this package."""
    return (HOME / name).read_text(encoding="utf-8")


def command_of(config: Any) -> str:
    """The command line that makes a page, with every option that is not at its default."""
    return shlex.join(["python", "-m", "experiments", "explore", *words_of(config)])


def html_page(template: str, title: str, texts: Mapping[str, str], payload: Any) -> str:
    """A page with the body ``template``; all inserted text is escaped.

    The texts replace ``{{name}}`` in ``document.html`` and the body; the script reads the payload.
    """
    numbers = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    parts = {name: html.escape(text) for name, text in {**texts, "title": title}.items()}
    parts |= {
        "mark": MARK,
        "style": read("page.css"),
        "script": "\n".join(read(name) for name in SHOWN[template]),
        # entities are not decoded inside a script element: only "<" must not appear
        "payload": numbers.replace("<", "\\u003c"),
    }
    parts["body"] = _filled(template, parts)
    return _filled("document.html", parts)


def _filled(name: str, parts: Mapping[str, str]) -> str:
    """A file in one pass, so that inserted text is never treated as a placeholder."""
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], read(name))


def packed_decoder(decoder: Decoder, precision: str, levels: int) -> dict[str, Any]:
    """The decoder for ``decoder.js``; weights transposed, so that a unit's are side by side."""
    layers = [
        {
            "inputs": weight.shape[1],
            "outputs": weight.shape[0],
            "weight": base64_of(weight.mT, precision),
            "bias": base64_of(bias, precision),
        }
        for weight, bias in decoder.layers
    ]
    return {**decoder._asdict(), "layers": layers, "precision": precision, "levels": levels}


def symmetric(matrices: Tensor) -> str:
    """The lower triangles of ``[..., M, M]``, row after row, as float32."""
    row, column = torch.tril_indices(*matrices.shape[-2:])
    return base64_of(matrices[..., row, column], "float32")


def quantised(z: Tensor) -> dict[str, Any]:
    """Points ``[N, M]`` as 16 bits per number between the least and the largest of its column."""
    values = z.double().cpu()
    low, high = values.min(0).values, values.max(0).values
    steps = (values - low) / (high - low).clamp(min=1e-12) * 65535
    return {"low": low.tolist(), "high": high.tolist(), "z": base64_of(steps.round(), "uint16")}


def rounded(values: Tensor) -> list[float]:
    """Numbers with four decimals."""
    return [round(value, 4) for value in values.tolist()]


def packed_images(x: Tensor, levels: int) -> dict[str, Any]:
    """Images ``[n, ...]``: bytes where every pixel is a level, float32 elsewhere."""
    bytes_ = (x.double() * levels).round()
    exact = levels > 1 and (x.double() - bytes_ / levels).abs().max().item() < 1e-6
    binary = levels == 1 and bool(((x == 0) | (x == 1)).all())
    if exact or binary:
        return {"x": base64_of(bytes_, "uint8"), "levels": levels}
    return {"x": base64_of(x, "float32"), "levels": 0}

"""Answers as students write them into a cell of a notebook: source that is run."""

import math
import re
import textwrap

import numpy
import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import nn

from experiments.teaching import check

SIGNATURES = {
    "pca": "x, latent_dim",
    "pca_encoder": "x, mean, components",
    "pca_decoder": "z, mean, components",
    "squared_error": "x, reconstruction",
    "ppca_cost": "x, W, mu, log_variance",
    "posterior": "x, W, mu, log_variance",
    "ppca_decoder": "z, W, mu",
    "draw_latents": "count, latent_dim, temperature=1.0",
    "log_likelihood": "x, z, decoder, log_variance",
    "monte_carlo_likelihood": "log_p",
    "kl": "loc, log_variance",
    "reparametrise": "loc, log_variance, noise",
    "elbo": "x, loc, log_variance, noise, decoder, log_pixel_variance",
    "encoder": "data_dim=64, latent_dim=2, hidden_dim=400",
    "decoder": "data_dim=64, latent_dim=2, hidden_dim=400",
    "binarise": "x",
    "count_parameters": "module",
    "count_convolutions": "module",
    "pair": "x",
}
ENCODER = """
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = {layers}

    def forward(self, x):
        loc, s = self.layers(x).chunk(2, -1)
        return {result}

def answer(*sizes):
    return Encoder()
"""
LIBRARIES = {
    "F": F, "dist": dist, "math": math, "nn": nn, "np": numpy, "pyro": pyro, "torch": torch,
}  # fmt: skip


class TwoParts(nn.Module):
    """A right encoder."""

    def __init__(self, D, H, M):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 * M))

    def forward(self, x):
        return self.layers(x).chunk(2, -1)


def notebook():
    """The names that a notebook of the labs has when a student writes an answer."""
    torch.manual_seed(0)
    N, D, M, H = 60, 64, 2, 400
    x_train = torch.rand(N, D)

    def svd(x):
        return torch.linalg.svd(x, full_matrices=False)

    def KL(loc, v):
        return 0.5 * (v.exp() + loc.square() - 1 - v).sum(-1)

    def rep(loc, v, noise):
        return loc + (v / 2).exp() * noise

    def fit(x, z, decoder, s):
        return dist.Normal(decoder(z), (s / 2).exp()).log_prob(x).sum(-1)

    values = {"N": N, "D": D, "M": M, "H": H, "K": 5, "x_train": x_train}
    helpers = {"svd": svd, "KL": KL, "rep": rep, "fit": fit}
    found = {"mean": x_train.mean(0), "components": svd(x_train)[2][:M].mT}
    networks = {
        "encoder": TwoParts(D, H, M),
        "decoder": nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Linear(H, D)),
    }
    return {**LIBRARIES, **values, **helpers, **found, **networks}


def written(name, source, names):
    """The function of a student who wrote this source: an expression, a body, or whole cell."""
    text = textwrap.dedent(source).strip("\n")
    if text.startswith("ENCODER:"):
        layers, _, result = text.removeprefix("ENCODER:").partition("|")
        text = ENCODER.format(layers=layers, result=result or "loc, s")
    elif not re.search(r"^def answer|^class ", text, re.MULTILINE):
        is_body = "\n" in text or text.startswith("return")
        body = text if is_body else f"return {text}"
        text = f"def answer({SIGNATURES[name]}):\n" + textwrap.indent(body, "    ")
    exec(compile(text, f"<{name}>", "exec"), names)
    return names["answer"]


def right_model(names):
    def model(x):
        pyro.module("decoder", names["decoder"])
        with pyro.plate("data", len(x)):
            prior = dist.Normal(torch.zeros(len(x), names["M"]), 1.0).to_event(1)
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(names["decoder"](z), 1.0).to_event(1), obs=x)

    return model


def right_guide(names):
    def guide(x):
        pyro.module("encoder", names["encoder"])
        loc, v = names["encoder"](x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, (v / 2).exp()).to_event(1))

    return guide


def call(name, source):
    """Write an answer, and check it as a notebook does."""
    names = notebook()
    if name == "pair":
        kind, _, body = source.partition(":")
        programs = {"MODEL": right_model(names), "GUIDE": right_guide(names)}
        programs[kind] = written(name, body + "\nreturn", names)
        check.pair(programs["MODEL"], programs["GUIDE"], names["x_train"][:5])
    elif name in ("encoder", "decoder"):
        sizes = names["D"], names["M"]
        getattr(check, name)(written(name, source, names)(*sizes), *sizes)
    else:
        getattr(check, name)(written(name, source, names))

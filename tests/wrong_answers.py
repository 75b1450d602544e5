"""The wrong answers and what the checks say of them: ``python -m tests.wrong_answers``.

With ``--all`` every hint is printed, to be read for its truth.
"""

import collections
import contextlib
import io
import math
import re
import sys
import textwrap
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

import answers_first
import answers_second

from experiments.teaching import check

KINDS = ("specific", "generic", "false", "missed")
GENERIC = re.compile(
    r"is wrong\. It is (off by|right where|-?[\d.e+-]+ times what)|is wrong\. It holds NaN"
    r"|is wrong\. Its shape is|called the function with|the number is wrong|"
    r"is wrong\. Its sign is"
)
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
    "encoder": "",
    "decoder": "",
    "binarise": "x, border=2",
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

def answer():
    return Encoder()
"""


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

    names = {
        "F": F, "dist": dist, "math": math, "nn": nn, "pyro": pyro, "torch": torch,
        "N": N, "D": D, "M": M, "H": H, "K": 5, "x_train": x_train, "svd": svd, "KL": KL,
        "rep": rep, "fit": fit, "mean": x_train.mean(0), "components": svd(x_train)[2][:M].mT,
        "encoder": TwoParts(D, H, M),
        "decoder": nn.Sequential(nn.Linear(M, H), nn.ReLU(), nn.Linear(H, D)),
    }  # fmt: skip
    import numpy

    return {**names, "np": numpy}


class TwoParts(nn.Module):
    """A right encoder."""

    def __init__(self, D, H, M):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2 * M))

    def forward(self, x):
        return self.layers(x).chunk(2, -1)


def written(name, source, names):
    """The function of a student who wrote this source."""
    text = textwrap.dedent(source).strip("\n")
    if text.startswith("ENCODER:"):
        layers, _, result = text.removeprefix("ENCODER:").partition("|")
        text = ENCODER.format(layers=layers, result=result or "loc, s")
    elif not re.search(r"^def answer|^class ", text, re.MULTILINE):
        body = text if re.search(r"^\s*return|^\w+:", text, re.MULTILINE) else f"return {text}"
        if "\n" in text and "return" not in text:
            body = text
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
        other = written(name, body if "def answer" in body else body + "\nreturn", names)
        programs = {"MODEL": right_model(names), "GUIDE": right_guide(names), kind: other}
        check.pair(programs["MODEL"], programs["GUIDE"], names["x_train"][:5])
    elif name in ("encoder", "decoder"):
        network = written(name, source, names)()
        getattr(check, name)(network, names["D"], names["M"])
    else:
        getattr(check, name)(written(name, source, names))


def hint_of(name, source):
    """What the check says of an answer; None if it finds nothing wrong."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            call(name, source)
        except check.Wrong as error:
            return str(error)
    return None


def kind_of(expected, hint):
    """specific, generic, false or missed."""
    if hint is None:
        return "missed"
    words = re.sub(r"check\.\w+", "", hint)
    if GENERIC.search(hint):
        return "generic"
    return "specific" if expected and re.search(expected, words) else "false"


def all_answers():
    """Half, check, what a hint has to say, and source."""
    for half, module in (("first", answers_first), ("second", answers_second)):
        for name, answers in module.WRONG.items():
            for expected, source in answers:
                yield half, name, expected, source


def main(show=()):
    torch.set_default_dtype(torch.float32)
    counts = collections.defaultdict(collections.Counter)
    for half, name, expected, source in all_answers():
        hint = hint_of(name, source)
        kind = kind_of(expected, hint)
        counts[half, name][kind] += 1
        if kind in show:
            print(f"{kind:8} {name} | {expected} | {source!r}\n         -> {hint}")
    print(f"{'check':24}" + "".join(f"{kind:>10}" for kind in KINDS))
    for half in ("first", "second"):
        total = collections.Counter()
        for (of, name), found in counts.items():
            if of == half:
                total += found
                print(f"{name:24}" + "".join(f"{found[kind]:10}" for kind in KINDS))
        print(f"{half + ' half':24}" + "".join(f"{total[kind]:10}" for kind in KINDS))
    whole = sum(counts.values(), collections.Counter())
    print(f"{'all':24}" + "".join(f"{whole[kind]:10}" for kind in KINDS))
    share = whole["specific"] / sum(whole.values())
    print(f"{sum(whole.values())} wrong answers, {share:.1%} with a specific hint")


if __name__ == "__main__":
    main(KINDS if "--all" in sys.argv else sys.argv[1:])

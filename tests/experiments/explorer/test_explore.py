"""The page that explore writes: what it computes, what it holds, and what is refused."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine

from experiments.data import Data
from experiments.data.dataset import Source
from experiments.data.transforms import Scale
from experiments.evaluation.khat import batch_weights
from experiments.evaluation.sampling.reconstruction import expected, mean_at
from experiments.explorer.decoders import decoder_of
from experiments.explorer.groups import png
from experiments.explorer.latents import latents_page
from experiments.explorer.page import HOME, SCRIPTS, packed_decoder
from experiments.explorer.views import chosen_rows
from experiments.inference.svi import Pair
from experiments.runs.checkpoint import save_weights
from experiments.runs.cli import cli
from experiments.tools import explore
from experiments.training.saved_run import SavedRun, open_run
from guides import GUIDES
from ppl_models import PPCA, VAE, Batch
from ppl_models.likelihoods import LIKELIHOODS
from tests.shared.commands import refused
from tests.shared.explorer_runs import payload_of, spread_ppca, untrained, untrained_nvae

pytestmark = pytest.mark.usefixtures("in_a_folder")


def make(*args: str) -> dict:
    """The page of a run, its payload, and what the command says of it."""
    cli(explore.Config, explore.main, list(args))
    out = args[args.index("--out") + 1] if "--out" in args else f"{args[0]}/explore.html"
    page = Path(out).read_text(encoding="utf-8")
    return {"page": page, **payload_of(page)}


def in_node(code: str, given: dict) -> dict:
    """Run the page's scripts in node, then ``code``, which leaves its answer in ``result``."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed; the same decoder is compared in tests of the browser")
    scripts = "\n".join((HOME / name).read_text() for name in (*SCRIPTS, "drawing.js"))
    whole = (
        f"{scripts}\nconst given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n"
        f"(async () => {{ let result;\n{code}\nconsole.log(JSON.stringify(result)); }})();"
    )
    Path("page.cjs").write_text(f'"use strict";\n{whole}')
    done = subprocess.run(
        ["node", "page.cjs"], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def likelihood_at(model, z):
    trace = poutine.trace(poutine.condition(model, {"z": z})).get_trace(Batch.draw(len(z)))
    return trace.nodes["x"]["fn"]


def pytorch(model, z, x) -> tuple[torch.Tensor, torch.Tensor]:
    """E[x | z] and log p(x | z) in double precision, ``[n, D]`` and ``[n]``."""
    double = model.double()
    # unchecked: the formula of a Bernoulli is compared on grey pixels too
    with torch.no_grad(), pyro.validation_enabled(False):
        likelihood = likelihood_at(double, z)
        return expected(likelihood).flatten(1), likelihood.log_prob(x)


def compare(cases: dict[str, torch.nn.Module], precision: str = "float32") -> None:
    """The page's decoder and PyTorch's agree at random points and images."""
    z, x = 1.5 * torch.randn(5, 3).double(), 0.01 + 0.98 * torch.rand(5, 1, 4, 4).double()
    x = (255 * x).round() / 255
    given = {"z": z.tolist(), "x": x.flatten(1).tolist()}
    given["decoders"] = {
        name: packed_decoder(decoder_of(model, name), precision, 255)
        for name, model in cases.items()
    }
    result = in_node(
        "result = Object.fromEntries(Object.entries(given.decoders).map(([name, packed]) => {"
        "  const decoder = new Decoder(packed);"
        "  return [name, { mean: given.z.map((z) => Array.from(decoder.mean(z))),"
        "    log: given.z.map((z, i) => decoder.logLikelihood(given.x[i], z)) }]; }));",
        given,
    )
    for name, model in cases.items():
        images = x.flatten(1) if isinstance(model, PPCA) or name == "low_rank" else x
        mean, log_prob = pytorch(model, z, images)
        assert np.allclose(result[name]["mean"], mean, atol=1e-6, rtol=0), name
        assert np.allclose(result[name]["log"], log_prob, atol=1e-5, rtol=1e-7), name


def test_the_decoder_is_pytorchs_under_every_likelihood():
    cases = {
        name: VAE((1, 4, 4), 3, likelihood=name, hidden_dims=(9, 7), activation="tanh")
        for name in LIKELIHOODS
    }
    for model in cases.values():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    compare(cases)


def test_the_decoder_is_pytorchs_under_every_activation():
    shape = (1, 4, 4)
    cases = {name: VAE(shape, 3, activation=name) for name in ("relu", "tanh", "silu", "gelu")}
    compare({**cases, "ppca": PPCA(16, 3), "linear": VAE(shape, 3, hidden_dims=())})


def test_special_functions_and_where_formulas_divide_by_zero():
    x = torch.tensor([0.004, 0.03, 0.5, 1.0, 2.5, 7.0, 9.99, 30.0]).double()
    logits = torch.tensor([-2e-3, -9e-4, 0.0, 5e-4, 1.1e-3]).double()
    found = in_node(
        "const family = LIKELIHOODS.continuous_bernoulli;"
        "result = { erf: given.x.map(erf), gamma: given.x.map(logGamma),"
        "  mean: Array.from(family.mean(given.logits, 5, {})),"
        "  log: given.logits.map((l) => family.logProb([l], [0.3], {})) };",
        {"x": x.tolist(), "logits": logits.tolist()},
    )
    assert found["erf"] == pytest.approx(torch.erf(x).tolist(), abs=1e-15)
    assert found["gamma"] == pytest.approx(torch.lgamma(x).tolist(), abs=1e-11)
    truth = torch.distributions.ContinuousBernoulli(logits=logits)
    assert found["mean"] == pytest.approx(truth.mean.tolist(), abs=1e-9)
    log_p = truth.log_prob(torch.tensor(0.3).double()).tolist()
    assert found["log"] == pytest.approx(log_p, abs=1e-9)


def test_rounded_weights_are_compared_rounded():
    model = VAE((1, 4, 4), 3)
    with torch.no_grad():
        for part in model.decoder.parameters():
            part.copy_(part.half())
    compare({"vae": model}, "float16")


def test_the_grids_posterior_of_ppca_is_the_closed_form():
    model = spread_ppca(Path("run"))
    made = make("run", "--images", "4", "--points", "50")
    result = in_node(
        "const decoder = new Decoder(given.decoder);"
        "const bytes = numbersOf(given.images.x, 'uint8');"
        "result = [];"
        "for (let i = 0; i < 4; i++) {"
        "  const x = Float32Array.from(bytes.subarray(64 * i, 64 * (i + 1)), (b) => b / 16);"
        "  const grid = await posteriorOf(decoder, x, 6);"
        "  const lines = contourOf(grid.mass, grid.side, heightOf(grid.mass, 0.5));"
        "  const at = (p) => [0, 1].map((k) => grid.low[k]"
        "    + ((p[k] + 0.5) / grid.side) * (grid.high[k] - grid.low[k]));"
        "  result.push({ mean: grid.mean, covariance: grid.covariance,"
        "    evidence: grid.logEvidence, contour: lines.map(([a]) => at(a)),"
        "    ellipse: ellipseOf(grid.mean, grid.covariance, 0.5) });"
        "}",
        made,
    )
    test = load_digits()
    rows = test.pixels[made["images"]["rows"]].reshape(4, 64).double() / 16
    posterior = model.double().posterior(rows)
    evidence = model.marginal().log_prob(rows)
    radius = math.sqrt(-2 * math.log(0.5))
    for i, found in enumerate(result):
        assert found["mean"] == pytest.approx(posterior.mean[i].tolist(), abs=1e-5)
        C = posterior.covariance_matrix[i].detach()
        packed = [C[0, 0].item(), C[1, 0].item(), C[1, 1].item()]
        assert found["covariance"] == pytest.approx(packed, rel=1e-3)
        assert found["evidence"] == pytest.approx(evidence[i].item(), abs=1e-4)
        assert made["exact"]["log_evidence"][i] == pytest.approx(evidence[i].item(), abs=1e-3)
        for line, tolerance in (("contour", 0.03), ("ellipse", 1e-3)):
            away = torch.tensor(found[line]).double() - posterior.mean[i]
            lengths = (away @ torch.linalg.inv(C) * away).sum(-1).sqrt()
            assert len(lengths) > 20
            assert lengths.tolist() == pytest.approx([radius] * len(lengths), rel=tolerance)


def test_the_grid_finds_a_narrow_posterior_and_the_bound_stays_below_it():
    model = untrained(
        Path("run"), "vae", "amortized", hidden_dims=[30], latent_dim=2, activation="tanh"
    )
    with torch.no_grad():
        model.likelihood.log_sigma.fill_(-3.0)
    z = torch.tensor([[1.234, -0.567]])
    x = mean_at(model, {"z": z}, Batch.draw(1))
    given = {
        "decoder": packed_decoder(decoder_of(model, "vae"), "float32", 16),
        "x": x.flatten().tolist(),
    }
    found = in_node(
        "const decoder = new Decoder(given.decoder);"
        "const grid = await posteriorOf(decoder, given.x, 6);"
        "result = { mean: grid.mean, evidence: grid.logEvidence };",
        given,
    )
    assert found["mean"] == pytest.approx(z[0].tolist(), abs=0.1)
    draws = torch.tensor(found["mean"]) + 0.1 * torch.randn(20000, 2)
    q = torch.distributions.Normal(torch.tensor(found["mean"]), 0.1)
    with torch.no_grad():
        likelihood = likelihood_at(model, draws).log_prob(x)
    prior = torch.distributions.Normal(0, 1).log_prob(draws).sum(-1)
    log_w = likelihood + prior - q.log_prob(draws).sum(-1)
    importance = log_w.logsumexp(0).item() - math.log(len(draws))
    assert found["evidence"] == pytest.approx(importance, abs=0.05)


def load_digits() -> Data:
    from experiments.data import load

    return load("digits")[1]


def test_the_labs_vae_fits_two_megabytes_in_full_precision():
    model = VAE((1, 28, 28), 2)
    pixels = torch.randint(256, (2000, 1, 28, 28), dtype=torch.uint8)
    data = Data(pixels, torch.arange(2000) % 10, (Scale(255),), source=Source(split="test")).like(
        model
    )
    pair = {"model": "vae", "guide": "amortized", "guide_options": {}}
    saved = SavedRun(Path("lab"), {"pair": pair}, model, GUIDES["amortized"](model), data, data)
    page, facts = latents_page([saved], explore.Config(run=Path("lab"), particles=2))
    assert facts["weights"] == "float32"
    assert facts["points"] == 2000
    assert len(page.encode()) < 2e6


def test_what_a_page_holds():
    untrained(Path("run"), "vae", "amortized", hidden_dims=[12], latent_dim=2)
    made = make("run", "--images", "20", "--points", "60")
    assert made["images"]["labels"][:10] == list(range(10))
    assert len(made["guides"][0]["elbo"]) == 20
    assert made["exact"] is None
    words = made["page"].replace("http-equiv", "")
    assert "http" not in words
    assert not re.search(r"(src|href)=(?![\"']data:)", words)
    assert "default-src 'none'" in words
    assert made["page"] == make("run", "--images", "20", "--points", "60")["page"]  # overwritten


@pytest.mark.parametrize("guide", ["prior", "point", "flow", "mixture", "full_rank"])
def test_guides_that_are_no_diagonal_gaussian(guide):
    options = {"local_steps": 2} if guide in ("point", "full_rank") else {}
    untrained(Path("run"), "vae", guide, guide_options=options, hidden_dims=[6], latent_dim=3)
    made = make("run", "--images", "4", "--points", "30", "--particles", "3")["guides"][0]
    assert (made["covariance"] is not None) == (guide in ("prior", "full_rank"))
    assert (made["draws"] is not None) == (guide in ("flow", "mixture"))
    assert (made["elbo"] is None) == (guide == "point")


@pytest.mark.parametrize(
    ("likelihood", "data", "levels"),
    [("bernoulli", {"binarize": "dynamic"}, 1), ("beta", {"dequantize": True}, 0)],
)
def test_pixels_that_are_no_bytes(likelihood, data, levels):
    untrained(Path("run"), "vae", "amortized", data=data, hidden_dims=[6], likelihood=likelihood)
    assert make("run", "--images", "4", "--points", "30")["images"]["levels"] == levels


def test_the_elbo_takes_no_more_memory_than_is_given(monkeypatch):
    """Three of seven images fit, of 64 numbers, eight bytes and eight copies each."""
    rows = []

    def weights(model, guide, batch, draws, at_once):
        rows.append((len(batch.index), at_once))
        return batch_weights(model, guide, batch, draws, at_once)

    monkeypatch.setattr("experiments.explorer.views.batch_weights", weights)
    untrained(Path("run"), "vae", "amortized", hidden_dims=[6])
    few = ["--images", "7", "--points", "30", "--particles", "3"]
    made = make("run", *few, "--memory", str(3.5 * 64 * 64 / 2**30))["guides"][0]
    assert rows == [(3, 3), (3, 3), (1, 3)]
    assert len(made["elbo"]) == len(made["elbo_se"]) == 7


def test_two_guides_on_one_decoder():
    model = untrained(Path("a"), "vae", "amortized", hidden_dims=[6])
    options = {"guide_options": {"covariance": "full"}}
    untrained(Path("b"), "vae", "amortized", like=model, hidden_dims=[6], **options)
    made = make("a", "--with", "b", "--images", "4", "--points", "30", "--out", "both.html")
    assert [guide["name"] for guide in made["guides"]] == [
        "amortized",
        "amortized (covariance full)",
    ]


def test_all_that_comes_from_outside_is_escaped():
    name = '<img src=x onerror=alert(1)> & "quoted" {{payload}} </script>'.replace("/", "\u2044")
    untrained(Path(name), "vae", "amortized", hidden_dims=[6])
    made = make(name, "--images", "4", "--points", "30")
    assert "<img src=x" not in made["page"]
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; &quot;quoted&quot;" in made["page"]
    assert made["page"].count('id="payload"') == 1


def test_the_page_of_an_nvae(capsys):
    untrained_nvae(Path("run"))
    made = make("run", "--temperature", "1.0", "0.5", "--readjust", "1")
    assert [part["T"] for part in made["temperatures"]] == [0.5, 1.0]
    assert made["groups"] == ["z0, 2 x 2 x 2", "z1, 2 x 4 x 4"]
    for part in made["temperatures"]:
        assert [len(pictures) for pictures in part["groups"]] == [2, 2, 2]
        assert part["prior"].startswith("data:image/png;base64,")
    warm, cold = (part["prior"] for part in made["temperatures"])
    assert warm != cold
    refused(capsys, explore, ["run", "--with", "run", "--out", "x.html"], "--with is for pages")


def test_the_page_of_an_nvae_under_the_prior():
    untrained_nvae(Path("run"), "prior")
    made = make("run", "--temperature", "0.5", "--readjust", "0")
    assert [len(pictures) for pictures in made["temperatures"][0]["groups"]] == [2, 2, 2]


def test_the_page_of_a_lean_nvae_tells_of_no_readjusted_norms():
    for name, lean in (("lean", True), ("published", False)):
        untrained_nvae(Path(name), lean=lean)
        page = make(name, "--temperature", "0.5", "--readjust", "1")["page"]
        assert ("were readjusted" in page) != lean


def test_pictures_are_dark_on_light_and_in_rows():
    import base64
    import io

    from PIL import Image

    images = torch.arange(3.0).reshape(3, 1, 1, 1).div(2).expand(3, 1, 2, 2)
    data = base64.b64decode(png(images, 2).split(",")[1])
    array = np.asarray(Image.open(io.BytesIO(data)))
    assert array.shape == (4, 4)
    assert [array[0, 0], array[0, 2], array[2, 0], array[2, 2]] == [255, 128, 0, 255]


def test_chosen_rows_take_the_classes_in_turn():
    labels = torch.tensor([2, 2, 2, 0, 1, 0])
    assert chosen_rows(labels, 6, 5) == [3, 4, 0, 5, 1]
    assert chosen_rows(None, 6, 9) == [0, 1, 2, 3, 4, 5]


def test_what_has_no_page(capsys):
    untrained(Path("conv"), "vae", "amortized", network="conv")
    refused(capsys, explore, ["conv"], "PPCA, of a VAE with an mlp decoder")
    refused(capsys, explore, ["nothing"], "nothing does not exist")
    assert not Path("conv/explore.html").exists()


def test_pages_that_are_too_heavy(capsys):
    model = untrained(Path("run"), "vae", "amortized", hidden_dims=[200])
    few = ["--images", "4", "--points", "30"]
    # 2 x 200 + 200 + 200 x 64 + 64 weights, two bytes each, four thirds of it in base 64
    refused(capsys, explore, ["run", *few, "--limit", "0.03"], "would take 0.04 MB as float16")
    refused(capsys, explore, ["run", *few, "--limit", "0.06"], "the page would take")
    assert not Path("run/explore.html").exists()
    weights = make("run", *few, "--limit", "0.09")
    assert weights["decoder"]["precision"] == "float16"
    assert "float16, rounded" in weights["page"]
    assert make("run", *few)["decoder"]["precision"] == "float32"
    with torch.no_grad():
        model.decoder.mlp.head.bias.fill_(1e5)
    untrained(Path("large"), "vae", "amortized", like=model, hidden_dims=[200])
    refused(capsys, explore, ["large", *few, "--weights", "float16"], "overflows float16")


def test_a_second_run_of_another_decoder_or_other_data(capsys):
    model = untrained(Path("a"), "vae", "amortized", hidden_dims=[6])
    untrained(Path("b"), "vae", "amortized", hidden_dims=[7])
    untrained(Path("c"), "vae", "amortized", hidden_dims=[6])
    spread_ppca(Path("d"))
    untrained(
        Path("e"), "vae", "amortized", like=model, hidden_dims=[6], data={"binarize": "static"}
    )
    refused(capsys, explore, ["a", "--with", "b"], "b has another decoder than a")
    refused(capsys, explore, ["a", "--with", "c"], "differs by up to")
    refused(capsys, explore, ["a", "--with", "d"], "than a: make the second one by refit a")
    refused(capsys, explore, ["a", "--with", "e"], "tested on other images")


def test_weights_that_are_not_finite(capsys):
    untrained(Path("run"), "vae", "amortized", hidden_dims=[6])
    saved = open_run(Path("run"), None, torch.device("cpu"))
    with torch.no_grad():
        saved.guide.encoder.head.bias.fill_(math.nan)
    save_weights(Path("run"), Pair(saved.model, saved.guide))
    refused(capsys, explore, ["run"], "not finite")


def test_options_that_no_page_can_have(capsys):
    untrained(Path("run"), "vae", "amortized", hidden_dims=[6])
    for option in ("--points", "--images", "--particles"):
        refused(capsys, explore, ["run", option, "1"], "at least 2")
    refused(capsys, explore, ["run", "--limit", "0"], "above 0")
    refused(capsys, explore, ["run", "--temperature", "0"], "above 0")
    Path("mine.html").write_text("my own page")
    refused(capsys, explore, ["run", "--out", "mine.html"], "was not written by explore")
    assert Path("mine.html").read_text() == "my own page"
    refused(capsys, explore, ["run", "--out", "run"], "was not written by explore")

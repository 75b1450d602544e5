"""The published NVAE's distributions, masks and schedules, number by number."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from experiments.data.loading import reduce_bits
from experiments.data.rows import Rows
from experiments.evaluation.metrics import bits_per_dimension
from experiments.inference.objectives.nvae import group_sizes
from experiments.inference.optim.schedules import (
    kl_coefficient,
    learning_rate,
    regularisation_weight,
)
from ppl_models.nvae.distributions import (
    CroppedBernoulli,
    PixelNormal,
    ReferenceLogisticMixture,
    SoftNormal,
    soft_clamp,
)
from ppl_models.nvae.flows import FlowPair
from ppl_models.nvae.layers import Conv
from ppl_models.nvae.program import adaptive_groups
from ppl_models.nvae.reference_options import SIZES
from tests.shared.golden import GOLDEN

pytestmark = pytest.mark.skipif(GOLDEN is None, reason="the published numbers are not here")


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def arrays(request):
    return {**np.load(GOLDEN / "dist.npz"), "dtype": request.param}


@pytest.fixture(scope="module")
def tables():
    return json.loads((GOLDEN / "tables.json").read_text())


def given(arrays, key):
    return torch.from_numpy(arrays[f"in/{key}"]).to(arrays["dtype"])


def check(arrays, key, value, tolerance=1e-9):
    """In float64 to 1e-9; in float32 to ten times what the published code loses there."""
    expected = torch.from_numpy(arrays[f"out/{key}"]).double()
    assert value.shape == expected.shape
    allowed = tolerance * expected.abs().max()
    if arrays["dtype"] == torch.float32:
        if f"out32/{key}" not in arrays:
            return
        lost = (torch.from_numpy(arrays[f"out32/{key}"]).double() - expected).abs().max()
        allowed = max(10 * lost, 2**-23 * expected.abs().max())
    assert (value.double() - expected).abs().max() <= allowed, key


MIXTURES = [("m10_b8", 8), ("m10_b5", 5), ("m3_b8", 8)]


@pytest.mark.parametrize(("tag", "bits"), MIXTURES)
def test_the_mixture_of_logistics(arrays, tag, bits):
    parameters, x = (given(arrays, f"mix/{tag}/{name}") for name in ("params", "x"))
    mixture = ReferenceLogisticMixture(parameters.requires_grad_(), bits)
    check(arrays, f"mix/{tag}/log_prob", mixture.log_prob_map(x).detach())
    check(arrays, f"mix/{tag}/recon_loss", -mixture.log_prob(x).detach())
    (gradient,) = torch.autograd.grad(mixture.log_prob(x).sum(), parameters)
    check(arrays, f"mix/{tag}/grad_params", gradient)
    check(arrays, f"mix/{tag}/mean", mixture.mean.detach())
    uniforms = [given(arrays, f"mix/{tag}/u_{name}") for name in ("gumbel", "logistic")]
    for temperature in (1.0, 0.7):
        drawn = mixture.draw(*uniforms, temperature).detach()
        check(arrays, f"mix/{tag}/sample_t{temperature}", drawn)
    levels = 2**bits
    red = (torch.arange(levels).float() / (levels - 1)).double()  # inputs there are float32
    others = given(arrays, f"mix/{tag}/sweep_gb").expand(levels, 2)
    pixels = torch.cat([red[:, None], others], 1)[..., None, None]
    sweep = ReferenceLogisticMixture(given(arrays, f"mix/{tag}/sweep_params"), bits)
    check(arrays, f"mix/{tag}/sweep_log_prob", sweep.log_prob_map(pixels).flatten())


def test_probabilities_of_the_mixture_sum_to_one_at_five_bits_only():
    narrow = torch.zeros(1, 10, 1, 1)
    narrow[:, 1::3] = 0.6
    narrow[:, 2::3] = -1.5
    totals = {}
    for bits in (5, 8):
        levels = 2**bits
        red = torch.arange(levels) / (levels - 1)
        channel = ReferenceLogisticMixture(narrow, bits)
        x = (2 * red - 1).reshape(-1, 1, 1, 1, 1)
        mean = torch.full((1, 1, 1, 1, 1), 0.6)
        channel.log_scale = torch.full((1, 1, 1, 1, 1), -1.5)
        totals[bits] = channel._channel(x, mean).exp().sum().item()
    assert totals[5] == pytest.approx(1, abs=1e-9)
    assert totals[8] == pytest.approx(1.145, abs=1e-3)


def test_the_soft_clamped_normal(arrays):
    mu_a, ls_a, mu_b, ls_b = (
        given(arrays, f"normal/{k}") for k in ("mu_a", "ls_a", "mu_b", "ls_b")
    )
    check(arrays, "normal/soft_clamp5", soft_clamp(mu_a))
    a, b = SoftNormal(mu_a, ls_a), SoftNormal(mu_b, ls_b)
    samples, eps = given(arrays, "normal/samples"), given(arrays, "normal/eps")
    for t in (1.0, 0.6):
        p, q = (Normal(n.loc, t * n.scale) for n in (a, b))
        check(arrays, f"normal/t{t}/mu", p.loc)
        check(arrays, f"normal/t{t}/sigma", p.scale)
        check(arrays, f"normal/t{t}/log_p", p.log_prob(samples))
        check(arrays, f"normal/t{t}/kl_ab", kl_divergence(p, q))
        check(arrays, f"normal/t{t}/sample_given_eps", p.loc + p.scale * eps)
    assert SoftNormal(torch.zeros(1), torch.zeros(1)).scale == 1.01


def test_the_other_likelihoods(arrays):
    logits, x = (given(arrays, f"bernoulli/{name}") for name in ("logits", "x"))
    for crop, name in ((2, "cropped"), (0, "full")):
        value = -CroppedBernoulli(logits, crop).log_prob(x)
        check(arrays, f"bernoulli/recon_loss_{name}", value)
    check(arrays, "bernoulli/log_prob", CroppedBernoulli(logits, 0).base_dist.log_prob(x))
    parameters, x = (given(arrays, f"normaldec/{name}") for name in ("params", "x"))
    normal = PixelNormal(*parameters.chunk(2, 1))
    check(arrays, "normaldec/log_prob", normal.base_dist.log_prob(x))
    check(arrays, "normaldec/recon_loss", -normal.log_prob(x))


@pytest.mark.parametrize("bits", [8, 5, 3])
def test_bit_reduction(arrays, bits):
    levels = torch.arange(256, dtype=torch.uint8)
    reduced = reduce_bits(Rows(levels, None, 255), bits, "bytes")
    x = reduced.pixels.double() / reduced.levels
    check(arrays, f"preprocess/bits{bits}", x, 1e-6)


def test_weight_normalisation(arrays):
    weight = given(arrays, "wn/weight")
    conv = Conv(3, 5, 3).to(arrays["dtype"])
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.log_weight_norm.copy_(given(arrays, "wn/log_norm"))
    check(arrays, "wn/conv", conv.effective_weight().detach())


def test_masks_and_flows(arrays):
    channels = int(arrays["in/mask/num_z"])
    pair = FlowPair(channels).to(arrays["dtype"])
    z = given(arrays, "mask/z_in")
    for k, shift in enumerate(pair.shifts, 1):
        convs = (("conv3", shift.first), ("depthwise5", shift.second), ("mu1", shift.last))
        for name, conv in convs:
            with torch.no_grad():
                conv.weight.copy_(given(arrays, f"mask/{name}/weight"))
                conv.log_weight_norm.copy_(given(arrays, f"mask/{name}/log_norm"))
            check(arrays, f"mask/cell{k}/{name}", conv.mask.double())
            weight = conv.effective_weight().detach()
            check(arrays, f"mask/cell{k}/{name}_effective_weight", weight)
        with torch.no_grad():
            shift.last.bias.copy_(given(arrays, "mask/mu_bias"))
        check(arrays, f"mask/cell{k}/z_out", (z - shift(z)).detach())
    check(arrays, "mask/pair_z_out", pair(z).detach())


def test_groups_and_sizes(tables):
    for row in tables["groups_per_scale"]:
        scales, finest = row["num_scales"], row["num_groups_per_scale"]
        groups = (
            adaptive_groups(scales, finest, row["min_groups_per_scale"])
            if row["ada_groups"]
            else (finest,) * scales
        )
        assert list(reversed(groups)) == row["groups"]
    for row in tables["alpha"]:
        sizes = group_sizes(tuple(reversed(row["groups_per_scale"])), row["fun"])
        torch.testing.assert_close(sizes, torch.tensor(row["alpha"]), rtol=1e-6, atol=0)
    assert all(SIZES[data] == size for data, size in tables["input_size"].items())
    for data, number in tables["num_output"].items():
        side = SIZES[data]
        if data in ("mnist", "omniglot"):
            assert number == (side - 4) ** 2  # the likelihood leaves out a border of two pixels
        else:
            images = SimpleNamespace(data_shape=(3, side, side), measure="probability")
            bits = bits_per_dimension({"elbo": -number * math.log(2)}, images)
            assert bits == pytest.approx({"elbo_bits_per_dimension": 1.0})


def test_schedules(tables):
    for row in tables["kl_coeff"]:
        found = [
            kl_coefficient(
                step / row["num_total_iter"],
                row["kl_const_portion"],
                row["kl_anneal_portion"],
                row["kl_const_coeff"],
            )
            for step in row["step"]
        ]
        assert found == pytest.approx(row["kl_coeff"], rel=1e-9)
    for row in tables["wdn_coeff"]:
        found = [regularisation_weight(k, row["init"], row["final"]) for k in row["kl_coeff"]]
        assert found == pytest.approx(row["coeff"], rel=1e-9)
    for row in tables["lr"]:
        steps = row["iters_per_epoch"]
        for name, step in (("first", 0), ("last", steps - 1)):
            found = [
                learning_rate(
                    epoch,
                    step,
                    steps,
                    row["epochs"],
                    row["warmup_epochs"],
                    row["learning_rate"],
                    row["learning_rate_min"],
                )
                for epoch in range(row["epochs"])
            ]
            assert found == pytest.approx(row[f"lr_{name}_iter_of_epoch"], rel=1e-9)


@pytest.mark.parametrize("cells", [1, 2])
def test_the_mnist_models_have_the_published_tensors(cells):
    from experiments.inference.svi import Pair
    from guides.hierarchies.top_down import TopDown
    from ppl_models.nvae import NVAE
    from ppl_models.nvae.reference import to_reference
    from ppl_models.nvae.reference_options import options_of_args

    name = {1: "mnist_paper_1cell", 2: "mnist_official"}[cells]
    facts = json.loads((GOLDEN / f"{name}_state_dict_shapes.json").read_text())
    with torch.device("meta"):
        model_options, guide_options = options_of_args(facts["args"])
        model = NVAE(**model_options)
        pair = Pair(model, TopDown(model, **guide_options))
    state = to_reference(pair)
    assert {key: list(t.shape) for key, t in state.items()} == {
        key: shape for key, shape, _ in facts["shapes"]
    }
    assert pair.number_of_parameters == {1: 18_853_518, 2: 33_363_134}[cells]
    assert [list(shape) for shape in model.latent_shapes] == facts["latent_shapes"]


def test_shift_sees_only_what_comes_before():
    pair = FlowPair(2)
    for shift, flipped in zip(pair.shifts, (False, True), strict=True):
        z = torch.randn(1, 2, 4, 4)
        jacobian = torch.autograd.functional.jacobian(shift, z).reshape(2, 16, 2, 16)
        jacobian = jacobian.permute(1, 0, 3, 2)  # pixel, channel of mu; pixel, channel of z
        order = torch.arange(16).flip(0) if flipped else torch.arange(16)
        rank = torch.empty(16, dtype=torch.long)
        rank[order] = torch.arange(16)
        for i in range(16):
            for j in range(16):
                later = rank[j] > rank[i]
                block = jacobian[i, :, j, :]
                if later:
                    assert (block == 0).all()
                elif i == j:
                    assert (block.triu() == 0).all()  # strictly lower channels

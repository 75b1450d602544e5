"""Self-checks accept every right answer, however it is written, and name every planted mistake."""

import itertools
import math
import re
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.teaching import check
from experiments.teaching.examining import examine

NAMES = (
    *("distances", "log_density", "pca", "pca_encoder", "pca_decoder", "ppca_decoder"),
    *("squared_error", "ppca_cost", "posterior", "log_likelihood", "monte_carlo_likelihood"),
    *("kl", "reparametrise", "elbo"),
)


def task_of(name):
    """The task that a check hands to ``examine``."""
    found = []
    module = sys.modules[getattr(check, name).__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "examine", lambda task, answer: found.append(task))
        getattr(check, name)(None)
    return found[0]


TASKS = {name: task_of(name) for name in NAMES}
LISTED = [(name, i) for name, task in TASKS.items() for i in range(len(task.mistakes))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TASKS)
def test_every_listed_mistake_gets_its_hint(name, dtype):
    torch.set_default_dtype(dtype)
    for formula, hint, _ in TASKS[name].mistakes:
        with pytest.raises(check.Wrong) as caught:
            examine(TASKS[name], formula)
        assert hint in str(caught.value)


def test_many_mistakes_are_listed():
    assert len(LISTED) >= 100
    assert all(len(hint) > 15 for task in TASKS.values() for _, hint, _ in task.mistakes)


def eye(n, like):
    return torch.eye(n, dtype=like.dtype)


def svd(x, m):
    mean = torch.mean(x, dim=0, keepdim=True)
    return mean.squeeze(0), -torch.linalg.svd(x - mean, full_matrices=False).Vh[:m].T


def eigh(x, m):
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    return x.mean(0), vectors[:, values.argsort(descending=True)[:m]]


def lowrank(x, m):
    d = x - x.mean(0)
    return x.mean(0), torch.linalg.svd(d.T @ d)[0][:, :m]


def dense(x, W, mu, s):
    C = W @ W.T + s.exp() * eye(len(W), W)
    return torch.logdet(C) + torch.einsum("nd,de,ne->n", x - mu, torch.inverse(C), x - mu).mean()


def woodbury(x, W, mu, s):
    M = W.T @ W + s.exp() * eye(W.shape[1], W)
    d = (x - mu).T
    C_inverse = (eye(len(W), W) - W @ torch.linalg.solve(M, W.T)) / torch.exp(s)
    return torch.slogdet(M)[1] + (len(W) - len(M)) * s + (d * (C_inverse @ d)).sum() / d.shape[1]


def by_density(x, W, mu, s):
    p = dist.MultivariateNormal(mu, W @ W.T + s.exp() * eye(len(W), W))
    return -2 * p.log_prob(x).mean() - mu.numel() * math.log(2 * math.pi)


def solved(x, W, mu, s):
    M = W.T @ W + s.exp() * eye(W.shape[1], W)
    return torch.linalg.solve(M, W.T @ (x - mu).T).T, s.exp() * torch.inverse(M)


def conditioned(x, W, mu, s):
    C = W @ W.T + s.exp() * eye(len(W), W)
    gain = W.T @ torch.inverse(C)
    return (x - mu) @ gain.T, eye(W.shape[1], W) - gain @ W


def by_precision(x, W, mu, s):
    precision = W.T @ W * torch.exp(-s) + eye(W.shape[1], W)
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    return torch.exp(-s) * (x - mu) @ W @ covariance, covariance


def expanded(x, z, f, s):
    """(x - m)^2 = x^2 - 2 x m + m^2, by matrix products."""
    m = f(z)
    squares = (x**2).sum(1)[None] - 2 * m @ x.T + (m**2).sum(1)[:, None]
    return -0.5 * (x.shape[1] * (s + math.log(2 * math.pi)) + squares / s.exp())


def looped(x, z, f, s):
    rows = [dist.Normal(f(one), torch.sqrt(torch.exp(s))).to_event(1).log_prob(x) for one in z]
    return torch.stack(rows)


def multivariate(x, z, f, s):
    covariance = s.exp() * eye(x.shape[1], x)
    return dist.MultivariateNormal(f(z)[:, None, :], covariance).log_prob(x[None])


def shifted(log_p):
    largest = log_p.max(dim=0, keepdim=True).values
    return (largest + (log_p - largest).exp().mean(0, keepdim=True).log()).squeeze(0)


def weighed(log_p):
    return torch.logsumexp(log_p + math.log(1 / len(log_p)), dim=0)


def one_image_at_a_time(log_p):
    columns = [column.logsumexp(0) - math.log(len(column)) for column in log_p.T]
    return torch.stack(columns)


def pyro_kl(m, s):
    q = dist.Normal(m, s.mul(0.5).exp()).to_event(1)
    return torch.distributions.kl_divergence(q, dist.Normal(m * 0, 1.0).to_event(1))


def multivariate_kl(m, s):
    p = dist.MultivariateNormal(torch.zeros_like(m), eye(m.shape[1], m))
    return torch.distributions.kl_divergence(dist.MultivariateNormal(m, s.exp().diag_embed()), p)


def drawn_elbo(x, m, v, e, f, s):
    """log p(x, z) - log q(z | x) at the draw."""
    z = m + torch.exp(0.5 * v) * e
    q, p = dist.Normal(m, torch.exp(0.5 * v)), dist.Normal(torch.zeros_like(z), 1.0)
    terms = [
        p.log_prob(z).sum(),
        -q.log_prob(z).sum(),
        dist.Normal(f(z), s.exp().sqrt()).log_prob(x).sum(),
    ]
    return sum(terms) / len(x)


def closed_elbo(x, m, v, e, f, s):
    z = m + v.exp().sqrt() * e
    fit = -0.5 * x.shape[1] * (math.log(2 * math.pi) + s) - (x - f(z)).pow(2).sum(1) / s.exp() / 2
    return torch.mean(fit + 0.5 * (1 + v - m**2 - v.exp()).sum(1))


def summed_elbo(x, m, v, e, f, s):
    z = e * (v / 2).exp() + m
    fit = dist.Normal(f(z), (s / 2).exp()).to_event(1).log_prob(x).sum()
    return (fit - pyro_kl(m, v).sum()) / x.shape[0]


RIGHT = {
    "pca": [svd, eigh, lowrank],
    "pca_encoder": [
        lambda x, mean, V: (x - mean).matmul(V),
        lambda x, mean, V: x @ V - mean @ V,
        lambda x, mean, V: torch.einsum("nd,dk->nk", x - mean[None], V),
    ],
    "pca_decoder": [
        lambda z, mean, V: z @ V.T + mean,
        lambda z, mean, V: (V @ z.T).T + mean.unsqueeze(0),
        lambda z, mean, V: torch.stack([mean + V @ row for row in z]),
    ],
    "ppca_decoder": [
        lambda z, W, mu: z @ W.T + mu,
        lambda z, W, mu: nn.functional.linear(z, W, mu),
        lambda z, W, mu: torch.einsum("dk,nk->nd", W, z) + mu,
    ],
    "squared_error": [
        lambda x, y: ((x - y) ** 2).sum() / len(x),
        lambda x, y: torch.linalg.norm(x - y, dim=1).pow(2).mean(),
        lambda x, y: nn.functional.mse_loss(y, x) * x.shape[1],
        lambda x, y: float(((y - x).numpy() ** 2).sum(1).mean()),
    ],
    "ppca_cost": [dense, woodbury, by_density],
    "posterior": [solved, conditioned, by_precision],
    "log_likelihood": [expanded, looped, multivariate],
    "monte_carlo_likelihood": [shifted, weighed, one_image_at_a_time],
    "kl": [
        lambda m, s: -0.5 * torch.sum(1 + s - m.pow(2) - s.exp(), dim=1),
        pyro_kl,
        multivariate_kl,
    ],
    "reparametrise": [
        lambda m, s, e: m + torch.exp(0.5 * s) * e,
        lambda m, s, e: e * s.exp().sqrt() + m,
        lambda m, s, e: torch.addcmul(m, s.exp() ** 0.5, e),
    ],
    "elbo": [drawn_elbo, closed_elbo, summed_elbo],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_are_accepted_however_they_are_written(name, dtype, capsys):
    torch.set_default_dtype(dtype)
    assert len(RIGHT[name]) >= 3
    for answer in RIGHT[name]:
        getattr(check, name)(answer)
    assert capsys.readouterr().out.count(f"check.{name}: right") == len(RIGHT[name])


def half_detached(m, s):
    return 0.5 * (s.exp().detach() + m**2 - 1 - s).sum(1)


WRITTEN = [  # as students write them: what is wrong, and a word of what has to be said
    ("kl", lambda m, s: 0.5 * (s.exp() + m**2 - 1 - s).sum(1).detach(), "no gradient flows"),
    ("kl", lambda m, s: torch.tensor(pyro_kl(m, s).numpy()), "no gradient flows"),
    ("kl", half_detached, "its gradient is not"),
    ("kl", lambda m, s: None, "`return`"),
    ("kl", lambda m, s: "KL", "tensors"),
    ("kl", lambda m, s: (m, s), "expects 1 value"),
    ("kl", lambda m, s: m @ s, "raised RuntimeError"),
    ("kl", lambda m, s: undefined, "raised NameError"),  # noqa: F821
    ("kl", lambda m, s: 1.3 * pyro_kl(m, s), "1.3 times"),
    ("kl", lambda m, s: pyro_kl(m, s) + 2, "same constant"),
    ("kl", lambda m, s: pyro_kl(m, s) + m.sum(1), "off by"),
    ("kl", lambda m, s: (0.5 * (s.exp() + m**2 - 1 - (-s.exp()).log())).sum(1), "NaN"),
    ("ppca_cost", lambda x, W, mu, s: dense(x, W, mu, s).item(), "no gradient flows"),
    ("ppca_cost", lambda x, W, mu, s: by_density(x, W, mu, s.detach()), "its gradient is not"),
    ("ppca_cost", lambda x, W, mu, s: dense(x, W.T, mu, s), "raised"),
    ("ppca_cost", lambda x, W, mu, s: dense(x, W, mu, s) + (784 - len(mu)) * s, "outside"),
    ("posterior", lambda x, W, mu, s: solved(x, W, mu, s)[0], "expects 2 value"),
    ("monte_carlo_likelihood", lambda p: p.exp().mean(0).log(), "underflows"),
    ("elbo", lambda x, m, v, e, *a: drawn_elbo(x, m, v, torch.randn_like(e), *a), "of its own"),
    ("elbo", lambda x, m, v, e, f, s: drawn_elbo(x, m.detach(), v, e, f, s), "gradient is not"),
    ("reparametrise", lambda m, s, e: dist.Normal(m, (s / 2).exp()).sample(), "of its own"),
    ("pca", lambda x, m: (x.mean(0), eigh(x, m)[1][:, :1]), "shape"),
]


@pytest.mark.parametrize(("name", "answer", "words"), WRITTEN)
def test_other_wrong_answers_are_explained(name, answer, words):
    with pytest.raises(check.Wrong, match=re.escape(words)):
        getattr(check, name)(answer)


@pytest.mark.parametrize("name", TASKS)
def test_a_stub_says_that_it_is_to_be_written(name):
    def stub(*arguments):
        raise NotImplementedError("To be written: sum over latents")

    with pytest.raises(NotImplementedError, match="sum over latents"):
        getattr(check, name)(stub)


@pytest.mark.parametrize("name", ["draw_latents", "binarise", "count_parameters", "encoder"])
def test_functions_that_fail_are_explained(name):
    sizes = (5, 2) if name == "encoder" else ()

    def stub(*arguments):
        raise NotImplementedError("To be written: the body")

    with pytest.raises(NotImplementedError, match="To be written") as caught:
        getattr(check, name)(stub, *sizes)
    assert caught.value._render_traceback_() == ["To be written: the body"]
    with pytest.raises(check.Wrong, match="raised TypeError"):
        getattr(check, name)(lambda: None, *sizes)


def test_checks_leave_the_random_state_alone():
    before = torch.get_rng_state()
    check.kl(RIGHT["kl"][0])
    check.elbo(drawn_elbo)
    assert torch.equal(before, torch.get_rng_state())


def test_a_notebook_shows_the_words_and_no_traceback():
    with pytest.raises(check.Wrong) as caught:
        check.kl(lambda m, s: -pyro_kl(m, s))
    (line,) = caught.value._render_traceback_()
    assert line.startswith("Not yet. check.kl: its sign is wrong")


def layers(*widths, last=None, between=nn.ReLU):
    parts = []
    for a, b in itertools.pairwise(widths):
        parts += [nn.Linear(a, b), between()]
    return nn.Sequential(*parts[:-1], *([last] if last else []))


class Encoder(nn.Module):
    def __init__(self, outputs=6, **options):
        super().__init__()
        self.layers = layers(10, 20, outputs, **options)

    def forward(self, x):
        return self.layers(x).chunk(2, -1)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.loc, self.scale = (nn.Linear(a, b) for a, b in ((10, 9), (9, 3), (9, 3)))

    def forward(self, x):
        hidden = torch.tanh(self.hidden(x))
        return self.loc(hidden), self.scale(hidden)


class Idle(Encoder):
    def __init__(self):
        super().__init__()
        self.idle = nn.Linear(3, 3)


class OverBatch(Encoder):
    def forward(self, x):
        loc, scale = super().forward(x)
        return loc - loc.mean(0), scale


class Variance(Encoder):
    def forward(self, x):
        loc, scale = super().forward(x)
        return loc, scale.exp()


class Same(Encoder):
    def forward(self, x):
        loc, _ = super().forward(x)
        return loc, loc


class Single(Encoder):
    def forward(self, x):
        return self.layers(x)


class Detached(Encoder):
    def forward(self, x):
        return tuple(part.detach() for part in super().forward(x))


@pytest.mark.parametrize("encoder", [Encoder(), TwoHeads(), Encoder(between=nn.SiLU)])
def test_encoders_are_accepted(encoder):
    check.encoder(encoder.to(torch.get_default_dtype()), 10, 3)


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (Encoder(3), "shape"),
        (Encoder(last=nn.ReLU()), "changes its sign"),
        (Idle(), "idle.weight"),
        (Encoder(last=nn.Softplus()), "changes its sign"),
        (OverBatch(), "other rows"),
        (Variance(), "NaN or infinite|changes its sign"),
        (Same(), "same numbers"),
        (Single(), "two tensors"),
        (Encoder(between=nn.Identity), "affine"),
        (Detached(), "no gradient"),
        (lambda x: x @ x, "raised"),
        (Encoder(last=nn.Softmax(0)), "changes its sign"),
    ],
)
def test_wrong_encoders_are_named(encoder, words):
    if isinstance(encoder, nn.Module):
        encoder.to(torch.get_default_dtype())
    with pytest.raises(check.Wrong, match=words):
        check.encoder(encoder, 10, 3)


def functional(W1, W2):
    return lambda z: torch.relu(z @ W1 - 0.3) @ W2


def test_decoders_are_accepted():
    torch.manual_seed(1)
    check.decoder(layers(3, 20, 10), 10, 3)
    check.decoder(layers(3, 20, 20, 10, between=nn.GELU), 10, 3)
    check.decoder(functional(torch.randn(3, 20), torch.randn(20, 10)), 10, 3)


@pytest.mark.parametrize(
    ("last", "between", "words"),
    [
        (nn.ReLU(), nn.ReLU, "changes its sign"),
        (nn.Sigmoid(), nn.ReLU, "changes its sign"),
        (nn.Tanh(), nn.ReLU, "output layer is linear"),
        (None, nn.Identity, "affine"),
        (nn.Flatten(0), nn.ReLU, "shape"),
        (nn.BatchNorm1d(10), nn.ReLU, "raised|other rows"),
    ],
)
def test_wrong_decoders_are_named(last, between, words):
    torch.manual_seed(1)
    with pytest.raises(check.Wrong, match=words):
        check.decoder(layers(3, 20, 10, last=last, between=between), 10, 3)


def test_draws_of_latents():
    check.draw_latents(lambda n, m, T: T * torch.randn(n, m))
    check.draw_latents(lambda n, m, T: torch.randn(n, m) * T)
    check.draw_latents(lambda n, m, T: dist.Normal(torch.zeros(n, m), T).sample())
    cov = lambda m, T: T**2 * torch.eye(m)  # noqa: E731
    check.draw_latents(
        lambda n, m, T: dist.MultivariateNormal(torch.zeros(m), cov(m, T)).sample((n,))
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n, m, T: torch.randn(n, m), "does nothing"),
        (lambda n, m, T: T**0.5 * torch.randn(n, m), "as variance"),
        (lambda n, m, T: T**2 * torch.randn(n, m), r"T\^2 is used"),
        (lambda n, m, T: torch.randn(n, m) / T, "divided"),
        (lambda n, m, T: T + torch.randn(n, m), "mean"),
        (lambda n, m, T: T * (torch.rand(n, m) - 0.5) * 12**0.5, "not normal"),
        (lambda n, m, T: T * torch.randn(m, n), "expected was"),
        (lambda n, m, T: T * torch.randn(n, 1).expand(n, m), "not independent"),
        (lambda n, m, T: 0.7 * T * torch.randn(n, m), "standard deviation is"),
    ],
)
def test_wrong_draws_of_latents(answer, words):
    with pytest.raises(check.Wrong, match=words):
        check.draw_latents(answer)


def padded(x):
    return nn.functional.pad(x, (2, 2, 2, 2))


def filled(x):
    out = torch.zeros(len(x), 1, 32, 32, dtype=x.dtype)
    out[:, :, 2:-2, 2:-2] = (torch.rand_like(x) < x).to(x)
    return out


def test_binarised_images():
    check.binarise(lambda x: torch.bernoulli(padded(x)))
    check.binarise(filled)
    check.binarise(lambda x: padded(dist.Bernoulli(probs=x).sample()))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: padded(x).round(), "rounded"),
        (lambda x: padded((x > 0.5).to(x)), "rounded"),
        (padded, "not binary"),
        (torch.bernoulli, "expected was"),
        (lambda x: torch.bernoulli(nn.functional.pad(x, (4, 0, 4, 0))), "border"),
        (lambda x: padded(1 - torch.bernoulli(x)), "exchanged"),
        (lambda x: torch.bernoulli(padded(x) + 0.1 * (padded(x) == 0)), "border"),
        (lambda x: padded(torch.bernoulli(x.sqrt())), "share of ones"),
        (lambda x: padded(torch.bernoulli(x[:2]).repeat(200, 1, 1, 1)), "equal"),
        (lambda x: padded(torch.bernoulli(x.mul_(0.5))), "changes the images"),
    ],
)
def test_wrong_binarised_images(answer, words):
    with pytest.raises(check.Wrong, match=words):
        check.binarise(answer)


def test_counts():
    check.count_parameters(lambda m: sum(p.numel() for p in m.parameters()))
    check.count_parameters(lambda m: sum(math.prod(p.shape) for _, p in m.named_parameters()))
    check.count_parameters(lambda m: torch.nn.utils.parameters_to_vector(m.parameters()).numel())
    check.count_convolutions(lambda m: sum(isinstance(p, nn.Conv2d) for p in m.modules()))
    check.count_convolutions(lambda m: len([1 for p in m.modules() if "Conv2d" in repr(type(p))]))
    check.count_convolutions(lambda m: sum(type(p) is nn.Conv2d for _, p in m.named_modules()))


def nested(m):
    return isinstance(m, nn.Conv2d) + sum(nested(part) for part in m.children())


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("count_parameters", lambda m: len(list(m.parameters())), "numel"),
        ("count_parameters", lambda m: sum(v.numel() for v in m.state_dict().values()), "buffers"),
        (
            "count_parameters",
            lambda m: sum(p.numel() for p in m.parameters() if p.requires_grad),
            "frozen",
        ),
        ("count_parameters", lambda m: sum(len(p) for p in m.parameters()), "rows"),
        ("count_parameters", lambda m: "many", "whole number"),
        (
            "count_convolutions",
            lambda m: sum(isinstance(p, nn.Conv2d) for p in m.children()),
            "not children",
        ),
        ("count_convolutions", nested, "counts once"),
        ("count_convolutions", lambda m: len(list(m.modules())), "all modules"),
    ],
)
def test_wrong_counts(name, answer, words):
    with pytest.raises(check.Wrong, match=words):
        getattr(check, name)(answer)


class Pair:
    """A model and a guide as a student writes them, with one thing changed."""

    def __init__(self, **changed):
        self.changed = changed
        self.networks = {"decoder": nn.Linear(2, 5), "encoder": nn.Linear(5, 2)}
        for network in self.networks.values():
            network.to(torch.get_default_dtype())

    def of(self, key, default):
        return self.changed.get(key, default)

    def shown(self, name):
        if self.of("module", True):
            pyro.module(name, self.networks[name])

    def model(self, x):
        self.shown("decoder")
        with pyro.plate("data", self.of("rows", len(x))) if self.of("plate", True) else Nothing():
            prior = dist.Normal(torch.zeros(len(x), 2), self.of("prior", 1.0))
            z = pyro.sample("z", prior.to_event(self.of("z_event", 1)))
            p = dist.Normal(self.networks["decoder"](z), 1.0).to_event(self.of("x_event", 1))
            pyro.sample("x", p, obs=x if self.of("obs", True) else None)

    def guide(self, x):
        self.shown("encoder")
        with pyro.plate("data", len(x)):
            q = dist.Normal(self.networks["encoder"](x), 1.0).to_event(self.of("q_event", 1))
            pyro.sample(self.of("name", "z"), q)


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def test_a_right_pair_is_accepted():
    from guides import GUIDES
    from ppl_models import PPCA, Batch

    x = torch.randn(4, 5)
    check.pair(Pair().model, Pair().guide, x)
    one = Pair()
    check.pair(one.model, one.guide, x, trained="model")
    ppca = PPCA(5, 2)
    amortized = GUIDES["amortized"](ppca)
    check.pair(lambda x: ppca(Batch.of(x)), lambda x: amortized(Batch.of(x)), x)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"z_event": 0}, "to_event|raised"),
        ({"x_event": 0}, "to_event|raised"),
        ({"q_event": 0}, "to_event|raised"),
        ({"plate": False}, "in no plate"),
        ({"name": "latent"}, "whole contract"),
        ({"obs": False}, "sees no data"),
        ({"module": False}, "train none"),
        ({"prior": 2.0}, "prior of z"),
    ],
)
def test_wrong_pairs_are_named(changed, words):
    pair = Pair(**changed)
    with pytest.raises(check.Wrong, match=words):
        check.pair(pair.model, pair.guide, torch.randn(4, 5))

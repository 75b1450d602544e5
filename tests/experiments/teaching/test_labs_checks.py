"""Self-checks name every planted mistake, and say of other answers what is true of them."""

import contextlib
import functools
import math
import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.teaching import check
from experiments.teaching.examine import examine
from experiments.teaching.tasks import (
    averages,
    components,
    costs,
    counts,
    elbo,
    errors,
    gaussians,
    likelihoods,
    linear,
    posteriors,
)

MODULES = {
    "pca": components,
    "pca_encoder": linear,
    "pca_decoder": linear,
    "ppca_decoder": linear,
    "squared_error": errors,
    "ppca_cost": costs,
    "posterior": posteriors,
    "log_likelihood": likelihoods,
    "monte_carlo_likelihood": averages,
    "kl": gaussians,
    "reparametrise": gaussians,
    "elbo": elbo,
}


def task_of(name):
    """The task that a check hands to ``examine``."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULES[name], "examine", lambda task, answer: found.append(task))
        getattr(check, name)(None)
    return found[0]


TASKS = {name: task_of(name) for name in MODULES}
LISTED = [mistake for task in TASKS.values() for mistake in task.mistakes]


def with_mistake(task, mistake):
    """A right answer but for one part."""

    def answer(*arguments):
        value = mistake.formula(*arguments)
        if len(task.parts) == 1:
            return value
        parts = list(task.right[0](*arguments))
        parts[mistake.part] = value
        return tuple(parts)

    return answer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TASKS)
def test_every_listed_mistake_gets_its_hint_or_one_that_the_same_values_deserve(name, dtype):
    """Two mistakes may give equal values where exp underflows: the first one's hint is said.

    The root of a negative number makes the whole bound NaN, which no single mistake explains.
    """
    torch.set_default_dtype(dtype)
    task, other = TASKS[name], []
    for mistake in task.mistakes:
        with pytest.raises(check.Wrong) as caught:
            examine(task, with_mistake(task, mistake))
        if mistake.hint not in str(caught.value):
            other.append(mistake.hint)
            told = str(caught.value)
            only_nan = name == "elbo" and "It holds NaN" in told
            assert only_nan or any(m.hint in told for m in task.mistakes), told
    assert len(other) <= (8 if name == "monte_carlo_likelihood" else 4), other


def test_many_mistakes_are_listed():
    assert len(LISTED) >= 300
    assert all(len(mistake.hint) > 15 for mistake in LISTED)


def test_no_two_ways_to_count_give_the_same_number():
    for table in (counts.PARAMETERS, counts.CONVOLUTIONS):
        found = [mistake.formula(counts.example()) for mistake in table]
        assert len(set(found)) == len(found)


def test_a_finding_names_its_check():
    check.kl(right_kl)
    with pytest.raises(check.Wrong, match=r"^check\.kl: its sign is wrong"):
        check.kl(lambda m, s: -right_kl(m, s))


def right_kl(m, s):
    return 0.5 * (s.exp() + m**2 - 1 - s).sum(1)


def dense(x, W, mu, s):
    C = W @ W.T + s.exp() * torch.eye(len(W), dtype=W.dtype)
    return torch.logdet(C) + torch.einsum("nd,de,ne->n", x - mu, torch.inverse(C), x - mu).mean()


def drawn_elbo(x, m, v, e, f, s):
    """log p(x, z) - log q(z | x) at the draw."""
    z = m + torch.exp(0.5 * v) * e
    q, p = dist.Normal(m, torch.exp(0.5 * v)), dist.Normal(torch.zeros_like(z), 1.0)
    fit = dist.Normal(f(z), s.exp().sqrt()).log_prob(x).sum()
    return (p.log_prob(z).sum() - q.log_prob(z).sum() + fit) / len(x)


def log_likelihoods(x, z, decoder, s):
    return dist.Normal(decoder(z).unsqueeze(1), (s / 2).exp()).log_prob(x).sum(-1)


def roughly_normal(x, loc, scale):
    constant = math.log(2 * 3.142) / 2
    return -(((x - loc) / scale).square() / 2 + scale.log() + constant).sum(-1)


def half_detached(m, s):
    return 0.5 * (s.exp().detach() + m**2 - 1 - s).sum(1)


def by_entropy(p):
    """As the largest of all bounds; the entropy has no derivative where a share is 0."""
    q = p.softmax(0)
    return (q * p + torch.special.entr(q)).sum(0) - math.log(len(p))


def fragile(m, s):
    """Takes its logarithm of what may be negative."""
    return (0.5 * (s.exp() + m**2 - 1 - (-s.exp()).log())).sum(1)


WRITTEN = [  # as students write them: what is wrong, and a word of what has to be said
    ("kl", lambda m, s: right_kl(m, s).detach(), "no gradient flows"),
    ("kl", lambda m, s: torch.tensor(right_kl(m, s).numpy()), "no gradient flows"),
    ("monte_carlo_likelihood", by_entropy, "its gradient is NaN"),
    ("kl", half_detached, "its gradient is not"),
    ("kl", lambda m, s: None, "`return`"),
    ("kl", lambda m, s: "KL", "a tensor of torch and got a str"),
    ("kl", lambda m, s: (m, s), "expects 1 value"),
    ("kl", lambda m, s: right_kl(m, s).tolist(), "tolist()"),
    ("kl", lambda m, s: [*right_kl(m, s)], "torch.stack makes one tensor"),
    ("posterior", lambda x, W, mu, s: ([*(x - mu) @ W], W.T @ W), "torch.stack makes one"),
    ("kl", lambda m, s: right_kl(m, s) > 0, "true or false"),
    ("kl", lambda m, s: m @ s, "raised RuntimeError"),
    ("kl", lambda m, s: undefined, "raised NameError: name 'undefined' is not defined"),  # noqa: F821
    ("kl", lambda m, s: right_kl(m, s) / batch_size, "A misspelt name"),  # noqa: F821
    ("kl", lambda m, s: (m.half() @ s.T).sum(1), "different dtypes meet"),
    ("kl", lambda m, s: torch.sum(np.exp(s.numpy()), 1), "A NumPy array or number stands"),
    ("kl", lambda m, s: np.mean(m, axis=1), "NumPy's functions give"),
    ("kl", lambda m, s: dist.Normal(m, s, validate_args=True).entropy(), "variances are above 0"),
    ("kl", lambda m, s: dist.Normal(m, std=1.0).log_prob(m), "What is called there takes other"),
    ("kl", lambda m, s: m.sum(1, keep=True), "What is called there takes other"),
    ("kl", lambda m: m, "The function has to take the arguments"),
    ("kl", lambda m, s: 1.3 * right_kl(m, s), "1.3 times"),
    ("kl", lambda m, s: right_kl(m, s) + 2, "same constant, 2,"),
    ("kl", lambda m, s: right_kl(m, s) + m.sum(1), "It is right where mu = 0"),
    ("kl", lambda m, s: right_kl(m, s) + (s**2).sum(1), "It is right where log sigma^2 = 0"),
    ("kl", fragile, "NaN"),
    ("kl", right_kl(torch.zeros(2, 2), torch.zeros(2, 2)), "takes the function or network itself"),
    ("ppca_cost", lambda x, W, mu, s: dense(x, W, mu, s).item(), "no gradient flows"),
    ("ppca_cost", lambda x, W, mu, s: dense(x, W, mu, s.detach()), "its gradient is not"),
    ("ppca_cost", lambda x, W, mu, s: dense(x, W.T, mu, s), "if `W` were transposed"),
    ("ppca_cost", lambda x, W, mu, s: dense(x, W, mu, s) + (784 - len(mu)) * s, "784"),
    ("ppca_cost", lambda x, W, mu, s: dense(x, W, mu, s) + (W**2).sum(), "right where W = 0"),
    ("posterior", lambda x, W, mu, s: x @ W, "expects 2 value"),
    ("pca_encoder", lambda x, mean, V: ((x - mean) @ V).squeeze(), "squeeze?"),
    ("log_likelihood", lambda *a: log_likelihoods(*a).squeeze(), "squeeze?"),
    ("log_density", roughly_normal, "too rough (3.142)"),
    ("distances", lambda x, c: torch.stack([(x - c[k]).square().sum(1) for k in range(3)]), "3"),
    ("elbo", lambda x, m, v, e, *a: drawn_elbo(x, m, v, torch.randn_like(e), *a), "of its own"),
    ("elbo", lambda x, m, v, e, f, s: drawn_elbo(x, m.detach(), v, e, f, s), "gradient is not"),
    ("elbo", lambda x, m, v, e, f, s: drawn_elbo(x, m, v, e, f, s) + v.log().sum(), "holds NaN"),
    ("reparametrise", lambda m, s, e: m.add_((s / 2).exp() * e), "changes the tensor"),
    ("pca", lambda x, m: (x.mean(0), torch.eye(x.shape[1])[:, :1].to(x)), "shape"),
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


@pytest.mark.parametrize("name", ["draw_latents", "binarise", "count_parameters", "kl"])
def test_functions_that_fail_are_explained(name):
    def stub(*arguments):
        raise NotImplementedError("To be written: the body")

    with pytest.raises(NotImplementedError, match="To be written") as caught:
        getattr(check, name)(stub)
    assert caught.value._render_traceback_() == ["To be written: the body"]
    with pytest.raises(check.Wrong, match="raised TypeError"):
        getattr(check, name)(lambda: None)

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    def mute(*arguments):
        raise Mute

    with pytest.raises(check.Wrong, match="raised Mute"):
        getattr(check, name)(mute)


def test_the_line_of_a_student_that_fails_is_shown_and_none_of_the_check():
    def answer(m, s):
        return m @ s

    with pytest.raises(check.Wrong) as caught:
        check.kl(answer)
    assert "(in the line `return m @ s`)" in str(caught.value)
    assert "einsum" not in str(caught.value)


def test_answers_may_be_methods_objects_and_use_infinite_numbers():
    class Answer:
        def __call__(self, m, s):
            return self.twice(m, s)

        def twice(self, m, s):
            return 2 * right_kl(m, s).clamp(max=1e400)

    for answer in (Answer(), Answer().twice, functools.partial(Answer().twice)):
        with pytest.raises(check.Wrong, match="1/2 is missing"):
            check.kl(answer)

    def unset(m, s):
        return 0.9 * right_kl(m, s).clamp(max=1e400) if m.numel() else later

    with pytest.raises(check.Wrong, match=r"0\.9 times"):
        check.kl(unset)
    later = 1


def test_answers_may_hold_integers_that_no_float_can():
    source = f"lambda m, s: 0.9 * right_kl(m, s) if m.numel() < {10**309} else m"
    with pytest.raises(check.Wrong, match=r"0\.9 times"):
        check.kl(eval(source))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_answers_may_be_computed_on_a_gpu():
    check.kl(lambda m, s: right_kl(m.cuda(), s.cuda()))
    check.slope(lambda f, x: torch.func.grad(lambda x: f(x).sum())(x.cuda()))
    check.draw_latents(lambda n, m, T: T * torch.randn(n, m, device="cuda"))
    with pytest.raises(check.Wrong, match="1/2 is missing"):
        check.kl(lambda m, s: 2 * right_kl(m.cuda(), s.cuda()))


def test_checks_leave_the_random_state_alone():
    before = torch.get_rng_state()
    check.kl(right_kl)
    check.elbo(drawn_elbo)
    check.count_parameters(numbers)
    assert torch.equal(before, torch.get_rng_state())


def test_a_notebook_shows_the_words_and_no_traceback():
    with pytest.raises(check.Wrong) as caught:
        check.kl(lambda m, s: -right_kl(m, s))
    (line,) = caught.value._render_traceback_()
    assert line.startswith("Not yet. check.kl: its sign is wrong")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n, m, T: torch.randn(n, m), "does nothing"),
        (lambda n, m, T: T**0.5 * torch.randn(n, m), "as variance"),
        (lambda n, m, T: T**2 * torch.randn(n, m), r"T\^2 is used"),
        (lambda n, m, T: torch.randn(n, m) / T, "divided"),
        (lambda n, m, T: T + torch.randn(n, m), "mean"),
        (
            lambda n, m, T: T * torch.randn(n, m) + torch.tensor([-0.4, 0.2, 0.2]),
            r"the mean of a latent.s draws is -0\.(39|4)",
        ),
        (lambda n, m, T: T * (torch.rand(n, m) - 0.5) * 12**0.5, "not normal"),
        (lambda n, m, T: T * torch.randn(m, n), "expected was"),
        (lambda n, m, T: T * torch.randn(n, 1).expand(n, m), "same draw"),
        (lambda n, m, T: 0.7 * T * torch.randn(n, m), "standard deviation is"),
    ],
)
def test_wrong_draws_of_latents(answer, words):
    with pytest.raises(check.Wrong, match=words):
        check.draw_latents(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x.round(), "rounded"),
        (lambda x: (x > 0.5).to(x), "rounded"),
        (lambda x: x, "not binary"),
        (lambda x: nn.functional.pad(x, (2, 2, 2, 2)), "expected was"),
        (lambda x: 1 - torch.bernoulli(x), "exchanged"),
        (lambda x: torch.bernoulli(x.sqrt()), "share of ones"),
        (lambda x: torch.bernoulli(x[:2]).repeat(200, 1, 1, 1), "equal"),
        (lambda x: torch.bernoulli(x.mul_(0.5)), "changes the images"),
    ],
)
def test_wrong_binarised_images(answer, words):
    with pytest.raises(check.Wrong, match=words):
        check.binarise(answer)


def test_a_layer_may_start_at_zero_and_stays_there():
    network = nn.Sequential(nn.Linear(2, 400), nn.ReLU(), nn.Linear(400, 5))
    nn.init.zeros_(network[2].weight)
    check.decoder(network, 5, 2)
    with pytest.raises(check.Wrong, match="the lab's has 300"):
        check.decoder(network, 5, 2, 300)
    assert not network[2].weight.any()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    with pytest.raises(check.Wrong, match="all its parameters are zero"):
        check.decoder(network, 5, 2)


def numbers(m):
    return sum(p.numel() for p in m.parameters())


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
        ("count_parameters", lambda m: numbers(m) + 0.5, "whole number"),
        ("count_parameters", lambda m: float("inf"), "whole number"),
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
            z = pyro.sample(self.of("latent", "z"), prior.to_event(self.of("z_event", 1)))
            mean = self.of("mean", lambda network, z: network(z))(self.networks["decoder"], z)
            p = dist.Normal(mean, self.of("sigma", 0.1))
            p = p.to_event(self.of("x_event", 1))
            pyro.sample("x", p, obs=self.of("obs", lambda x: x)(x))

    def guide(self, x):
        self.shown("encoder")
        with pyro.plate("data", len(x)):
            mean = self.of("q_mean", self.networks["encoder"])(x)
            q = dist.Normal(mean, self.of("q_scale", 1.0)).to_event(self.of("q_event", 1))
            pyro.sample(self.of("name", self.of("latent", "z")), q)


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
    check.pair(one.model, one.guide, x, trained="model", sigma=0.1)
    ppca = PPCA(5, 2)
    amortized = GUIDES["amortized"](ppca)
    check.pair(lambda x: ppca(Batch.of(x)), lambda x: amortized(Batch.of(x)), x)


def test_a_guide_that_has_to_be_the_prior_is_compared_with_it():
    x, options = torch.randn(4, 5), {"trained": "model", "guide_is_prior": True}
    one = Pair(q_mean=lambda x: torch.zeros(len(x), 2))
    check.pair(one.model, one.guide, x, **options)
    for other in (Pair(), Pair(q_mean=lambda x: torch.zeros(len(x), 2), q_scale=2.0)):
        check.pair(other.model, other.guide, x, trained="model")
        with pytest.raises(check.Wrong, match=r"in the guide is not N\(0, I\)"):
            check.pair(other.model, other.guide, x, **options)


def test_each_program_may_show_the_parameters_of_both():
    one = Pair()
    whole = nn.ModuleDict(one.networks)
    one.shown = lambda name: pyro.module("whole", whole)
    check.pair(one.model, one.guide, torch.randn(4, 5))


def test_a_pair_may_have_parameters_that_are_unused_or_frozen():
    one, other = Pair(mean=lambda network, z: z @ network.weight.mT), Pair()
    decoder = one.networks["decoder"]
    before = decoder.bias.clone()
    check.pair(one.model, one.guide, torch.randn(4, 5))
    assert torch.equal(decoder.bias, before)
    other.networks["decoder"].eval().bias.requires_grad_(False)
    check.pair(other.model, other.guide, torch.randn(4, 5))


def test_a_pair_may_record_deterministic_sites():
    one = Pair()

    def guide(x):
        pyro.deterministic("norm", x.norm())
        one.guide(x)

    check.pair(one.model, guide, torch.randn(4, 5))


@pytest.mark.parametrize("detached", [False, True])
def test_a_guide_may_be_a_flow_whose_mean_is_unknown(detached):
    one, bent = Pair(), dist.transforms.Planar(2).requires_grad_(False)

    def guide(x):
        one.shown("encoder")
        mean = one.networks["encoder"](x)
        base = dist.Normal(mean.detach() if detached else mean, 1.0).to_event(1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(base, [bent]))

    wrong = pytest.raises(check.Wrong, match="no gradient flows")
    with wrong if detached else contextlib.nullcontext():
        check.pair(one.model, guide, torch.randn(4, 5))


def test_a_model_without_latents_is_named():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(5), 0.1).to_event(1), obs=x)

    with pytest.raises(check.Wrong, match="draws no latents"):
        check.pair(model, lambda x: x, torch.randn(4, 5))


def test_a_prior_and_images_in_double_precision_are_compared_in_float32():
    torch.set_default_dtype(torch.float32)
    x, wide = torch.randn(4, 5), torch.ones(2, dtype=torch.float64)
    right, wrong = Pair(prior=wide, obs=lambda x: x.double()), Pair(prior=2 * wide)
    check.pair(right.model, right.guide, x, trained="guide")  # p alone would draw a double z
    with pytest.raises(check.Wrong, match="prior of z"):
        check.pair(wrong.model, wrong.guide, x)


def bias_cut_off(network, z):
    return z @ network.weight.mT + network.bias.detach()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"z_event": 0}, "to_event|raised"),
        ({"x_event": 0}, "to_event|raised"),
        ({"q_event": 0}, "to_event|raised"),
        ({"plate": False}, "in no plate"),
        ({"name": "latent"}, "whole contract"),
        ({"obs": lambda x: None}, "sees no data"),
        ({"obs": lambda x: x.numpy()}, "observes at .x. is not x"),
        ({"obs": lambda x: x + 1}, "observes at .x. is not x"),
        ({"module": False}, "train none"),
        ({"prior": 2.0}, "prior of z"),
        ({"latent": "hidden", "prior": 2.0}, "call them z"),
        ({"sigma": 0.1**2}, "standard deviation of x"),
        ({"mean": bias_cut_off}, r"reaches decoder\.bias, although it is used"),
    ],
)
def test_wrong_pairs_are_named(changed, words):
    pair = Pair(**changed)
    with pytest.raises(check.Wrong, match=words):
        check.pair(pair.model, pair.guide, torch.randn(4, 5), sigma=0.1)

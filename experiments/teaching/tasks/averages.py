"""The check of the average over draws of the prior (lab 3)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.examine import examine
from experiments.teaching.inputs import images
from experiments.teaching.rubric import Probe, Task, hinted, with_name

UNDERFLOW = (
    "exp underflows: log p(x | z) of an image is hundreds or thousands of nats below zero. Take "
    "the largest out first, as torch.logsumexp does."
)


def log_mean(log_p: Tensor) -> Tensor:
    return log_p.logsumexp(0) - math.log(len(log_p))


def case() -> tuple[Tensor]:
    """Draws and images that differ by more than the exponential of float32 or float64 can hold."""
    K, B = 6 + int(torch.randint(2, ())), images()
    log_p = 2 * torch.randn(K, B) - 2000
    far = torch.arange(K)[:, None] == K - 1, torch.arange(B)[None] >= B - 2
    most = math.log(torch.finfo(log_p.dtype).max)  # that exp can hold
    return (log_p - 10 * most * far[0] - 1000.0 * far[1],)


def around(log_p: Tensor, largest: Tensor) -> Tensor:
    """The average with something else taken out of the exponential than the largest."""
    return largest + (log_p - largest).exp().mean(0).log()


MISTAKES = hinted(
    (lambda p: p.exp().mean(0).log(), UNDERFLOW),
    (lambda p: p.exp().sum(0).log(), UNDERFLOW + " And a mean is a sum divided by K."),
    (lambda p: p.exp().mean(0), UNDERFLOW + " And the logarithm is missing."),
    (lambda p: p.exp().mean(1).log(), UNDERFLOW + " And draws are the first axis."),
    (lambda p: p.exp().mean().log(), UNDERFLOW + " And one value per image is expected."),
    lambda p: around(p, p.max()),
    "one maximum over the whole table is taken out: for other images exp underflows. Every "
    "image needs the largest of its own draws.",
    lambda p: around(p, p.min(0).values),
    lambda p: around(p, p.min()),
    lambda p: around(p, p.mean(0)),
    "what is taken out is not the largest, so that exp of others overflows.",
    lambda p: (p - p.max(0).values).exp().mean(0).log(),
    "the largest is taken out of the exponential and not put back afterwards.",
    lambda p: p.max(0).values + (p - p.max(0).values).exp().mean(0),
    "after the largest was taken out, the logarithm is missing.",
    (lambda p: p.logsumexp(0), "log K is forgotten: the sum over draws is no mean."),
    (lambda p: p.logsumexp(0) + math.log(len(p)), "log K has the wrong sign."),
    lambda p: p.logsumexp(0) - math.log2(len(p)),
    "log K is taken to base 2: it is the natural logarithm.",
    lambda p: p.logsumexp(0) - math.log10(len(p)),
    "log K is taken to base 10: it is the natural logarithm.",
    lambda p: p.logsumexp(0) / len(p),
    "the logarithm is divided by K: it is the sum inside the logarithm that is divided.",
    lambda p: p.logsumexp(0) - len(p),
    "K is subtracted: dividing inside the logarithm subtracts log K outside.",
    lambda p: p.logsumexp(0) / math.log(len(p)),
    "the result is divided by log K: dividing inside the logarithm subtracts outside.",
    (lambda p: p.mean(0), "this is the mean of the logarithms, not the logarithm of the mean."),
    lambda p: p.median(0).values,
    "this is the median of the logarithms, not the logarithm of the mean.",
    lambda p: p.mean(0) - math.log(len(p)),
    "this is the mean of the logarithms minus log K, not the logarithm of the mean.",
    lambda p: p.sum(0),
    lambda p: p.sum(0) - math.log(len(p)),
    "likelihoods are multiplied: average them over the draws.",
    (lambda p: p.max(0).values, "this is the best draw alone: average over the draws."),
    lambda p: p.max(0).values - math.log(len(p)),
    "this is the best draw's share of the mean: the other draws are left out.",
    (lambda p: p[0], "this is the first draw alone: average over the draws."),
    lambda p: p.softmax(0).log().logsumexp(0),
    "softmax normalises the draws of every image: what is left says nothing of p(x).",
    (lambda p: p.softmax(0), "softmax gives every draw's share, not their mean."),
    (lambda p: p.log_softmax(0), "log_softmax gives every draw's share, not their mean."),
    (lambda p: log_mean(p.mT), "the wrong axis: average over draws (the first), not over images."),
    lambda p: p.logsumexp(1),
    "the wrong axis: the sum goes over images. And a mean is a sum divided by K.",
    (lambda p: p.logsumexp(1) - math.log(len(p)), "the wrong axis: the sum goes over images."),
    lambda p: p.logsumexp(0) - math.log(p.shape[1]),
    "the number of images is subtracted, not the number of draws.",
    lambda p: p.logsumexp(0) - math.log(p.numel()),
    "it is divided by all entries of the table: by the number of draws alone.",
    lambda p: p.logsumexp(0) - math.log(len(p) - 1),
    "it is divided by K - 1: a mean of K numbers divides by K.",
    (lambda p: p.logsumexp(0) - 2 * math.log(len(p)), "it is divided by K twice."),
    lambda p: p.flatten().logsumexp(0) - math.log(p.numel()),
    "the images are averaged too: one value per image is expected.",
    (lambda p: -log_mean(p), "its sign is wrong."),
    (lambda p: log_mean(p).exp(), "this is p(x), not its logarithm."),
    *(
        (
            lambda p, small=small: (p.exp() + small).mean(0).log(),
            UNDERFLOW + " A small number added hides it: the result is that number's logarithm.",
        )
        for small in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-16, 1e-20, 1e-30)
    ),
)
PROBES = [
    Probe("there is one draw", lambda p: (p[:1],), "what becomes of several"),
    Probe("all draws are equal", lambda p: (p[:1].expand_as(p).clone(),), "how unequal draws add"),
    Probe(
        "all values are near 0",
        lambda p: (p[:-1, :-2] + 2000,),
        "what exp does to large negative numbers",
    ),
]
TASK = Task(
    "monte_carlo_likelihood",
    [log_mean],
    case,
    MISTAKES,
    (0,),
    shape="one value per image",
    tolerance=5e-6,
    probes=PROBES,
    sizes=lambda p: {"draws": len(p), "images": p.shape[1]},
)


@with_name
def monte_carlo_likelihood(answer: Callable[[Tensor], Tensor]) -> None:
    """Check ``answer(log_p)``: ``[K, B]`` values of log p(x | z_k) to log p(x), ``[B]`` [nats]."""
    examine(TASK, answer)

"""The check of the squared error (lab 1)."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.examine import examine
from experiments.teaching.inputs import images, pixels
from experiments.teaching.rubric import ONE_IMAGE, Probe, Task, Term, hinted, with_name, within

ROOT = "a square root was taken: the error is the squared distance."
OF_DIFFERENCES = hinted(
    lambda d: d.square().mean(),
    "this is the mean over pixels as well: sum over the pixels of an image, then average over "
    "images.",
    lambda d: d.square().sum(),
    "this is the sum over all images: sum over the pixels of an image, then average over images.",
    lambda d: d.square().sum(0).mean(),
    "the axes are exchanged: sum over pixels (the last axis), average over images.",
    (lambda d: d.square().sum(1), "one number per image is returned: average them."),
    lambda d: d.square().mean(1),
    "one number per image, averaged over pixels: sum over pixels, average over images.",
    lambda d: d.square().sum(0),
    "one number per pixel is returned: sum over pixels, average over images.",
    (lambda d: d.square(), "one number per pixel of every image is returned."),
    (lambda d: d.norm(dim=1).mean(), ROOT),
    (lambda d: d.norm(dim=1), ROOT + " And average over images."),
    (lambda d: d.norm(dim=1).sum(), ROOT + " And average over images."),
    (lambda d: d.square().sum(1).mean().sqrt(), ROOT),
    (lambda d: d.square().mean().sqrt(), ROOT + " And it is the sum over pixels."),
    (lambda d: d.norm(), ROOT + " And it is the average over images."),
    lambda d: d.abs().sum(1).mean(),
    lambda d: d.abs().mean(),
    lambda d: d.abs().sum(),
    "the differences are not squared: these are absolute values.",
    lambda d: d.sum(1).square().mean(),
    lambda d: d.mean(1).square().mean(),
    "square first, then sum: differences of opposite sign must not cancel.",
    lambda d: d.mean(0).square().sum(),
    "square first, then average: differences of opposite sign must not cancel.",
    (lambda d: d.sum(1).mean(), "the differences are not squared."),
    (lambda d: d.sum(), "the differences are not squared."),
    (lambda d: d.mean(), "the differences are not squared."),
    (lambda d: d.square().sum(1).mean() / 2, "there is no 1/2 in it."),
    (lambda d: -d.square().sum(1).mean(), "its sign is wrong: an error is not negative."),
    (lambda d: d.square().sum(1).mean() ** 2, "the error is squared twice."),
    (lambda d: d.square().square().sum(1).mean(), "the differences are squared twice."),
    (lambda d: d.abs().pow(3).sum(1).mean(), "the differences are cubed: square them."),
    (lambda d: d.square().sum(1).mean() / len(d), "it is divided by the number of images twice."),
    (lambda d: d.square().sum() / (len(d) - 1), "it is divided by N - 1: divide by N."),
    (lambda d: d.square().sum(1).max(), "this is the worst image's: average over images."),
    (lambda d: d.square().sum(1).median(), "this is the median over images: average over them."),
    (lambda d: d.square().sum(1)[0], "this is the first image's alone: average over images."),
    (lambda d: d.square().max(1).values.mean(), "only the worst pixel of an image counts: sum."),
    (lambda d: d.var(1).mean(), "this is a variance: the mean difference is subtracted."),
    (lambda d: d.var(0).sum(), "this is a variance: the mean difference is subtracted."),
)
TWO = hinted(
    (lambda x, y: (x * y).sum(1).mean(), "the two are multiplied: subtract, then square."),
    lambda x, y: torch.cdist(x, y).square().mean(),
    "every image is compared with every reconstruction: with its own alone.",
    lambda x, y: ((x - y).square().sum(1) / x.square().sum(1)).mean(),
    "it is divided by the squared length of the image.",
    lambda x, y: (x - y).square().sum() / x.square().sum(),
    "it is divided by the squared length of the images.",
)


@with_name
def squared_error(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(x, reconstructions)``: the sum over pixels, averaged over images."""

    def case() -> tuple[Tensor, Tensor]:
        B, D = images(), pixels()
        return torch.rand(B, D), torch.rand(B, D)

    task = Task(
        "squared_error",
        [lambda x, y: (x - y).square().sum(1).mean()],
        case,
        [*within(lambda f: lambda x, y: f(x - y), OF_DIFFERENCES), *TWO],
        shape="a single number",
        terms=[
            Term("the square of x", lambda x, y: x.square().sum(1).mean()),
            Term("the square of the reconstruction", lambda x, y: y.square().sum(1).mean()),
            Term("the product of the two", lambda x, y: -2 * (x * y).sum(1).mean()),
        ],
        probes=[
            Probe(ONE_IMAGE, lambda x, y: (x[:1], y[:1]), "how images are averaged"),
            Probe("D = 1", lambda x, y: (x[:, :1], y[:, :1]), "how pixels are summed"),
        ],
        sizes=lambda x, y: {"images": len(x), "pixels": x.shape[1]},
        plain=True,
    )
    examine(task, answer)

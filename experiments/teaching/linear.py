"""Checks of PCA, of linear decoders and of the squared error (labs 1, 2 and 4)."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.checking import Mistake, Task, recorded
from experiments.teaching.examining import examine
from ppl_models import PCA

__all__ = [
    "pca",
    "pca_decoder",
    "pca_encoder",
    "ppca_decoder",
    "squared_error",
]

Two = tuple[Tensor, Tensor]


def _planes(found: Two) -> Two:
    """A mean, and for every component the projection onto it: no sign is right or wrong."""
    mean, components = found
    return mean, torch.einsum("dk,ek->kde", components, components)


def _right_pca(x: Tensor, latent_dim: int) -> Two:
    right = PCA(x, latent_dim)
    return right.mean, right.components


def _svd(x: Tensor, latent_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(x, full_matrices=False)
    return U[:, :latent_dim], S[:latent_dim], Vh[:latent_dim].mT


PCA_MISTAKES: list[tuple[Callable[[Tensor, int], Two], str]] = [
    (
        lambda x, m: (x.mean(0), _svd(x, m)[2]),
        "the images are not centred before the decomposition: the first direction then points at "
        "the mean.",
    ),
    (
        lambda x, m: (x.mean(1), _right_pca(x, m)[1]),
        "the mean is taken over the wrong axis: it is an image, the average over all images.",
    ),
    (
        lambda x, m: (x.mean(), _right_pca(x, m)[1]),
        "the mean is a single number: it is an image, one average per pixel.",
    ),
    (
        lambda x, m: (x.mean(0), _right_pca(x, m)[1].mT),
        "the components are transposed: they are columns, [D, M] (torch's Vh has them as rows).",
    ),
    (
        lambda x, m: (x.mean(0), torch.linalg.svd(x - x.mean(0), full_matrices=False)[2][-m:].mT),
        "these are the directions of least variance (eigh sorts upwards, svd downwards).",
    ),
    (
        lambda x, m: (x.mean(0), torch.linalg.svd(x - x.mean(0))[2][:, :m]),
        "torch.linalg.svd returns Vh, whose rows are the directions: take rows, then transpose.",
    ),
    (
        lambda x, m: (x.mean(0), _svd(x - x.mean(0), m)[0]),
        "these are left singular vectors, one number per image: components have one per pixel.",
    ),
    (
        lambda x, m: (x.mean(0), _right_pca(x, m)[1] * _svd(x - x.mean(0), m)[1]),
        "the components are scaled by the singular values: directions have length one.",
    ),
    (
        lambda x, m: (x.mean(0), _svd((x - x.mean(0)) / x.std(0), m)[2]),
        "the pixels are divided by their standard deviations: the lab's PCA only centres.",
    ),
]


@recorded
def pca(answer: Callable[[Tensor, int], Two]) -> None:
    """Check ``answer(x, latent_dim)``: the mean ``[D]`` and the components ``[D, M]``."""

    def case() -> tuple[Tensor, int]:
        return torch.randn(12, 5) * torch.tensor([3.0, 2.2, 1.5, 0.9, 0.5]) + torch.randn(5), 2

    task = Task(
        "pca",
        [lambda x, m: _planes(_right_pca(x, m))],
        case,
        [Mistake(lambda x, m, f=f: _planes(f(x, m)), hint) for f, hint in PCA_MISTAKES],
        parts=("the mean", "the components"),
        shape="a row per pixel, a column per component",
    )
    examine(task, lambda x, m: _planes(answer(x, m)))


def _linear_case() -> tuple[Tensor, Tensor, Tensor]:
    rows = int(torch.randint(6, 10, ()))
    return torch.randn(rows, 5), torch.randn(5), torch.linalg.qr(torch.randn(5, 2))[0]


@recorded
def pca_encoder(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(x, mean, components)``: coordinates ``[B, M]``."""
    examine(
        Task(
            "pca_encoder",
            [lambda x, mean, V: (x - mean) @ V],
            _linear_case,
            [
                Mistake(
                    lambda x, mean, V: x @ V, "x is not centred: subtract the training mean first."
                ),
                Mistake(
                    lambda x, mean, V: (x - x.mean(0)) @ V,
                    "x is centred with its own mean: use the mean of the training images, or test "
                    "images are measured from another origin.",
                ),
                Mistake(
                    lambda x, mean, V: (x + mean) @ V, "the mean is added where it is subtracted."
                ),
                Mistake(
                    lambda x, mean, V: ((x - mean) @ V).mT, "the result is transposed: [B, M]."
                ),
            ],
            shape="one row per image",
        ),
        answer,
    )


@recorded
def pca_decoder(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(z, mean, components)``: images ``[B, D]``."""
    examine(_decoder_task("pca_decoder", lambda x, mean, V: (x @ V, mean, V)), answer)


@recorded
def ppca_decoder(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(z, W, mu)``: the means of p(x | z), ``[B, D]``."""
    task = _decoder_task("ppca_decoder", lambda x, mu, V: (x @ V, 2 * V, mu))
    swapped = [Mistake(lambda z, W, mu, f=m.formula: f(z, mu, W), m.hint) for m in task.mistakes]
    examine(
        task._replace(right=[lambda z, W, mu: z @ W.mT + mu], mistakes=swapped, trained=(1, 2)),
        answer,
    )


def _decoder_task(name: str, arguments: Callable[[Tensor, Tensor, Tensor], tuple]) -> Task:
    return Task(
        name,
        [lambda z, mean, V: z @ V.mT + mean],
        lambda: arguments(*_linear_case()),
        [
            Mistake(
                lambda z, mean, V: z @ V.mT,
                "the mean is missing: the origin of the latent space "
                "is the mean image, not a black one.",
            ),
            Mistake(
                lambda z, mean, V: z @ V.mT - mean, "the mean is subtracted where it is added."
            ),
            Mistake(lambda z, mean, V: (z @ V.mT + mean).mT, "the result is transposed: [B, D]."),
        ],
        shape="one row per image",
    )


def _squared_error_case() -> Two:
    rows = int(torch.randint(6, 10, ()))
    return torch.rand(rows, 5), torch.rand(rows, 5)


d = lambda x, y: x - y  # noqa: E731


SQUARED_ERROR = Task(
    "squared_error",
    [lambda x, y: d(x, y).square().sum(1).mean()],
    _squared_error_case,
    [
        Mistake(
            lambda x, y: d(x, y).square().mean(),
            "this is the mean over pixels as well: sum "
            "over the pixels of an image, then average over images.",
        ),
        Mistake(
            lambda x, y: d(x, y).square().sum(),
            "this is the sum over all images: sum over "
            "the pixels of an image, then average over images.",
        ),
        Mistake(
            lambda x, y: d(x, y).square().sum(0).mean(),
            "the axes are exchanged: sum over "
            "pixels (the last axis), average over images (the first).",
        ),
        Mistake(
            lambda x, y: d(x, y).square().sum(1),
            "one number per image is returned: average them.",
        ),
        Mistake(
            lambda x, y: d(x, y).norm(dim=1).mean(),
            "a square root was taken: the error is the squared distance.",
        ),
        Mistake(
            lambda x, y: d(x, y).square().sum(1).mean().sqrt(),
            "a square root was taken: the error is the squared distance.",
        ),
        Mistake(lambda x, y: d(x, y).abs().sum(1).mean(), "the differences are not squared."),
        Mistake(
            lambda x, y: d(x, y).sum(1).square().mean(),
            "square first, then sum: differences of opposite sign must not cancel.",
        ),
        Mistake(lambda x, y: d(x, y).square().sum(1).mean() / 2, "there is no 1/2 in it."),
    ],
    shape="a single number",
)


@recorded
def squared_error(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(x, reconstructions)``: the sum over pixels, averaged over images."""
    examine(SQUARED_ERROR, answer)

"""The check of PCA's mean and components (lab 1)."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.examine import examine
from experiments.teaching.inputs import latents
from experiments.teaching.rubric import Task, hinted, with_name
from ppl_models import PCA

Two = tuple[Tensor, Tensor]


def planes(components: Tensor) -> Tensor:
    """For every component the projection onto it: no sign is right or wrong."""
    if components.ndim != 2:
        return components
    return torch.einsum("dk,ek->kde", components, components)


def right_pca(x: Tensor, latent_dim: int) -> Two:
    right = PCA(x, latent_dim)
    return right.mean, right.components


def svd(x: Tensor, latent_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    U, S, Vh = torch.linalg.svd(x, full_matrices=False)
    return U[:, :latent_dim], S[:latent_dim], Vh[:latent_dim].mT


def centred(x: Tensor) -> Tensor:
    return x - x.mean(0)


MEANS = hinted(
    lambda x, m: x.mean(1),
    "the mean is taken over the wrong axis: it is an image, the average over all images.",
    (lambda x, m: x.mean(), "the mean is a single number: it is an image, one average per pixel."),
    (lambda x, m: x.sum(0), "the images are summed and not divided by their number."),
    (lambda x, m: x.median(0).values, "this is the median of every pixel, not the mean."),
    (lambda x, m: torch.zeros_like(x[0]), "the mean that is returned is 0: it is the images'."),
    (lambda x, m: x[0], "this is the first image, not the mean."),
    (lambda x, m: -x.mean(0), "the mean has the wrong sign."),
    (lambda x, m: x.mean(0, keepdim=True), "the mean has an axis too many: [D], without keepdim."),
    (lambda x, m: centred(x), "the centred images are returned in the place of the mean."),
)
COMPONENTS = hinted(
    lambda x, m: svd(x, m)[2],
    "the images are not centred before the decomposition: the first direction then points at "
    "the mean.",
    lambda x, m: svd(x - x.mean(), m)[2],
    "the images are centred with one number: every pixel has a mean of its own.",
    lambda x, m: svd(x - x.mean(1, keepdim=True), m)[2],
    "every image is centred with its own mean: subtract the mean over images, pixel by pixel.",
    lambda x, m: right_pca(x, m)[1].mT,
    lambda x, m: torch.linalg.svd(centred(x))[2][:m],
    "the components are transposed: they are columns, [D, M] (torch's Vh has them as rows).",
    lambda x, m: torch.linalg.svd(centred(x))[2][-m:].mT,
    lambda x, m: torch.linalg.svd(centred(x))[2][-m:].mT.flip(1),
    "these are the directions of least variance (eigh sorts upwards, svd downwards).",
    lambda x, m: right_pca(x, m)[1].flip(1),
    "the components are in the wrong order: the direction of largest variance comes first.",
    lambda x, m: torch.linalg.svd(centred(x))[2][:, :m],
    "torch.linalg.svd returns Vh, whose rows are the directions: take rows, then transpose.",
    lambda x, m: svd(centred(x), m)[0],
    "these are left singular vectors, one number per image: components have one per pixel.",
    lambda x, m: svd(centred(x), m)[0] * svd(centred(x), m)[1],
    "these are the encodings U S, one row per image: components have one number per pixel.",
    lambda x, m: right_pca(x, m)[1] * svd(centred(x), m)[1],
    "the components are scaled by the singular values: directions have length one.",
    lambda x, m: right_pca(x, m)[1] * svd(centred(x), m)[1] / (len(x) - 1) ** 0.5,
    lambda x, m: right_pca(x, m)[1] * svd(centred(x), m)[1] / len(x) ** 0.5,
    "the components are scaled by standard deviations: directions have length one.",
    lambda x, m: svd(centred(x) / x.std(0, correction=0), m)[2],
    lambda x, m: svd(centred(x) / x.std(0), m)[2],
    "the pixels are divided by their standard deviations: the lab's PCA only centres.",
    lambda x, m: svd(centred(x) / centred(x).norm(dim=1, keepdim=True), m)[2],
    "every image is scaled to length one: the lab's PCA only centres.",
    lambda x, m: torch.linalg.svd(centred(x))[2][1 : m + 1].mT,
    "the first component is left out: count from 0.",
    (lambda x, m: torch.linalg.svd(centred(x))[2].mT, "all components are returned: the first M."),
    (lambda x, m: right_pca(x, m - 1)[1], "one component is missing: the first M of them."),
    (lambda x, m: right_pca(x, m + 1)[1], "there is one component too many: the first M of them."),
    (lambda x, m: svd(centred(x), m)[1], "these are singular values: directions are wanted."),
)


@with_name
def pca(answer: Callable[[Tensor, int], Two]) -> None:
    """Check ``answer(x, latent_dim)``: the mean ``[D]`` and the components ``[D, M]``."""

    def case() -> tuple[Tensor, int]:
        D, latent_dim = 9 + int(torch.randint(2, ())), latents()
        scales = 3 * 0.75 ** torch.arange(float(D)).to(torch.get_default_dtype())
        return torch.randn(14, D) * scales + torch.randn(D), latent_dim

    task = Task(
        "pca",
        [right_pca],
        case,
        [*MEANS, *(mistake._replace(part=1) for mistake in COMPONENTS)],
        parts=("the mean", "the matrix of components"),
        shape="a mean per pixel; components with a row per pixel and a column per component",
        views=(lambda mean: mean, planes),
        sizes=lambda x, m: {"images": len(x), "pixels": x.shape[1], "latents": m},
    )
    examine(task, answer)

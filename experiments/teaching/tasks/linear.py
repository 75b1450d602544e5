"""Checks of linear encoders and decoders (labs 1 and 2)."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.examine import examine
from experiments.teaching.inputs import images, latents, pixels
from experiments.teaching.rubric import ONE_IMAGE, Probe, Task, Term, hinted, with_name, within

Linear = Callable[[Tensor, Tensor, Tensor], Tensor]


def linear_case() -> tuple[Tensor, Tensor, Tensor]:
    """Images, a mean, and orthonormal components."""
    D = pixels()
    return torch.randn(images(), D), torch.randn(D), torch.linalg.qr(torch.randn(D, latents()))[0]


ENCODERS = hinted(
    (lambda x, mean, V: x @ V, "x is not centred: subtract the training mean first."),
    lambda x, mean, V: (x - x.mean(0)) @ V,
    "x is centred with its own mean: use the mean of the training images, or test images are "
    "measured from another origin.",
    lambda x, mean, V: (mean - x) @ V,
    "the sign is wrong, and nothing else: what is subtracted from what?",
    (lambda x, mean, V: ((x - mean) @ V).mT, "the result is transposed: [B, M]."),
    (lambda x, mean, V: (x - mean.mean()) @ V, "one number is subtracted, not the mean image."),
    lambda x, mean, V: (x - x.mean(1, keepdim=True)) @ V,
    "every image is centred with its own average: subtract the mean image.",
    lambda x, mean, V: (x - mean) @ V @ V.mT,
    "this is the projection in image space, [B, D]: coordinates are wanted, [B, M].",
    lambda x, mean, V: (x - mean) @ V @ V.mT + mean,
    "this encodes and decodes, [B, D]: coordinates are wanted, [B, M].",
    lambda x, mean, V: x @ V - mean.mean(),
    lambda x, mean, V: x @ V - mean.sum(),
    "the mean image is not projected: subtract it from x.",
    lambda x, mean, V: (x - mean) @ V / ((x - mean) @ V).std(0),
    "the coordinates are standardised: they are lengths in image space.",
    lambda x, mean, V: (x - mean) @ V / (x - mean).norm(dim=1, keepdim=True),
    "every image is scaled to length one.",
    (lambda x, mean, V: ((x - mean) @ V).abs(), "the coordinates lost their signs (abs)."),
    (lambda x, mean, V: (x - mean) @ V[:, :2], "only the first two components are used."),
    (lambda x, mean, V: (x - mean) @ V.flip(1), "the components are in the wrong order."),
    (lambda x, mean, V: x - mean, "x is centred, and not projected on the components."),
)


@with_name
def pca_encoder(answer: Linear) -> None:
    """Check ``answer(x, mean, components)``: coordinates ``[B, M]``."""
    task = Task(
        "pca_encoder",
        [lambda x, mean, V: (x - mean) @ V],
        linear_case,
        ENCODERS,
        shape="one row per image, one column per component",
        terms=[
            Term("the projection of x", lambda x, mean, V: x @ V),
            Term("the projection of the mean", lambda x, mean, V: -(mean @ V)),
        ],
        probes=[
            Probe("the mean is 0", lambda x, mean, V: (x, 0 * mean, V), "how the mean enters"),
            Probe("M = 1", lambda x, mean, V: (x, mean, V[:, :1]), "how components enter"),
            Probe(ONE_IMAGE, lambda x, mean, V: (x[:1], mean, V), "the axis of images"),
        ],
        sizes=lambda x, mean, V: {"images": len(x), "pixels": len(V), "latents": V.shape[1]},
    )
    examine(task, answer)


DECODERS = hinted(
    lambda z, mean, V: z @ V.mT,
    "the mean is missing: the origin of the latent space is the mean image, not a black one.",
    (lambda z, mean, V: mean - z @ V.mT, "what the latents say is subtracted from the mean."),
    (lambda z, mean, V: z @ V.mT + 2 * mean, "the mean is added twice."),
    (lambda z, mean, V: z @ V.mT + mean.mean(), "one number is added, not the mean image."),
    lambda z, mean, V: (z @ V.mT + mean).clamp(0, 1),
    "the result is clipped to [0, 1] (clamp): a linear decoder is wanted.",
    lambda z, mean, V: (z @ V.mT + mean).clamp(min=0),
    "negative pixels are set to 0 (clamp, ReLU): a linear decoder is wanted.",
    lambda z, mean, V: torch.sigmoid(z @ V.mT + mean),
    lambda z, mean, V: torch.sigmoid(z @ V.mT) + mean,
    "a sigmoid is applied: a linear decoder is wanted.",
    lambda z, mean, V: torch.tanh(z @ V.mT + mean),
    "a tanh is applied: a linear decoder is wanted.",
    (lambda z, mean, V: mean.expand(len(z), -1), "the mean is returned for every z."),
    (lambda z, mean, V: z.flip(1) @ V.mT + mean, "the latents are in the wrong order."),
    (lambda z, mean, V: z[:, :2] @ V[:, :2].mT + mean, "only the first two latents are used."),
)


@with_name
def pca_decoder(answer: Linear) -> None:
    """Check ``answer(z, mean, components)``: images ``[B, D]``."""
    examine(_decoder_task("pca_decoder", lambda z, mean, V: (z, mean, V)), answer)


PSEUDO_INVERSE = hinted(
    lambda z, W, mu: z @ torch.linalg.pinv(W) + mu,
    "the pseudo-inverse of W stands for its transpose: that would be an encoder's.",
)


@with_name
def ppca_decoder(answer: Linear) -> None:
    """Check ``answer(z, W, mu)``: the means of p(x | z), ``[B, D]``."""
    task = _decoder_task("ppca_decoder", lambda z, W, mu: (z, mu, W), length=2.0)
    examine(task._replace(mistakes=[*task.mistakes, *PSEUDO_INVERSE], trained=(1, 2)), answer)


def _decoder_task(name: str, order: Callable[..., tuple], length: float = 1.0) -> Task:
    """The task of a linear decoder.

    Args:
        name: of the check.
        order: takes its arguments to latents, mean and matrix; its own inverse.
        length: of the matrix's columns.
    """

    def case() -> tuple:
        x, mean, V = linear_case()
        return order(x @ V, mean, length * V)

    def given(formula: Callable) -> Callable:
        return lambda *a: formula(*order(*a))

    return Task(
        name,
        [given(lambda z, mean, V: z @ V.mT + mean)],
        case,
        within(given, DECODERS),
        shape="one row per image, one column per pixel",
        terms=[
            Term("the mean", given(lambda z, mean, V: mean)),
            Term("what the latents add", given(lambda z, mean, V: z @ V.mT)),
        ],
        probes=[
            Probe("z = 0", given(lambda z, mean, V: order(0 * z, mean, V)), "how z enters"),
            Probe(
                "the mean is 0",
                given(lambda z, mean, V: order(z, 0 * mean, V)),
                "how the mean enters",
            ),
        ],
        sizes=given(
            lambda z, mean, V: {"images": len(z), "pixels": len(V), "latents": V.shape[1]}
        ),
    )

"""Checks of draws from the prior and of binarised images (labs 2 and 4)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.teaching.answers import asked
from experiments.teaching.behaviour import has_shape
from experiments.teaching.rubric import Wrong, said, with_name
from ppl_models.random_numbers import seeded

DRAWS = 20_000
SHAPE = 1, 26, 22
"""Of images that are binarised: no data set's."""
SEED = "it sets a seed of its own, so that every call gives the same draws: leave it out."


def distinct(name: str, answer: Callable[..., Tensor], *arguments: Any) -> tuple[Tensor, Tensor]:
    """Two draws of one call each, in the same stream of random numbers."""

    def draw() -> Any:
        return asked(name, answer, *(x.clone() if isinstance(x, Tensor) else x for x in arguments))

    with seeded():
        before = torch.get_rng_state()
        first = draw()
        drew = not torch.equal(before, torch.get_rng_state())
        second = draw()
    # without any draw nothing moves either, which has other causes
    both = isinstance(first, Tensor) and isinstance(second, Tensor)
    if drew and both and torch.equal(first, second):
        raise Wrong(SEED)
    return first, second


@with_name
def draw_latents(answer: Callable[[int, int, float], Tensor]) -> None:
    """Check ``answer(count, latent_dim, temperature)``: draws of N(0, T^2 I), ``[count, M]``."""
    z, again = distinct("draw_latents", answer, DRAWS, 3, 0.5)
    has_shape(z, [DRAWS, 3], "the result for count = 20000 and latent_dim = 3")
    if not z.is_floating_point():
        raise Wrong("the draws are whole numbers: a normal's are real.")
    if (z[:20] == z[0]).all() or (z[:20] == z[:20, :1]).all():
        raise Wrong("all rows or all columns are the same draw: draw each anew.")
    if (z >= 0).all():
        raise Wrong("no draw is negative, so these are not normal (rand, randn?).")
    means = z.mean(0)
    if means.abs().max() > 0.05:
        furthest = means[means.abs().argmax()]
        raise Wrong(
            f"the mean of a latent's draws is {furthest:.2g}, and must be 0 whatever the "
            "temperature, which scales the draws and does not shift them."
        )
    _spread(z.std(0))
    if z.abs().max() < 1.2:
        raise Wrong("such draws are not normal: none lies far out (rand, randn?).")
    correlation = torch.corrcoef(z.mT) - torch.eye(3).to(z)
    if correlation.abs().max() > 0.05:
        raise Wrong("the latents of an image are not independent of each other.")
    _shape_of_normal(z)
    if torch.equal(z, again):
        raise Wrong(SEED)
    with seeded():
        wide = asked("draw_latents", answer, DRAWS, 3, 2.0)
    if (wide.std(0) - 2).abs().max() > 0.08:
        raise Wrong(f"at T = 2 the standard deviation is {wide.std():.3g}, not 2.")
    said("draw_latents", "mean, standard deviation and independence of 20 000 draws")


def _spread(found: Tensor) -> None:
    """See that the standard deviation at T = 1/2 is 1/2."""
    for scale, words in (
        (1.0, "the temperature does nothing."),
        (0.5**0.5, "T is used as variance: z ~ N(0, T^2 I) has standard deviation T."),
        (0.25, "T^2 is used as standard deviation: z ~ N(0, T^2 I) has standard deviation T."),
        (2.0, "the draws are divided by T: a low temperature draws near the origin."),
        (1.6487, "exp(T) is used as standard deviation: T itself is."),
        (1.5, "1 is added to T: z ~ N(0, T^2 I) has standard deviation T."),
    ):
        if (found - scale).abs().max() < 0.02 * scale + 0.005:
            raise Wrong(words)
    if (found - 0.5).abs().max() > 0.02:
        raise Wrong(f"at T = 0.5 the standard deviation is {found.mean():.3g}: how does T enter?")


def _shape_of_normal(z: Tensor) -> None:
    """See that the fourth moment is a normal's, three times the squared variance."""
    fourth = (z.pow(4).mean(0) / z.square().mean(0).square()).mean()
    if abs(fourth - 3) > 0.3:
        raise Wrong(
            "mean and standard deviation are right, but the draws are not normal: too few or too "
            "many lie far out."
        )


@with_name
def binarise(answer: Callable[..., Tensor]) -> None:
    """Check ``answer(x)``: grey values ``[B, 1, h, w]`` in [0, 1] to Bernoulli draws."""
    with seeded():
        x = torch.rand(2, *SHAPE).repeat(200, 1, 1, 1)
    kept = x.clone()
    with seeded():
        asked("binarise", answer, x)
    if not torch.equal(x, kept):
        raise Wrong("it changes the images that it is given.")
    found, again = distinct("binarise", answer, x)
    has_shape(found, [400, *SHAPE], "the result")
    if not ((found == 0) | (found == 1)).all():
        raise Wrong("pixels are not binary: draw each from its Bernoulli.")
    if torch.equal(found, (x > 0.5).to(found)) or torch.equal(found, x.round().to(found)):
        raise Wrong(
            "pixels are rounded at a threshold: a pixel of 0.3 is one in three draws of ten, not "
            "in none."
        )
    if torch.equal(found, again):
        raise Wrong("two calls give the same result: is there a draw in it?")
    if not found.is_floating_point():
        kind = str(found.dtype).removeprefix("torch.")
        raise Wrong(f"the result is {kind}: networks take floating-point numbers.")
    _drawn_apart(answer, found)
    _frequencies(found, x)
    said("binarise", "shape, and the mean of 200 draws")


def _drawn_apart(answer: Callable[..., Tensor], found: Tensor) -> None:
    """See that every pixel of every image has a draw of its own."""
    with seeded():
        grey = asked("binarise", answer, torch.full((200, *SHAPE), 0.5)).double()
    for axes, words in (
        ((1, 2, 3), "all pixels of an image share one random number"),
        ((1, 3), "all pixels of a row share one random number"),
        ((1, 2), "all pixels of a column share one random number"),
    ):
        means = grey.mean(axes)
        if ((means == 0) | (means == 1)).all():
            raise Wrong(f"{words}: every pixel needs a draw of its own.")
    if torch.equal(found[0], found[2]):
        raise Wrong("two equal images get the same draws: draw for every image.")
    if grey.mean((1, 2, 3)).var() > 4 * 0.25 / grey[0].numel():
        raise Wrong("the pixels of an image are not drawn independently.")


def _frequencies(found: Tensor, x: Tensor) -> None:
    """See that a pixel is one as often as its grey value says."""
    means = torch.stack([found[0::2].mean(0), found[1::2].mean(0)]).to(x)
    if (means - (1 - x[:2])).abs().mean() < 0.1:
        raise Wrong("ones and zeros are exchanged.")
    if (means - 0.5).abs().max() < 0.2:
        raise Wrong("every pixel is one in half of the draws: where is x?")
    normal = 0.5 * (1 + torch.erf(x[:2] / 2**0.5))
    if (means - normal).abs().mean() < 0.04:
        raise Wrong(
            "pixels are compared with normal draws (randn): the share of ones is the grey value "
            "if the draws are uniform."
        )
    variance = (x[:2] * (1 - x[:2])).mean() / (len(found) / 2)
    if (means - x[:2]).square().mean() > 1.5 * variance:
        raise Wrong("the share of ones is not the pixel's grey value.")

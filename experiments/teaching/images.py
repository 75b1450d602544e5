"""Checks of draws from the prior, of binarised images and of counts (labs 2 and 4)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiments.teaching.checking import Wrong, asked, recorded, said, seeded

__all__ = ["binarise", "count_convolutions", "count_parameters", "draw_latents"]

DRAWS = 20_000
Count = Callable[[nn.Module], int]


@recorded
def draw_latents(answer: Callable[[int, int, float], Tensor]) -> None:
    """Check ``answer(count, latent_dim, temperature)``: draws of N(0, T^2 I), ``[count, M]``.

    Raises:
        Wrong: With a hint.
    """
    name = "draw_latents"
    with seeded():
        z = asked(name, answer, DRAWS, 3, 0.5)
    if not isinstance(z, Tensor) or list(z.shape) != [DRAWS, 3]:
        shape = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise Wrong(f"check.{name}: {shape} was returned, expected was [count, latent_dim].")
    if z.mean(0).abs().max() > 0.05:
        raise Wrong(f"check.{name}: the mean of the draws is not 0, whatever the temperature.")
    for scale, words in (
        (1.0, "the temperature does nothing."),
        (0.5**0.5, "T is used as variance: z ~ N(0, T^2 I) has standard deviation T."),
        (0.25, "T^2 is used as standard deviation: z ~ N(0, T^2 I) has standard deviation T."),
        (2.0, "the draws are divided by T: a low temperature draws near the origin."),
    ):
        if (z.std(0) - scale).abs().max() < 0.02 * scale + 0.005:
            raise Wrong(f"check.{name}: {words}")
    if (z.std(0) - 0.5).abs().max() > 0.02:
        raise Wrong(f"check.{name}: at T = 0.5 the standard deviation is {z.std():.3g}.")
    if z.abs().max() < 1.2:
        raise Wrong(f"check.{name}: such draws are not normal: none lies far out (rand, randn?).")
    correlation = torch.corrcoef(z.mT) - torch.eye(3, dtype=z.dtype)
    if correlation.abs().max() > 0.05:
        raise Wrong(f"check.{name}: the latents of an image are not independent of each other.")
    said(name, "mean, standard deviation and independence of 20 000 draws")


@recorded
def binarise(answer: Callable[[Tensor], Tensor]) -> None:
    """Check ``answer(x)``: ``[B, 1, 28, 28]`` in [0, 1] to Bernoulli draws ``[B, 1, 32, 32]``.

    Raises:
        Wrong: With a hint.
    """
    name = "binarise"
    with seeded():
        x = torch.rand(2, 1, 28, 28).repeat(200, 1, 1, 1)
        kept, found = x.clone(), asked(name, answer, x)
    if not torch.equal(x, kept):
        raise Wrong(f"check.{name}: it changes the images that it is given.")
    if not isinstance(found, Tensor) or list(found.shape) != [400, 1, 32, 32]:
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise Wrong(
            f"check.{name}: the result is {shape}, expected was [B, 1, 32, 32]: 2 zeros "
            "on every side (of the last two axes)."
        )
    inner = found[..., 2:-2, 2:-2]
    if not ((found == 0) | (found == 1)).all():
        raise Wrong(f"check.{name}: pixels are not binary: draw each from its Bernoulli.")
    if torch.equal(inner, (x > 0.5).to(inner)) or torch.equal(inner, x.round().to(inner)):
        raise Wrong(
            f"check.{name}: pixels are rounded: a pixel of 0.3 is one in three draws of "
            "ten, not in none."
        )
    if found.sum() != inner.sum():
        raise Wrong(f"check.{name}: the border is not zero, or it is not 2 pixels on every side.")
    means = torch.stack([inner[0::2].mean(0), inner[1::2].mean(0)]).to(x)
    if torch.equal(inner[0], inner[2]):
        raise Wrong(f"check.{name}: two draws of the same image are equal: are they draws?")
    if (means - (1 - x[:2])).abs().mean() < 0.1:
        raise Wrong(f"check.{name}: ones and zeros are exchanged.")
    if (means - x[:2]).abs().max() > 0.2:
        raise Wrong(f"check.{name}: the share of ones is not the pixel's grey value.")
    said(name, "shape, border, and the mean of 200 draws")


def _example() -> nn.Module:
    """Convolutions at several depths, one of them shared, buffers, a frozen parameter."""
    shared = nn.Conv2d(3, 3, 1)
    block = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Sequential(shared, nn.ReLU()))
    first = nn.Conv2d(1, 3, 3, bias=False).requires_grad_(False)
    return nn.Sequential(first, block, shared, nn.Linear(4, 2))


@recorded
def count_parameters(answer: Count) -> None:
    """Check ``answer(module)``: how many numbers a module's parameters hold.

    Raises:
        Wrong: With a hint.
    """
    module = _example()
    p = list(module.parameters())
    stored = sum(x.numel() for x in module.state_dict().values())
    trained = sum(x.numel() for x in p if x.requires_grad)
    weights = sum(x.numel() for name, x in module.named_parameters() if "weight" in name)
    _count(
        "count_parameters",
        answer,
        module,
        sum(x.numel() for x in p),
        {
            len(p): "it counts tensors: count the numbers in them (numel).",
            stored: "buffers (a batch norm's running statistics) or shared layers are counted "
            "too: they are in state_dict, but no parameters of their own.",
            trained: "frozen parameters are left out: they are parameters all the same.",
            sum(len(x) for x in p): "it counts rows (len): count all numbers (numel).",
            next(module.parameters()).numel(): "it counts the first layer alone.",
            weights: "biases are left out.",
        },
    )


@recorded
def count_convolutions(answer: Count) -> None:
    """Check ``answer(module)``: how many convolutional layers it has, at any depth.

    Raises:
        Wrong: With a hint.
    """
    module = _example()
    _count(
        "count_convolutions",
        answer,
        module,
        3,
        {
            1: "only one was found: layers inside layers have to be looked into (modules, not "
            "children).",
            2: "only the outermost ones were found: layers inside layers have to be looked into "
            "(modules, not children).",
            4: "a layer that is used in two places counts once.",
            len(list(module.modules())): "all modules are counted: only nn.Conv2d.",
            len(
                [m for m in module.modules() if hasattr(m, "weight")]
            ): "other layers with weights are counted too: only nn.Conv2d (isinstance).",
        },
    )


def _count(name: str, answer: Count, module: nn.Module, right: int, wrong: dict[int, str]) -> None:
    found = asked(name, answer, module)
    try:
        number = int(found)
    except (TypeError, ValueError) as error:
        kind = type(found).__name__
        raise Wrong(f"check.{name}: a whole number is expected, not a {kind}.") from error
    if number != right:
        words = wrong.get(number, "the number is wrong.")
        raise Wrong(f"check.{name}: {words}")
    said(name, "on a small network")

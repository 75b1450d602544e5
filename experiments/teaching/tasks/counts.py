"""Checks of counted parameters and convolutions (lab 4)."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from experiments.teaching.answers import asked
from experiments.teaching.rubric import Mistake, Wrong, hinted, said, with_name
from ppl_models.random_numbers import seeded

Count = Callable[[nn.Module], int]


class Named(nn.Conv2d):
    """A convolution under another name: it is an nn.Conv2d all the same."""


@seeded()
def example() -> nn.Module:
    """Layers of many kinds, such that no two of the ways to count give the same number."""
    shared = nn.Conv2d(3, 3, 1)
    flat = nn.Sequential(nn.Conv1d(3, 2, 5), nn.Conv1d(2, 2, 3))
    deepest = nn.Sequential(shared, nn.ReLU(), Named(3, 3, 3), flat)
    block = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), deepest)
    first = nn.Conv2d(1, 3, 3, bias=False).requires_grad_(False)
    up = (nn.ConvTranspose2d(3, 3, 2) for _ in range(3))
    linear = (nn.Linear(4, 2) for _ in range(7))
    layers = nn.Sequential(first, block, shared, *up, *linear)
    for name, size in (("bend", 7), ("reweight", 11)):
        layers.register_parameter(name, nn.Parameter(torch.zeros(size, 1, 1, 1)))
    return layers


def numbers(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() for p in parameters)


def named(module: nn.Module, word: str, present: bool = True) -> Iterator[Tensor]:
    """Parameters whose name contains a word, or does not."""
    return (p for name, p in module.named_parameters() if (word in name) is present)


def kinds(module: nn.Module, *classes: type) -> int:
    """How many modules there are of these classes."""
    return sum(isinstance(m, classes) for m in module.modules())


PARAMETERS = hinted(
    (lambda m: len(list(m.parameters())), "it counts tensors: count the numbers in them (numel)."),
    lambda m: numbers(m.state_dict().values()),
    "buffers (a batch norm's running statistics) and shared layers' copies in state_dict are "
    "counted too: they are no parameters of their own.",
    lambda m: len(m.state_dict()),
    "it counts entries of state_dict: count the numbers in the parameters (numel).",
    lambda m: numbers(m.parameters()) + numbers(m.buffers()),
    "buffers (a batch norm's running statistics) are counted too: they are no parameters.",
    lambda m: numbers(p for _, p in m.named_parameters(remove_duplicate=False)),
    "a layer that is used in two places is counted twice.",
    lambda m: numbers(p for p in m.parameters() if p.requires_grad),
    "frozen parameters are left out: they are parameters all the same.",
    lambda m: sum(len(p) for p in m.parameters()),
    "it counts rows (len): count all numbers (numel).",
    (lambda m: sum(p.ndim for p in m.parameters()), "it counts axes: count all numbers (numel)."),
    lambda m: sum(sum(p.shape) for p in m.parameters()),
    "the sides of every tensor are added: multiply them (numel).",
    (lambda m: next(m.parameters()).numel(), "it counts the first tensor alone."),
    (lambda m: list(m.parameters())[-1].numel(), "it counts the last tensor alone."),
    lambda m: numbers(named(m, "weight")),
    "only tensors named weight are counted: biases and others are left out.",
    (lambda m: numbers(named(m, "bias", False)), "biases are left out."),
    (lambda m: numbers(named(m, "bias")), "only biases are counted."),
    lambda m: sum(numbers(part.parameters()) for part in m.modules()),
    "parameters of layers inside layers are counted several times: module.parameters() has all "
    "of them.",
    lambda m: sum(numbers(part.parameters()) for part in m.children()),
    "the outermost layers are added up: what two of them share counts twice, and the module's "
    "own parameters are left out.",
    lambda m: sum(numbers(part.parameters(recurse=False)) for part in m.children()),
    "only the outermost layers are looked into.",
    lambda m: numbers(m.parameters(recurse=False)),
    "only the module's own parameters are counted, not those of its layers.",
    lambda m: sum(p.numel() * p.element_size() for p in m.parameters()),
    "it counts bytes: count numbers.",
    (lambda m: len(list(m.modules())), "it counts modules: count the numbers in the parameters."),
    (lambda m: len(list(m.children())), "it counts layers: count the numbers in the parameters."),
    lambda m: numbers(p for p in m.parameters() if p.ndim > 1),
    "tensors with one axis (biases) are left out.",
)
CONVOLUTIONS = hinted(
    lambda m: sum(type(part) is nn.Conv2d for part in m.modules()),
    "a subclass of nn.Conv2d is left out, and the NVAE's convolutions are such: isinstance finds "
    "them.",
    lambda m: sum(isinstance(part, nn.Conv2d) for part in m.children()),
    "only the outermost ones were found: layers inside layers have to be looked into (modules, "
    "not children).",
    (lambda m: 1, "only one was found: layers inside layers have to be looked into."),
    lambda m: 0,
    "none was found: look at every layer, at all depths (modules), with isinstance.",
    lambda m: sum(
        isinstance(part, nn.Conv2d) for _, part in m.named_modules(remove_duplicate=False)
    ),
    "a layer that is used in two places counts once.",
    lambda m: sum("Conv" in type(part).__name__ for part in m.modules()),
    "layers are told by Conv in their names, which others have too, and not all nn.Conv2d: use "
    "isinstance.",
    (lambda m: len(list(m.modules())), "all modules are counted: only nn.Conv2d."),
    (lambda m: len(list(m.children())), "all outermost layers are counted: only nn.Conv2d."),
    lambda m: sum(hasattr(part, "weight") for part in m.modules()),
    "all layers with weights are counted: only nn.Conv2d (isinstance).",
    lambda m: len(list(named(m, "weight"))),
    "tensors named weight are counted, whatever their layer: only nn.Conv2d (isinstance).",
    lambda m: sum(p.ndim == 4 for p in m.parameters()),
    "parameters with four axes are counted: those of other layers are among them.",
    (lambda m: kinds(m, nn.Conv1d, nn.Conv2d), "nn.Conv1d is counted too."),
    lambda m: kinds(m, nn.Conv2d, nn.ConvTranspose2d),
    "transposed convolutions are counted too: only nn.Conv2d.",
    (lambda m: kinds(m, nn.Conv2d, nn.Linear), "linear layers are counted too: only nn.Conv2d."),
    lambda m: numbers(
        p for part in m.modules() if isinstance(part, nn.Conv2d) for p in part.parameters()
    ),
    "it counts parameters of convolutions: count the layers.",
    lambda m: sum(part.out_channels for part in m.modules() if isinstance(part, nn.Conv2d)),
    "it counts output channels: count layers.",
    (lambda m: len(list(m.parameters())), "it counts parameters: count layers."),
)


@with_name
def count_parameters(answer: Count) -> None:
    """Check ``answer(module)``: how many numbers a module's parameters hold."""
    _count("count_parameters", answer, numbers(example().parameters()), PARAMETERS)


@with_name
def count_convolutions(answer: Count) -> None:
    """Check ``answer(module)``: how many convolutional layers it has, at any depth."""
    _count("count_convolutions", answer, kinds(example(), nn.Conv2d), CONVOLUTIONS)


def _count(name: str, answer: Count, right: int, mistakes: list[Mistake]) -> None:
    module = example()
    before = [x.clone() for x in module.state_dict().values()]
    found = asked(name, answer, module)
    try:
        number = int(found)
        whole = bool(number == found)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        whole = False
    if not whole:
        kind = type(found).__name__
        raise Wrong(f"a whole number is expected, not a {kind} (sum, len?).")
    if number != right or isinstance(found, bool):
        hints = [m.hint for m in mistakes if m.formula(module) == number]
        words = [*hints, "the number is wrong on a network with nested and shared layers."][0]
        raise Wrong(words)
    after = list(module.state_dict().values())
    if not all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
        raise Wrong("it changes the network that it counts in.")
    said(name, "on a small network")

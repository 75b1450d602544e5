"""A model's decoder in a form for the page: affine layers, and a likelihood by name."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.errors import UsageError
from ppl_models.distributions.normals import PROBIT_MIXTURE
from ppl_models.likelihoods import LIKELIHOODS
from ppl_models.networks import ACTIVATIONS, ImageMLP
from ppl_models.ppca import PPCA
from ppl_models.program import same_story
from ppl_models.vae import VAE

HALF_MAX = torch.finfo(torch.float16).max


class Decoder(NamedTuple):
    """p(x | z), from z to a distribution of images.

    ``layers`` are weights ``[outputs, inputs]`` with biases ``[outputs]``, an activation between
    them; the last one gives ``number`` values per pixel, ``[number, D]``. ``constants`` are
    further parameters of the likelihood (log sigma, the terms of a mean).
    """

    layers: list[tuple[Tensor, Tensor]]
    activation: str
    likelihood: str
    number: int
    constants: dict[str, list[float]]

    @property
    def latent_dim(self) -> int:
        return self.layers[0][0].shape[1]

    def bytes_of(self, precision: str) -> int:
        """Size of the weights in the page, in base 64 [bytes]."""
        numbers = sum(part.numel() for layer in self.layers for part in layer)
        return -(-numbers * getattr(torch, precision).itemsize * 4 // 3)

    def fits(self, precision: str) -> bool:
        """Whether the weights fit into the number type."""
        most = max(part.abs().max().item() for layer in self.layers for part in layer)
        return precision == "float32" or most <= HALF_MAX


def decoder_of(model: nn.Module, name: str) -> Decoder:
    """The decoder of a model, if it is made of affine layers.

    Raises:
        UsageError: If it has no such decoder; the message lists the models that have.
    """
    if same_story(model, PPCA):
        layers = [(model.W.detach(), model.mu.detach())]
        constants = {"log_sigma": [model.log_sigma.item()]}
        return Decoder(layers, "relu", "gaussian", 1, constants)
    own = same_story(model, VAE)
    if isinstance(model, VAE) and own and isinstance(model.decoder, ImageMLP):
        return _of_vae(model, model.decoder)
    what = "its decoder is convolutional" if own else f"its model is '{name}'"
    raise UsageError(
        f"explore puts the decoder of PPCA, of a VAE with an mlp decoder (--network mlp), or "
        f"samples of an NVAE into a page; this run cannot be exported: {what}."
    )


def _of_vae(model: VAE, decoder: ImageMLP) -> Decoder:
    modules: list[Any] = list(decoder.mlp.layers)
    layers = [(part.weight.detach(), part.bias.detach()) for part in modules[::2]]
    kinds = {type(make()): name for name, make in ACTIVATIONS.items()}
    activation = kinds[type(modules[1])] if len(modules) > 1 else "relu"
    families = {family: name for name, family in LIKELIHOODS.items()}
    name = families[type(model.likelihood)]
    own: Any = getattr(model.likelihood, "log_sigma", None)
    constants = {} if own is None else {"log_sigma": own.detach().flatten().tolist()}
    if name == "logit_normal":  # whose mean is a sum over these
        weights, slopes = zip(*PROBIT_MIXTURE, strict=True)
        constants |= {"weights": list(weights), "slopes": list(slopes)}
    return Decoder(layers, activation, name, model.likelihood.parameters_per_pixel, constants)


def check_same(first: nn.Module, second: nn.Module, names: tuple[Any, Any]) -> None:
    """Refuse two runs whose models are not bit-identical."""
    ours, theirs = first.state_dict(), second.state_dict()
    shapes = [{name: value.shape for name, value in state.items()} for state in (ours, theirs)]
    advice = f"make the second one by refit {names[0]} --guide GUIDE"
    if type(first) is not type(second) or shapes[0] != shapes[1]:
        raise UsageError(f"{names[1]} has another decoder than {names[0]}: {advice}.")
    for name, value in ours.items():
        if not torch.equal(value, theirs[name]):
            most = (value - theirs[name]).abs().max().item()
            raise UsageError(
                f"{names[1]} has another decoder than {names[0]}: '{name}' differs by up to "
                f"{most:.2g}; {advice}."
            )

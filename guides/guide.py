"""The base classes of guides, which are built from a model and refer to it without owning it."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import nn

from ppl_models.batch import Batch
from ppl_models.program import Program
from ppl_models.sites import example, is_summed


class Guide(Program):
    """q(z | x), a program with the model's argument that samples the model's latents by name.

    Args:
        model: p(x, z); referred to, not owned.
    """

    objective: ClassVar[str] = "elbo"
    """Name of the objective that it is trained with by default."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple, so that it is not registered as a submodule

    @property
    def model(self) -> Any:
        """p(x, z)."""
        return self._model[0]

    def context(self, batch: Batch) -> torch.Tensor:
        """The encoder's input for a batch, ``[B, C]``.

        By default everything that is observed or given of a row, flat and side by side. Override
        it in a subclass to change the input.

        Raises:
            ValueError: If other entries are observed or given than when the guide was built.
        """
        parts, built = parts_of(batch), getattr(self, "_parts", None)
        if built not in (None, parts):
            known, found = (", ".join(map(repr, names)) for names in (built, parts))
            raise ValueError(
                f"{type(self).__name__} was built to read {known}, and this batch has {found}: "
                "show the model its data first (describe(model, data)), or override context."
            )
        return self.real(batch.flat())

    def real(self, values: torch.Tensor) -> torch.Tensor:
        """Values in the type of q's parameters, as networks take them."""
        like = next((p for p in self.parameters() if p.is_floating_point()), values)
        return values.to(like.dtype)

    @property
    def context_dim(self) -> int:
        """C, the number of encoder inputs per row."""
        batch = example(self.model)
        self._parts = parts_of(batch)
        return self.context(batch).shape[1]

    def features(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Everything that q computes from x, ``[B, ...]`` each.

        Raises:
            NotImplementedError: If q has no encoder.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encoder.")

    @contextmanager
    def given(self, features: Sequence[torch.Tensor]) -> Iterator[None]:
        """Inside, q uses these features instead of those computed from x."""
        self._given = tuple(features)
        try:
            yield
        finally:
            del self._given

    @contextmanager
    def pinned(self, batch: Batch) -> Iterator[None]:
        """Inside, q uses the present features of this batch at every call.

        A guide without an encoder is not changed.
        """
        try:
            features = [feature.detach() for feature in self.features(batch)]
        except NotImplementedError:
            yield
        else:
            with self.given(features):
                yield

    def seen(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The features that q uses: those set by ``given``, or those computed from x."""
        if not hasattr(self, "_given"):
            return self.features(batch)
        return repeated(self._given, batch.repeats)

    def like_model(self) -> None:
        """Move to the device and dtype of the model."""
        parts = itertools.chain(self.model.parameters(), self.model.buffers())
        like = next((part for part in parts if part.is_floating_point()), None)
        if like is not None:
            self.to(device=like.device, dtype=like.dtype)

    def for_data(self, size: int) -> Self:
        """The guide for a data set of ``size`` rows: itself, unless it has a row per datum."""
        return self


def parts_of(batch: Batch) -> tuple[str, ...]:
    """The names of all that is observed or given."""
    return (*(sorted(batch.x) if isinstance(batch.x, dict) else ("x",)), *sorted(batch.given))


def repeated(features: Sequence[torch.Tensor], times: int) -> tuple[torch.Tensor, ...]:
    """Features of all rows, ``[times * B, ...]``, from those of the rows that are repeated."""
    return tuple(feature.repeat(times, *(1,) * (feature.ndim - 1)) for feature in features)


class EffectGuide(Guide, GuideMessenger):
    """A guide that is an effect handler: it runs the model once, replacing priors by posteriors.

    ``get_traces`` returns the traces of the last run and drops them, so that a guide holds no
    graph between runs or when it is copied or saved.
    """

    def __init__(self, model: nn.Module) -> None:
        Guide.__init__(self, model)
        GuideMessenger.__init__(self, model)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.args_kwargs: tuple[tuple[Batch], dict] = (batch,), {}
        try:
            with self:
                self.model(batch)
        finally:
            del self.args_kwargs
        return {
            name: site["value"]
            for name, site in self.trace.iter_stochastic_nodes()
            if not site_is_subsample(site)
        }

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        prior = msg["infer"]["prior"] = msg["fn"]
        if is_summed(msg):
            return  # q does not sample it
        posterior = self.get_posterior(msg["name"], prior)
        if isinstance(posterior, torch.Tensor):
            posterior = dist.Delta(posterior, event_dim=prior.event_dim)
        # Pyro's own expands to the prior's shape, which may lack the particles of q
        shape = torch.broadcast_shapes(posterior.batch_shape, prior.batch_shape)
        msg["fn"] = posterior if posterior.batch_shape == shape else posterior.expand(shape)

    def get_traces(self) -> tuple[Trace, Trace]:
        model_trace, guide_trace = super().get_traces()
        for name in [n for n, site in guide_trace.nodes.items() if is_summed(site)]:
            guide_trace.remove_node(name)
        self.trace = Trace()
        return model_trace, guide_trace

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trace": Trace()}

    def get_posterior(self, name: str, prior: TorchDistributionMixin) -> TorchDistributionMixin:
        """q of the latent ``name``, given its prior in this run; a tensor stands for a point."""
        raise NotImplementedError

"""Guides side by side on the same images: one row each, and their paired differences."""

import math
import time
from typing import Any, NamedTuple, Self

from torch import Tensor

from experiments.data import Data
from experiments.evaluation.bounds import mean_and_error
from experiments.evaluation.metrics import draws_errors, measure
from experiments.evaluation.oracle import diagonal_gap, gap_in_closed_form
from experiments.inference.checks.rows import is_of_points
from experiments.inference.fit import fit
from experiments.inference.frozen import fit_rows
from experiments.inference.svi import SVI, Pair
from ppl_models.ppca import PPCA
from ppl_models.program import same_story


class Entry(NamedTuple):
    """A guide as named by the user."""

    label: str
    name: str
    options: dict[str, Any]

    @property
    def family(self) -> str | None:
        """``diagonal`` if q is a Gaussian with independent latents."""
        gaussian = self.name in ("mean_field", "amortized")
        return "diagonal" if gaussian and self.options.get("covariance") != "full" else None


class Row(NamedTuple):
    """What is measured of one guide: values of every image, and in ``own`` further figures."""

    entry: Entry
    decoder: str
    seed: int
    kind: str
    bound: Tensor
    evidence: Tensor | None
    draws_error: float | None
    own: dict[str, Any]

    @classmethod
    def measured(
        cls, entry: Entry, decoder: str, seed: int, svi: SVI, data: Data, config: Any
    ) -> Self:
        """Train a pair on ``data`` and measure it there."""
        model, guide = svi.model, svi.guide
        seconds = seconds_per_epoch(svi, data, seed, config)
        values = measure(model, guide, data, seed, config.particles, config.memory).values
        bound, kind = values["elbo"], "log_joint" if is_of_points(guide) else "elbo"
        if entry.name == "prior":
            bound, kind = values["iw_bound"], f"iw_bound ({config.particles})"
        exact = gap_in_closed_form(model, guide, data) if kind == "elbo" else None
        shared = "log_sum" in values
        error = values.get("squared_error")
        if error is not None and not error.isfinite().all():  # as of a Cauchy, which has no mean
            error = None
        return cls(
            entry,
            decoder,
            seed,
            kind,
            bound,
            values.get("log_evidence"),
            draws_errors(values, config.particles)["iw_bound_draws_se"] if shared else 0.0,
            {
                "exact_gap": None if exact is None else exact.mean().item(),
                "oracle_gap": diagonal_gap(model).item() if same_story(model, PPCA) else None,
                "squared_error": None if error is None else mean_and_error(error)[0],
                "seconds_per_epoch": seconds,
                "parameters": Pair(model, guide).number_of_parameters,
                "local_steps": getattr(guide, "local_steps", None),
            },
        )

    def figures(self, reference: Tensor | None) -> dict[str, Any]:
        """The row of the table; differences are paired with ``reference``, image by image.

        If images share draws, standard errors also have a part from the draws.
        """
        value, value_se = mean_and_error(self.bound)
        figures: dict[str, Any] = {
            "guide": self.entry.label,
            "family": self.entry.family,
            "decoder": self.decoder,
            "seed": self.seed,
            "bound": self.kind,
            "value": value,
            "value_se": self._error(value_se),
            **dict.fromkeys(("evidence", "gap", "gap_se", "minus_best", "minus_best_se")),
            **self.own,
        }
        if self.evidence is not None:
            figures["evidence"] = mean_and_error(self.evidence)[0]
        if self.kind != "log_joint":
            if self.evidence is not None:
                figures["gap"], gap_se = mean_and_error(self.evidence - self.bound)
                figures["gap_se"] = self._error(gap_se)
            if reference is not None:
                paired = mean_and_error(self.bound - reference)
                figures["minus_best"], figures["minus_best_se"] = paired
        return figures

    def _error(self, over_images: float) -> float | None:
        """A standard error over images and shared draws; of fewer than ten draws it is unknown."""
        return None if self.draws_error is None else math.hypot(over_images, self.draws_error)


def seconds_per_epoch(svi: SVI, data: Data, seed: int, config: Any) -> float | None:
    """Train a pair; wall time of one visit to every row, ``None`` if there is nothing to train."""
    began = time.perf_counter()
    if svi.local_optim and not any(p.requires_grad for p in svi.model.parameters()):
        steps = len(fit_rows(svi.model, svi.guide, data, svi.objective))
        return (time.perf_counter() - began) / steps
    epochs = sum(1 for _ in fit(svi, data, config.epochs, config.batch_size, seed=seed))
    return (time.perf_counter() - began) / epochs if epochs else None


def best(rows: list[Row], kind: str) -> Tensor | None:
    """The values of the guide with the highest bound of a kind, if others are to be paired."""
    bounds = [row.bound for row in rows if row.kind == kind != "log_joint"]
    return max(bounds, key=lambda bound: bound.mean().item()) if len(bounds) > 1 else None

"""The log-density of a program, as a function of its latents."""

from collections.abc import Callable, Collection
from typing import Any

import pyro
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from experiments.inference.checks.sites import sites_of, trace_of
from experiments.inference.handlers import At
from experiments.inference.summation import summed_out, unmasked
from experiments.inference.summed_runs import sums_of
from experiments.inference.traces import by_datum
from ppl_models.batch import Batch


def density(
    program: nn.Module, batch: Batch, sites: Collection[str] | None = None
) -> Callable[[dict[str, Tensor]], Tensor]:
    """The log-density of some sites, or all, at given latents, of every row [nats]."""
    sums = sums_of(program, batch)
    run = sums(program) if sums else program

    def needed(name: str, site: Any) -> bool:
        return bool(sums) or sites is None or name in sites

    def log_density(z: dict[str, Tensor]) -> Tensor:
        with poutine.block(), pyro.validation_enabled(False):
            trace = trace_of(At(z)(run), batch)
            (unmasked(trace) if sums else trace).compute_log_prob(needed)
        return total_density(summed_out(trace) if sums else trace, sites)

    return log_density


def total_density(trace: Trace, names: Collection[str] | None = None) -> Tensor:
    """Sum per row of the log-densities that some sites, or all, hold already [nats]."""
    sites = [site for site in sites_of(trace) if names is None or site["name"] in names]
    total: Any = sum(by_datum(site) / site["scale"] for site in sites)
    return total

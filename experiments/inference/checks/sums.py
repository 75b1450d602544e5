"""Whether a model takes all values of a latent at once, as summing over them requires."""

from typing import Any

from pyro import poutine
from pyro.poutine.trace_struct import Trace

from experiments.errors import said_by
from experiments.inference.checks.sites import densities, name_of, same_density, trace_of
from experiments.inference.summation import SumOut
from experiments.inference.summed_runs import values_of
from ppl_models.sites import evaluating, is_summed


def check_sums(model: Any, guide_trace: Trace, batch: Any, depth: int) -> None:
    """Check that a density at one value of the summed latents does not depend on the others."""

    def run(story: Any) -> dict[str, Any]:
        return densities(trace_of(poutine.replay(story, trace=guide_trace), batch))

    with evaluating(poutine.unwrap(model)):
        try:
            every = run(SumOut(depth)(model))
        except Exception as error:  # a shape error
            raise ValueError(
                f"{name_of(model)} does not take all values of a summed latent at once: they lie "
                f"along a dimension of their own, left of all plates ({said_by(error)[:150]})."
            ) from None
        last = {name: values_of(site)[-1] for name, site in every.items() if is_summed(site)}
        alone = run(poutine.condition(model, data=last))
    for name, site in every.items():
        table = site["log_prob"]
        while table.ndim > depth:
            table = table[-1]
        if not same_density(table, alone[name]["log_prob"]):
            raise ValueError(
                f"{name_of(model)} mixes the values of a summed latent: beside the others the "
                f"density of '{name}' changes. Values lie along a dimension left of all plates."
            )

"""Whether every row of a data set lies where the model's observations have a density."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from experiments.errors import UsageError
from experiments.inference.checks.masks import mask_of
from ppl_models.coordinates import bare, core, family, support_of
from ppl_models.sites import hidden_trace


@torch.no_grad()
def check_observations(model: Any, data: Any) -> None:
    """Refuse values outside the support of the distribution that observes them, in any row.

    The data are in the form that the model observes (``Data.like``). In a training run, only the
    rows of the first step are checked. Not checked: values that the model computes from
    ``batch.x``, sites with a mask or with ``validate_args=False``, and supports that vary from row
    to row.

    Raises:
        UsageError: With the first such row, the site and its distribution.
    """
    if data.kind != "grey":
        return
    few = next(data.batches(2))
    nodes = hidden_trace(model, few).nodes
    for name, x in _by_site(few.x).items():
        site = _observing(nodes, x)
        support = None if site is None else _fixed_support(site)
        if support is None:
            continue
        for batch in data.batches(max(1, 2**24 // data.data_dim)):
            x = _by_site(batch.x)[name].reshape(-1, *site["value"].shape[1:])
            outside = ~support.check(x).reshape(len(x), -1).all(1)
            if outside.any() and not _has_density(model, data.batch(batch.index[outside]), site):
                raise UsageError(
                    f"row {int(batch.index[outside][0])} of the {data.split} data lies outside "
                    f"the support of {family(site['fn'])} ({core(support)}), which observes "
                    f"'{site['name']}'."
                )


def _has_density(model: Any, rows: Any, site: Any) -> bool:
    """Whether a run on these rows has a density there: a support may be read off the batch, as a
    number of words is, and an angle may lie on another turn."""
    again = hidden_trace(model, rows).nodes[site["name"]]
    try:
        again["fn"].log_prob(again["value"])
    except ValueError:
        return False
    return True


def _by_site(x: Any) -> dict[str | None, Tensor]:
    return x if isinstance(x, dict) else {None: x}


def _observing(nodes: Any, x: Tensor) -> Any:
    """The site whose value is this array, row by row; None if there is none."""
    for site in nodes.values():
        if site["type"] == "sample" and site["is_observed"]:
            value = site["value"]
            same = isinstance(value, Tensor) and value.data_ptr() == x.data_ptr()
            if same and len(value) == len(x) and value.numel() == x.numel():
                return site
    return None


def _fixed_support(site: Any) -> Any:
    """The support of a site if it is the same for all rows, and less than everything."""
    if isinstance(mask_of(site), Tensor) or not bare(site["fn"])._validate_args:
        return None
    try:
        support = support_of(site["fn"])
    except NotImplementedError:
        return None
    inner = core(support)
    varies = any(isinstance(value, Tensor) for value in vars(inner).values())
    return None if varies or inner is constraints.real else support

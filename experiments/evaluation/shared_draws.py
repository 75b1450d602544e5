"""log p(x) from draws of the prior, decoded once and shared by all images.

Where q(z | x) = p(z) the draws do not depend on x, so K decoded points serve every image, and the
table of log p(x_n | z_k) is a few matrix products. The errors of the images are then correlated:
the standard error has a part from the draws in addition to that from the images.
"""

import itertools
import math
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from experiments.data import Data
from ppl_models.batch import Batch
from ppl_models.coordinates import CIRCULAR, bare, is_product
from ppl_models.parameters import own_parameters
from ppl_models.sites import check_plates

BLOCKS = 20
"""Number of independent blocks of draws, for their part of the standard error."""

CACHED_NUMBERS = 2**22
"""Number of values per tensor of a chunk; larger tensors do not fit into the cache."""


class SharedDraws(NamedTuple):
    """Sums over K shared draws for every image.

    ``log_sum`` ``[blocks, N]``: log sum_k p(x | z_k) over a block; ``log_square_sum`` ``[N]``: the
    same of the squares, over all draws; ``sum_log`` ``[blocks, N]``: sum_k log p(x | z_k) over a
    block [nats]; ``means``: self-normalised importance means of the latents,
    ``[N, *event_shape]`` each.
    """

    log_sum: Tensor
    log_square_sum: Tensor
    sum_log: Tensor
    means: dict[str, Tensor]


def is_independent(likelihood: Any) -> bool:
    """Whether a likelihood is a product of normals or Bernoullis over an event's entries.

    A subclass of these may have a density of its own.
    """
    return is_product(likelihood) and type(likelihood.base_dist) in (dist.Normal, dist.Bernoulli)


def log_prob_table(likelihood: Any, x: Tensor) -> Tensor:
    """log p(x_n | z_k) for every image and every draw, ``[N, K]`` [nats].

    Normal and Bernoulli pixels are exponential families, log p = T(x) . eta - A(eta): matrix
    products. Any other likelihood is evaluated pair by pair.

    Args:
        likelihood: p(x | z_k), batch shape ``[K]``.
        x: images ``[N, *event_shape]``.
    """
    base = likelihood.base_dist if is_independent(likelihood) else None
    if isinstance(base, dist.Normal):  # in float64, from the draws' mean: squares would cancel
        loc, scale = base.loc.flatten(1).double(), base.scale.flatten(1).double()
        origin = loc.mean(0)
        loc, x = loc - origin, x.flatten(1).double() - origin
        precision = scale.square().reciprocal()
        constant = (loc.square() * precision + (2 * math.pi / precision).log()).sum(1)
        return x @ (loc * precision).mT - 0.5 * (x.square() @ precision.mT + constant)
    if isinstance(base, dist.Bernoulli):
        logits, x = base.logits.flatten(1), x.flatten(1)
        return x @ F.logsigmoid(logits).mT + (1 - x) @ F.logsigmoid(-logits).mT
    return likelihood.log_prob(x.unsqueeze(1))


def numbers_per_image(model: Any, data: Data) -> int:
    """The size of the largest feature map of an image, which determines the memory."""
    given = data.data_dim * getattr(getattr(model, "likelihood", None), "parameters_per_pixel", 1)
    return max(given, getattr(model, "largest_map", 0))


def images_in_cache(model: Any, data: Data) -> int:
    """Number of images whose largest feature maps fit into the cache, at least one."""
    return max(1, CACHED_NUMBERS // numbers_per_image(model, data))


@torch.no_grad()
def shared_draws(model: nn.Module, data: Data, draws: int, most: int = 1000) -> SharedDraws:
    """Weight all images with ``draws`` points of the prior, at most ``most`` at a time."""
    device, in_cache = data.pixels.device, images_in_cache(model, data)
    pieces = [block_sizes(size, -(-size // most)) for size in block_sizes(draws)]
    with own_parameters(model):
        draw = poutine.trace(model).get_trace
        sizes = itertools.chain(*pieces)
        parts = [_weigh(draw(Batch.draw(size, device)), data, in_cache) for size in sizes]
    sums, averages, priors = zip(*parts, strict=True)
    log_sum, log_square_sum, sum_log = (torch.stack(rows) for rows in zip(*sums, strict=True))
    weights, means = log_sum.softmax(0), {}
    for name, prior in priors[0].items():
        average = torch.stack([part[name] for part in averages])
        mean = torch.einsum("pn,pn...->n...", weights.to(average), average)
        means[name] = from_average(mean, prior)
    blocks = [len(block) for block in pieces]
    return SharedDraws(
        torch.stack([block.logsumexp(0) for block in log_sum.split(blocks)]),
        log_square_sum.logsumexp(0),
        torch.stack([block.sum(0) for block in sum_log.split(blocks)]),
        means,
    )


def block_sizes(draws: int, blocks: int = BLOCKS) -> list[int]:
    """Number of draws in each block: as equal as possible, and none empty."""
    ends = [draws * block // blocks for block in range(blocks + 1)]
    return [end - begin for begin, end in itertools.pairwise(ends) if end > begin]


def _weigh(
    trace: poutine.Trace, data: Data, in_cache: int
) -> tuple[list[Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights of some of the draws for all images, averages of latents, and their priors."""
    likelihood, draws = trace.nodes["x"]["fn"], len(trace.nodes["x"]["value"])
    sites = prune_subsample_sites(trace).iter_stochastic_nodes()
    priors = {name: site["fn"] for name, site in sites if name != "x"}
    for name in (*priors, "x"):
        check_plates(name, trace.nodes[name])
    latents = {name: to_average(trace.nodes[name]["value"], q) for name, q in priors.items()}
    rows = 2000 if is_independent(likelihood) else max(1, in_cache // draws)
    columns: list[tuple[Tensor, ...]] = []
    for batch in data.batches(rows):
        log_w = log_prob_table(likelihood, batch.x)  # type: ignore[arg-type]
        weights = log_w.softmax(1)
        sums = log_w.logsumexp(1), (2 * log_w).logsumexp(1), log_w.sum(1)
        columns.append((*sums, *(torch.tensordot(weights.to(z), z, 1) for z in latents.values())))
    log_sum, squares, total, *means = (torch.cat(column) for column in zip(*columns, strict=True))
    return [log_sum, squares, total], dict(zip(latents, means, strict=True)), priors


def to_average(z: Tensor, q: Any) -> Tensor:
    """What is averaged over draws: of a class its indicators, of an angle its direction."""
    if isinstance(bare(q), CIRCULAR):
        return torch.stack([z.cos(), z.sin()], -1)
    if isinstance(bare(q), dist.Categorical):
        number = bare(q).logits.shape[-1]
        return F.one_hot(z.long(), number).to(torch.get_default_dtype())
    return z


def from_average(mean: Tensor, q: Any) -> Tensor:
    """A value of the latent from the average: the likeliest class, the angle of a direction."""
    if isinstance(bare(q), CIRCULAR):
        return torch.atan2(mean[..., 1], mean[..., 0])
    return mean.argmax(-1) if isinstance(bare(q), dist.Categorical) else mean


class Drawn(NamedTuple):
    """A latent's draws, particles first, ``[K, ..., B, ..., *event_shape]``, B's dimension, and q.

    A global latent has no such dimension, but may have plates of its own.
    """

    z: Tensor
    rows: int | None
    q: Any


def draws_in(guide_trace: poutine.Trace, particles: int) -> dict[str, Drawn]:
    """The draws of every latent in one run of several particles."""
    found = {}
    for name, site in guide_trace.iter_stochastic_nodes():
        dims = {frame.name: frame.dim for frame in site["cond_indep_stack"]}
        z, event_dim = site["value"], site["fn"].event_dim
        at = dims.pop("particles", None)
        if "data" not in dims:
            z = z.unsqueeze(0) if at is None else z.movedim(at - event_dim, 0)
            frames = (f for f in site["cond_indep_stack"] if f.name != "particles")
            sizes = [frame.size for frame in sorted(frames, key=lambda frame: frame.dim)]
            z = z.reshape(particles, *sizes, *site["fn"].event_shape)
            found[name] = Drawn(z, None, site["fn"])
            continue
        rows = dims["data"] - event_dim
        if at is None:  # particles follow each other among the rows
            at, z = dims["data"] - 1, z.unflatten(rows, (particles, -1))
        z = z.movedim(at - event_dim, 0)
        own = min(dims.values()) - event_dim  # left of it are dimensions of one
        found[name] = Drawn(z.reshape(particles, *z.shape[own:]), rows, site["fn"])
    return found


def importance_means(log_w: Tensor, runs: list[dict[str, Drawn]]) -> dict[str, Tensor]:
    """Self-normalised importance means of latents, from all draws and weights ``[K, B]``."""
    means, weights = {}, log_w.softmax(0)
    for name, drawn in runs[0].items():
        z = torch.cat([run[name].z for run in runs])
        shape = [1] * z.ndim
        assert drawn.rows is not None
        shape[0], shape[drawn.rows] = weights.shape
        values = to_average(z, drawn.q)
        weighted = values * weights.reshape(shape + [1] * (values.ndim - z.ndim))
        means[name] = from_average(weighted.sum(0), drawn.q)
    return means


def between_draws_error(log_sum: Tensor, sizes: list[int]) -> float | None:
    """Standard error of the mean bound over the choice of draws, by the jackknife over blocks.

    Args:
        log_sum: log of the summed weights of every block and image, ``[blocks, N]``.
        sizes: number of draws in every block.

    Returns:
        [nats per data point], or ``None`` below ten blocks.

    References:
        Efron & Stein (1981), the jackknife's estimate of a variance.
    """
    blocks = len(log_sum)
    if blocks < 10:
        return None
    others = ~torch.eye(blocks, dtype=torch.bool, device=log_sum.device)
    left_out = torch.stack(
        [
            log_sum[keep].logsumexp(0).double().mean() - math.log(sum(sizes) - size)
            for keep, size in zip(others, sizes, strict=True)
        ]
    )
    return math.sqrt((blocks - 1) * left_out.var(correction=0).item())

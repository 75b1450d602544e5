"""The mixture of top-down guides: its density is the average of its components' densities."""

import pytest
import torch

from experiments.evaluation.bounds import guide_means
from experiments.inference.density import density
from experiments.inference.objectives import ELBO
from guides import GUIDES
from ppl_models import Batch
from ppl_models.nvae import NVAE


def nvae(lean: bool) -> NVAE:
    torch.manual_seed(0)
    model = NVAE((1, 8, 8), (1, 2), 2, 4, blocks=1, cells_per_block=1, crop=0, lean=lean)
    return model.double()


def mixture_of(model: NVAE, components: int) -> torch.nn.Module:
    """A mixture whose components differ much more than at the start of training."""
    guide = GUIDES["top_down_mixture"](model, components, cells_per_block=1)
    for sampler in guide.samplers:
        for parameter in sampler.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return guide.eval()


def component(guide: torch.nn.Module, s: int) -> torch.nn.Module:
    """The ``top_down`` guide with a component's layers."""
    alone = GUIDES["top_down"](guide.model, cells_per_block=1).eval()
    alone.tower, alone.combines = guide.tower, guide.combines
    alone.samplers = torch.nn.ModuleList(sampler[s] for sampler in guide.samplers)
    return alone


def images(count: int = 4) -> Batch:
    torch.manual_seed(1)
    return Batch.of(torch.rand(count, 1, 8, 8, dtype=torch.float64).round())


def log_q(guide: torch.nn.Module, z: dict[str, torch.Tensor], batch: Batch) -> torch.Tensor:
    """log q(z | x) of every row."""
    return density(guide, batch)(z)


@pytest.mark.parametrize("lean", [False, True])
def test_its_density_is_the_mean_of_its_components_densities(lean):
    guide, batch = mixture_of(nvae(lean).eval(), 3), images()
    z = guide(batch)
    parts = torch.stack([log_q(component(guide, s), z, batch) for s in range(3)])
    assert (parts.max(0).values - parts.min(0).values > 1).all()
    want = parts.logsumexp(0) - torch.tensor(3.0, dtype=torch.float64).log()
    torch.testing.assert_close(log_q(guide, z, batch), want)


def test_every_row_is_drawn_under_one_component():
    model, batch = nvae(True).eval(), Batch.of(images(1).x.expand(400, -1, -1, -1))
    guide = mixture_of(model, 2)
    z = guide(batch)
    chosen = guide.trace.nodes["z0"]["fn"].chosen
    assert all(guide.trace.nodes[name]["fn"].chosen is chosen for name in z)
    assert abs(chosen.double().mean() - 0.5) < 4 * 0.5 / 400**0.5
    alike = torch.stack([log_q(component(guide, s), z, batch) for s in range(2)])
    own, other = alike.gather(0, chosen[None])[0], alike.gather(0, 1 - chosen[None])[0]
    assert own.mean() > other.mean() + 1


def test_one_component_is_the_guide_itself():
    model, batch = nvae(True).eval(), images()
    guide = GUIDES["top_down_mixture"](model, 1, cells_per_block=1).eval()
    z = guide(batch)
    torch.testing.assert_close(log_q(guide, z, batch), log_q(component(guide, 0), z, batch))


def test_components_begin_nearly_but_not_quite_alike():
    guide = GUIDES["top_down_mixture"](nvae(True), 2, cells_per_block=1)
    for first, second in guide.samplers:
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        differences = torch.cat([(p - q).flatten() for p, q in pairs])
        assert 0 < differences.abs().max() < 0.1


def test_the_gradient_is_that_of_the_mean_over_components():
    """With the component summed over instead of drawn, the loss has the same mean gradient."""
    model, batch = nvae(True).eval(), Batch.of(images(1).x.expand(4000, -1, -1, -1))
    guide = mixture_of(model, 2)
    weights = [sampler[0][-1].bias for sampler in guide.samplers]
    loss = ELBO().differentiable_loss(model, guide, batch) / 4000
    drawn = torch.autograd.grad(loss, weights)
    total = [torch.zeros_like(w) for w in weights]
    for s in range(2):
        losses = miselbo_part(model, guide, batch, s)
        for into, part in zip(total, torch.autograd.grad(losses, weights), strict=True):
            into.add_(part / 2)
    for ours, theirs in zip(drawn, total, strict=True):
        assert (ours - theirs).norm() < 0.15 * theirs.norm() + 0.05


def miselbo_part(model, guide, batch, s):
    """-E over component s of log p(x, z) - log q(z | x), per row."""
    z = component(guide, s)(batch)
    return (log_q(guide, z, batch) - density(model, batch)(z)).mean()


def test_its_mean_is_that_of_all_components():
    """Level by level: the weights at the mean of a group decide about the next one."""
    guide, batch = mixture_of(nvae(True).eval(), 2), images()
    found = guide_means(guide, batch)
    with torch.no_grad():
        first = torch.stack([guide_means(component(guide, s), batch)["z0"] for s in range(2)])
    assert (first[0] - first[1]).abs().max() > 0.1
    torch.testing.assert_close(found["z0"], first.mean(0))
    for row in range(4):  # whatever the other rows
        alone = guide_means(guide, Batch.of(batch.x[row : row + 1]))
        for name, z in found.items():
            torch.testing.assert_close(alone[name][0], z[row])

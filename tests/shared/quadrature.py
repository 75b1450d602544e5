"""What is true of a kind of program, on a grid: evidence, bounds, posteriors."""

import math

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from guides import Guide
from ppl_models.batch import data_plate


class Quadrature:
    """log p(x, z) of every row on a grid of the latents' unconstrained coordinates.

    The trapezoidal rule converges geometrically, since every density vanishes at the ends.

    Args:
        model: a ``Kind``.
        batch: its rows.
        points: along each coordinate; by default what the kind asks for.
    """

    def __init__(self, model, batch, points=None) -> None:
        axis = torch.linspace(-model.reach, model.reach, points or model.points)
        self.step, self.dim = (axis[1] - axis[0]).item(), model.dim
        self.u = torch.cartesian_prod(*[axis] * model.dim).reshape(-1, 1, model.dim)
        if hasattr(model, "log_marginal"):  # of all rows together
            self.log_joint = model.log_marginal(self.u, batch)
            return
        z = model.transform(self.u)
        self.volume = model.transform.log_abs_det_jacobian(self.u, z)
        at = model.split(z)
        told = model.log_prior(at, batch) + model.log_padding(at, batch)
        self.log_joint = told + model.log_likelihood(at, batch) + self.volume

    @property
    def cell(self):
        """The log of a cell's volume."""
        return self.dim * math.log(self.step)

    @property
    def evidence(self):
        """log p(x) of every row, ``[B]`` [nats]."""
        return self.log_joint.logsumexp(0) + self.cell

    @property
    def weights(self):
        """The posterior of every row, a probability per cell, ``[P, B]``."""
        return self.log_joint.softmax(0)

    def best(self, full=True):
        """The best ELBO of a Gaussian in the coordinates, full or diagonal, ``[B]`` [nats]."""
        weights, u = self.weights.detach(), self.u.squeeze(1)
        loc = weights.mT @ u
        centred = u - loc.unsqueeze(1)
        cov = torch.einsum("pb,bpi,bpj->bij", weights, centred, centred)
        tril = torch.linalg.cholesky(cov if full else cov.diagonal(0, 1, 2).diag_embed())
        leaves = [loc, tril.diagonal(0, 1, 2).log(), tril.tril(-1)]
        leaves = [leaf.clone().requires_grad_() for leaf in leaves[: 3 if full else 2]]
        search = torch.optim.LBFGS(leaves, max_iter=100, line_search_fn="strong_wolfe")

        def loss():
            search.zero_grad()
            value = -self.elbo(*leaves).sum()
            value.backward()
            return value

        search.step(loss)
        return self.elbo(*leaves).detach()

    def elbo(self, loc, log_scale, below=None):
        tril = log_scale.exp().diag_embed()
        tril = tril if below is None else tril + below.tril(-1)
        noise = torch.linalg.solve_triangular(tril, (self.u - loc).unsqueeze(-1), upper=False)
        log_q = dist.Normal(0.0, 1.0).log_prob(noise.squeeze(-1)).sum(-1) - log_scale.sum(-1)
        return ((log_q + self.cell).exp() * (self.log_joint.detach() - log_q)).sum(0)


class OnGrid(Guide):
    """Draws of the posterior itself: a cell of the grid, a point inside, and z there.

    Args:
        model: a ``Kind``.
        power: of the posterior; below 1 the guide is too wide, above it too narrow.
    """

    def __init__(self, model, power=1.0) -> None:
        super().__init__(model)
        self.power = power

    def forward(self, batch):
        model, drawn = self.model, {"is_auxiliary": True}
        masks = model.masks(batch) if hasattr(model, "masks") else {}
        grid = Quadrature(model, batch, model.coarse)
        with data_plate(batch):
            cell = dist.Categorical(logits=self.power * grid.log_joint.mT)
            cell = pyro.sample("cell", cell, infer=drawn)
            inside = dist.Uniform(-torch.ones(grid.dim) / 2, 0.5).to_event(1)
            inside = pyro.sample("inside", inside, infer=drawn)
            u = grid.u.squeeze(1)[cell] + grid.step * inside
            for name, z in model.split(model.transform(u)).items():
                with poutine.mask(mask=masks.get(name, torch.tensor(True))):
                    pyro.sample(name, dist.Delta(z).to_event(1))


def tail_index(log_w):
    """k-hat of log-weights ``[S]``, as in Vehtari, Simpson, Gelman, Yao & Gabry (2024).

    The generalized Pareto distribution is fitted as by Zhang & Stephens (2009), with PSIS's prior.
    """
    ordered = log_w.sort().values
    count = math.ceil(min(len(log_w) / 5, 3 * math.sqrt(len(log_w))))
    cutoff = ordered[-count - 1]
    over = (ordered[-count:] - ordered[-1]).exp() - (cutoff - ordered[-1]).exp()
    candidates = 30 + int(math.sqrt(count))
    steps = torch.arange(1, candidates + 1)
    quarter = over[int(count / 4 + 0.5) - 1]
    b = 1 / over[-1] + (1 - (candidates / (steps - 0.5)).sqrt()) / (3 * quarter)
    k = (-b.unsqueeze(-1) * over).log1p().mean(-1)
    profile = count * ((-b / k).log() - k - 1)
    mean = (profile.softmax(0) * b).sum()
    return ((-mean * over).log1p().sum() + 10 * 0.5) / (count + 10)

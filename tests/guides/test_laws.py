"""Every allowed pair obeys the same laws."""

import copy
import pickle

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO
from torch.func import functional_call

from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import ELBO, AnalyticKL, LogJoint
from experiments.inference.svi import SVI, Pair
from experiments.inference.traces import traces
from guides.guide import EffectGuide
from ppl_models import Batch, describe
from tests.shared.pairs import ALLOWED, SIZE, build, minibatch, name_of, objective_of, observations

every_pair = pytest.mark.parametrize("pair", ALLOWED, ids=name_of)


def latents_of(trace: poutine.Trace) -> dict:
    return {
        name: site
        for name, site in trace.iter_stochastic_nodes()
        if not poutine.util.site_is_subsample(site)
    }


@every_pair
@torch.no_grad()
def test_guide_samples_exactly_the_latents(pair):
    model, guide = build(pair)
    _, guide_trace = traces(model, guide, minibatch(pair))
    shapes = {name: site["fn"].event_shape for name, site in latents_of(guide_trace).items()}
    assert shapes == describe(model).latents


@every_pair
@pytest.mark.parametrize("particles", [1, 3])
@torch.no_grad()
def test_sites_in_the_plate_are_rescaled(pair, particles):
    model, guide = build(pair)
    for trace in traces(model, guide, minibatch(pair), particles):
        for name, site in trace.nodes.items():
            if site["type"] == "sample":
                assert site["scale"] == pytest.approx(SIZE / 5), name
                leading = (particles, 5) if model.vectorises else (particles * 5,)
                leading = leading if particles > 1 else (5,)
                assert site["log_prob"].shape == leading


@every_pair
def test_every_parameter_in_use_gets_a_finite_gradient(pair):
    model, guide = build(pair)
    batch = minibatch(pair)
    loss = objective_of(pair)
    loss.differentiable_loss(model, guide, batch).backward()
    for name, parameter in Pair(model, guide).named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if "rows" in name:
            untouched = torch.ones(SIZE, dtype=torch.bool)
            untouched[batch.index] = False
            assert (parameter.grad[untouched] == 0).all()
            assert (parameter.grad[batch.index].abs().sum(1) > 0).all()


@every_pair
@pytest.mark.parametrize("objective", [ELBO, AnalyticKL])
@torch.no_grad()
def test_tempered_objective(pair, objective):
    model, guide = build(pair)
    batch = minibatch(pair)

    def loss(handler):
        torch.manual_seed(3)
        with handler:
            return objective().differentiable_loss(model, guide, batch)

    reconstruction, plain = loss(TemperKL(0.0)), loss(poutine.block())
    for beta in (0.0, 0.3, 1.0):
        tempered = loss(TemperKL(torch.tensor(beta)))
        expected = reconstruction + beta * (plain - reconstruction)
        torch.testing.assert_close(tempered, expected, rtol=1e-12, atol=0)
    torch.manual_seed(3)
    model_trace, _ = traces(model, guide, batch)
    torch.testing.assert_close(-reconstruction, model_trace.nodes["x"]["log_prob"].sum())


@every_pair
def test_objectives_are_pyros_own(pair):
    model, guide = build(pair)
    for ours, pyros in ((ELBO, Trace_ELBO), (AnalyticKL, TraceMeanField_ELBO)):
        if pyros is TraceMeanField_ELBO and (
            isinstance(guide, EffectGuide) or pair[1] == "mixture"
        ):
            continue  # Pyro's analytic ELBO takes neither effect-handler guides nor mixtures
        torch.manual_seed(1)
        value = ours().loss(model, guide, minibatch(pair))
        torch.manual_seed(1)
        assert value == pytest.approx(pyros().loss(model, guide, minibatch(pair)), rel=1e-12)


@every_pair
def test_pyros_own_svi_trains_it_with_our_gradient(pair):
    model, guide = build(pair)
    if pair[1] == "mixture":  # Pyro's gradient has a score-function term, ours refuses
        with pytest.raises(ValueError, match="'z' cannot be reparametrised"):
            ELBO().differentiable_loss(model, guide, minibatch(pair))
        return
    trained = copy.deepcopy(Pair(model, guide))
    batch = minibatch(pair)
    with pyro.get_param_store().scope():
        svi = pyro.infer.SVI(
            trained.model, trained.guide, pyro.optim.SGD({"lr": 1.0}), Trace_ELBO()
        )
        torch.manual_seed(5)
        svi.step(batch)
    torch.manual_seed(5)
    (LogJoint() if pair[1] == "point" else ELBO()).differentiable_loss(
        model, guide, batch
    ).backward()
    before = dict(Pair(model, guide).named_parameters())
    for name, after in trained.named_parameters():
        gradient = before[name].grad
        assert gradient is not None
        torch.testing.assert_close(before[name] - after, gradient, rtol=1e-9, atol=1e-9)


@every_pair
def test_second_pair_in_a_process_learns_as_well_as_the_first(pair):
    batch = Batch.of(observations(pair))
    finals = []
    for _ in range(2):
        torch.manual_seed(2)
        model, guide = build(pair)
        loss = objective_of(pair)
        svi = SVI(model, guide, loss=loss)
        first = svi.evaluate_loss(batch)
        for _ in range(25):
            svi.step(batch)
        finals.append(svi.evaluate_loss(batch).item())
        assert finals[-1] < first
    assert finals[0] == finals[1]


@every_pair
def test_parameters_can_be_handed_in(pair):
    whole = Pair(*build(pair))

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = whole

        def forward(self, batch):
            objective = objective_of(pair) if pair[1] == "mixture" else AnalyticKL()
            return objective.differentiable_loss(self.pair.model, self.pair.guide, batch)

    loss, batch = Loss(), minibatch(pair)
    torch.manual_seed(7)
    expected = loss(batch)
    parameters = {name: p.detach().clone() for name, p in loss.named_parameters()}
    torch.manual_seed(7)
    torch.testing.assert_close(functional_call(loss, parameters, (batch,)), expected)


@every_pair
def test_copies_and_pickles_are_pairs_of_their_own(pair):
    model, guide = build(pair)
    guide(minibatch(pair))
    for twin in (
        copy.deepcopy(Pair(model, guide)),
        pickle.loads(pickle.dumps(Pair(model, guide))),
    ):
        assert twin.guide.model is twin.model
        assert twin.model is not model
        torch.manual_seed(4)
        expected = ELBO().loss(model, guide, minibatch(pair))
        torch.manual_seed(4)
        assert ELBO().loss(twin.model, twin.guide, minibatch(pair)) == expected


@every_pair
def test_model_is_no_part_of_its_guide(pair):
    model, guide = build(pair)
    owned = {id(p) for p in guide.parameters()}
    assert not owned & {id(p) for p in model.parameters()}


@every_pair
def test_pyros_tools_take_the_programs(pair):
    model, guide = build(pair)
    draws = Predictive(model, num_samples=4)(Batch.draw(SIZE))
    assert draws["x"].shape == (4, *observations(pair).shape)
    batch = Batch.of(observations(pair))
    guide_trace = poutine.trace(guide).get_trace(batch)
    posterior = {name: site["value"] for name, site in latents_of(guide_trace).items()}
    replayed = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(batch)
    conditioned = poutine.trace(poutine.condition(model, data=posterior)).get_trace(batch)
    for name, value in posterior.items():
        assert (replayed.nodes[name]["value"] == value).all()
        assert (conditioned.nodes[name]["value"] == value).all()
    assert replayed.log_prob_sum() == conditioned.log_prob_sum()


@every_pair
def test_posterior_predictive(pair):
    model, guide = build(pair)
    batch = minibatch(pair)
    guide_trace = poutine.trace(guide).get_trace(batch)
    latents = {name: site["value"] for name, site in latents_of(guide_trace).items()}
    replayed = poutine.trace(poutine.condition(model, data=latents))
    x = replayed.get_trace(batch._replace(x=None)).nodes["x"]["value"]
    assert x.shape == batch.x.shape
    assert (x != batch.x).any()

"""What test_distributed trains, in one process and in two."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyro
import torch
import torch.distributed as processes
from torch import Tensor

from experiments.data import Data, as_data, load
from experiments.inference.compiled import gradients as compiled_gradients
from experiments.inference.fit import fit
from experiments.inference.guard import Guard
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.optim import adam, adamax
from experiments.inference.parallel import own_noise, rank, start_together, world_size
from experiments.inference.svi import SVI, Pair
from guides import GUIDES
from ppl_models import NVAE, PPCA, VAE, Batch

Found = dict[str, Tensor]


def digits(rows: int) -> Data:
    return load("digits", rows=rows)[0]


@contextmanager
def noise_by_row(svi: SVI) -> Iterator[None]:
    """Inside, a row's draws depend on the row and the step alone, whichever process has it."""
    step, index, size = 0, torch.empty(0), 0

    def drawn(shape: Any, dtype: torch.dtype, device: Any) -> Tensor:
        if step == 0:  # the model is asked for its shapes
            return torch.randn(shape, dtype=dtype)
        generator = torch.Generator().manual_seed(step)
        whole = torch.randn(*shape[:-2], size, shape[-1], generator=generator, dtype=dtype)
        return whole[..., index, :]

    gradients = svi.gradients

    def counted(batch: Batch) -> Tensor:
        nonlocal step, index, size
        step, index, size = step + 1, batch.index, batch.size
        return gradients(batch)

    svi.gradients = counted
    with (
        mock.patch("torch.distributions.normal._standard_normal", drawn),
        mock.patch("torch.distributions.multivariate_normal._standard_normal", drawn),
    ):
        yield


def trained(svi: SVI, data: Data, batch_size: int, epochs: int, by_row: bool = True) -> Found:
    """Parameters, buffers of the average, losses of the epochs and skipped steps."""
    start_together(svi)
    own_noise(0)
    with noise_by_row(svi) if by_row else mock.MagicMock():
        done = list(fit(svi, data, epochs, batch_size))
    state = dict(Pair(svi.model, svi.guide).named_parameters())
    if svi.average:
        state |= dict(svi.average.weights.named_parameters())
    if by_row:  # a loss is the mean over all processes
        state["losses"] = torch.tensor([loss for progress in done for loss in progress.losses])
    skipped = torch.tensor(sum(progress.skipped for progress in done))
    return {name: value.detach() for name, value in state.items()} | {"skipped": skipped}


def vae(
    guide: str = "amortized",
    objective: Any = "elbo",
    particles: int = 1,
    rows: int = 60,
    compile: bool = False,
    by_row: bool = True,
    decay: float = 0.0,
) -> Found:
    data = digits(rows)
    model = VAE(tuple(data.image_shape), latent_dim=3, hidden_dims=(20,))
    model.unused = torch.nn.Parameter(torch.ones(2))
    q = GUIDES[guide](model).for_data(rows)
    loss = OBJECTIVES[objective](particles) if isinstance(objective, str) else objective
    optim = partial(torch.optim.AdamW, lr=0.01, weight_decay=decay)
    svi = SVI(model, q, optim, loss, compile=compile)
    with (
        mock.patch.object(compiled_gradients, "compiled", lambda graph, values: graph),
        mock.patch.object(compiled_gradients, "can_compile", return_value=True),
    ):
        found = trained(svi, data, 20, 4, by_row)
    assert not compile or svi.compiled.reasons == []
    return found


def ppca() -> Found:
    data = as_data(digits(60).pixels.flatten(1).double() / 16)
    model = PPCA(64, 3)
    return trained(SVI(model, GUIDES["exact"](model)), data, 20, 4)


def nvae(guide: str) -> Found:
    """Batch norms see the rows of their own process: it is not what one process trains."""
    data = digits(48)
    model = NVAE(tuple(data.image_shape), (1, 2), 2, 4, blocks=1, cells_per_block=1, crop=0)
    q = GUIDES[guide](model)
    return trained(SVI(model, q, adamax(model, q)), data, 24, 2, by_row=False)


def with_an_infinite_row() -> Found:
    """One process meets it, and all refuse the step."""
    data = digits(60)
    pixels = data.pixels.double() / data.levels
    pixels[7] = 1e150
    model = VAE(tuple(data.image_shape), latent_dim=3, hidden_dims=(20,))
    model.likelihood.log_sigma.data.fill_(-20)  # the square of 1e150 / sigma is infinite
    guide = GUIDES["prior"](model)
    guard = Guard()
    svi = SVI(model, guide, adam(model, guide), OBJECTIVES["elbo"](), guard)
    found = trained(svi, as_data(pixels), 20, 4)
    assert guard.last
    assert "site x: log-density -inf at Normal" in guard.last
    assert int(found["skipped"]) == 4
    return found


def without_a_factor() -> Found:
    """In one process a matrix cannot be factorised in one step, which all refuse."""
    data = digits(60)
    torch.set_default_dtype(torch.float32)  # not that of the parameters
    model = VAE(tuple(data.image_shape), latent_dim=3, hidden_dims=(20,)).double()
    guide = GUIDES["amortized"](model).double()
    svi = SVI(model, guide, loss=OBJECTIVES["elbo"](), guard=Guard())
    gradients, steps = svi.gradients, []

    def singular(batch: Batch) -> Tensor:
        steps.append(1)
        if len(steps) == 2 and rank() == world_size() - 1:
            raise torch.linalg.LinAlgError("not positive definite")
        return gradients(batch)

    svi.gradients = singular
    try:
        found = trained(svi, data, 20, 2, by_row=False)
    finally:
        torch.set_default_dtype(torch.float64)
    assert int(found["skipped"]) == 1
    return found


AS_ONE: dict[str, Callable[[], Found]] = {
    "vae": vae,
    "ppca": ppca,
    "a row per datum": partial(vae, "mean_field"),
    "iwae": partial(vae, objective="iwae", particles=5),
    "dreg": partial(vae, objective="dreg", particles=3),
    "full rank, stl": partial(vae, "full_rank", "stl"),
    "an unused parameter under weight decay": partial(vae, decay=0.1),
    "Pyro's ELBO": partial(vae, objective=pyro.infer.Trace_ELBO()),
    "Pyro's TraceGraph": partial(vae, objective=pyro.infer.TraceGraph_ELBO()),
    "infinite row": with_an_infinite_row,
}
"""With the same noise they are what one process trains."""

ALIKE: dict[str, Callable[[], Found]] = {
    "compiled": partial(vae, compile=True, by_row=False),
    "no factor": without_a_factor,
    "a remainder": partial(vae, rows=65, by_row=False),
    "free bits": partial(vae, objective="elbo_free_bits", by_row=False),
    "nvae": partial(nvae, "top_down"),
    "nvae, bottom up": partial(nvae, "bottom_up"),
}
"""The same in all processes, and something else in one."""


def in_process(rank: int, number: int, folder: Path) -> None:
    """Everything above in one of several processes; what it found in a file of its own."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    file = f"file://{folder / f'meeting-{number}'}"
    processes.init_process_group("gloo", init_method=file, rank=rank, world_size=number)
    found = {}
    for name, case in (AS_ONE | ALIKE).items():
        torch.manual_seed(0)
        found[name] = case()
    torch.save(found, folder / f"{rank}-of-{number}.pt")
    processes.destroy_process_group()

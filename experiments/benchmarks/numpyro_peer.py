"""The lab's VAE in NumPyro, compiled by JAX: a peer, where the extra ``peers`` is installed."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor


def lab_vae_step(x: Tensor) -> Callable[[], float] | None:
    """A jitted SVI step on one batch ``[B, D]``, waiting for it; None without NumPyro.

    The bound's KL is sampled, as NumPyro's ``Trace_ELBO`` has it.
    """
    if find_spec("numpyro") is None:
        return None
    import jax
    import numpyro
    import numpyro.distributions as dist
    from jax import numpy as jnp
    from numpyro import param, plate, sample

    def model(x: Any) -> None:
        log_sigma = param("log_sigma", jnp.zeros(()))
        with plate("data", len(x)):
            z = sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
            mean = _network("decoder", z, x.shape[1])
            sample("x", dist.Normal(mean, jnp.exp(log_sigma)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        loc, log_square = jnp.split(_network("encoder", x, 4), 2, -1)
        with plate("data", len(x)):
            sample("z", dist.Normal(loc, jnp.exp(0.5 * log_square)).to_event(1))

    batch = jnp.asarray(x.cpu().numpy())
    adam, elbo = numpyro.optim.Adam(1e-3), numpyro.infer.Trace_ELBO()
    svi = numpyro.infer.SVI(model, guide, adam, elbo)
    state = svi.init(jax.random.PRNGKey(0), batch)
    update = jax.jit(svi.update)

    def step() -> float:
        nonlocal state
        state, loss = update(state, batch)
        return float(loss)

    return step


def _network(name: str, inputs: Any, outputs: int) -> Any:
    import jax
    from numpyro import param, prng_key

    for layer, width in enumerate((400, outputs)):
        shape, scale = (inputs.shape[-1], width), inputs.shape[-1] ** -0.5
        key = prng_key()
        start = None if key is None else scale * jax.random.normal(key, shape)
        weight = param(f"{name}{layer}.weight", start)
        inputs = inputs @ weight + param(f"{name}{layer}.bias", jax.numpy.zeros(width))
        inputs = inputs if layer else jax.nn.relu(inputs)
    return inputs

"""Self-checks: each takes an answer and says at once whether it is right.

A right answer prints one line. A wrong one raises ``Wrong`` with a hint if the mistake is known,
and with the kind of difference if it is not; never with the answer. Right is what the closed
forms of this project and Pyro's ``Trace_ELBO`` give on random inputs.
"""

from experiments.teaching.basics import distances, log_density, slope
from experiments.teaching.bounds import kl, log_likelihood, monte_carlo_likelihood, reparametrise
from experiments.teaching.checking import Wrong
from experiments.teaching.elbo import elbo
from experiments.teaching.evidence import posterior, ppca_cost
from experiments.teaching.images import (
    binarise,
    count_convolutions,
    count_parameters,
    draw_latents,
)
from experiments.teaching.linear import pca, pca_decoder, pca_encoder, ppca_decoder, squared_error
from experiments.teaching.networks import decoder, encoder
from experiments.teaching.programs import pair

__all__ = [
    "Wrong",
    "binarise",
    "count_convolutions",
    "count_parameters",
    "decoder",
    "distances",
    "draw_latents",
    "elbo",
    "encoder",
    "kl",
    "log_density",
    "log_likelihood",
    "monte_carlo_likelihood",
    "pair",
    "pca",
    "pca_decoder",
    "pca_encoder",
    "posterior",
    "ppca_cost",
    "ppca_decoder",
    "reparametrise",
    "slope",
    "squared_error",
]

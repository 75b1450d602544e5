"""Self-checks: each takes an answer and says at once whether it is right.

A right answer prints one line. A wrong one raises ``Wrong`` with a hint if the mistake is known,
and with where it is right and where it is not otherwise; never with the answer. Right is what the
closed forms of this project and Pyro's ``Trace_ELBO`` give on random inputs.
"""

from experiments.teaching.rubric import Wrong
from experiments.teaching.tasks.averages import monte_carlo_likelihood
from experiments.teaching.tasks.basics import distances, log_density, slope
from experiments.teaching.tasks.components import pca
from experiments.teaching.tasks.costs import ppca_cost
from experiments.teaching.tasks.counts import count_convolutions, count_parameters
from experiments.teaching.tasks.elbo import elbo
from experiments.teaching.tasks.errors import squared_error
from experiments.teaching.tasks.gaussians import kl, reparametrise
from experiments.teaching.tasks.images import binarise, draw_latents
from experiments.teaching.tasks.likelihoods import log_likelihood
from experiments.teaching.tasks.linear import pca_decoder, pca_encoder, ppca_decoder
from experiments.teaching.tasks.networks import decoder, encoder
from experiments.teaching.tasks.posteriors import posterior
from experiments.teaching.tasks.programs import pair

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

"""The rows of every table that ``reproduce`` can make."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A command and its options, and what is measured afterwards.

    Args:
        command: the command that trains; none if the row only measures the run of another row.
        options: options of the command.
        samples: draws per image in an evaluation on all test images; none if log p(x) is exact or
            not evaluated.
        published: the published test log p(x) [nats], if there is one.
        of: the row whose run is refitted or measured.
        gaps: options of ``gaps``, if the inference gaps of the row are measured.
    """

    command: str | None
    options: dict[str, Any]
    samples: int | None = None
    published: float | None = None
    of: str | None = None
    gaps: dict[str, Any] | None = None


HIDDEN = {"hidden_dims": (200, 200), "activation": "tanh"}
"""Two layers of 200 tanh units in encoder and decoder (Burda, Grosse & Salakhutdinov 2016)."""

BURDA = {
    "model": "vae",
    "model_options": {"latent_dim": 50, "likelihood": "bernoulli", **HIDDEN},
    "binarize": "dynamic",
    "centre": True,
    "batch_size": 100,
    "lr": 1.5e-3,
    "warmup": 0.02,
}
"""The VAE of that paper: 50 latents, dynamic binarisation; the schedule differs."""


def burda(objective: str, particles: int, epochs: int, published: float) -> Row:
    """A row of that paper's table, with gradients of log q through z only."""
    options = {
        "guide": "amortized",
        "guide_options": HIDDEN,
        "objective": objective,
        "particles": particles,
        "epochs": epochs,
    }
    return Row("train", BURDA | options, 5000, published)


AIS = {"chains": 8, "ais_steps": 100, "leapfrog": 6}


def learned(guide: str, objective: str, **measured: Any) -> Row:
    """The decoder of that paper, trained together with a guide."""
    options = {"guide": guide, "guide_options": HIDDEN, "objective": objective, "epochs": 60}
    return Row("train", BURDA | options, 1000, **measured)


def refitted(guide: str, objective: str = "elbo", epochs: int = 40, **options: Any) -> Row:
    """Another guide on the frozen decoder of the row ``amortized``."""
    schedule = {name: BURDA[name] for name in ("centre", "batch_size", "lr", "warmup")}
    chosen = {"guide": guide, "guide_options": HIDDEN | options, "objective": objective}
    return Row("refit", schedule | chosen | {"epochs": epochs}, of="amortized", gaps=AIS)


TABLES: dict[str, dict[str, Row]] = {
    "lab": {
        "pca": Row("pca", {}),
        "ppca": Row("ppca", {}),
        "nonlinear": Row("nonlinear", {}, 20000),
        "vae": Row("vae", {}, 100),
        "vae-10": Row("vae", {"latent_dim": 10}, 100),
        "vae-50": Row("vae", {"latent_dim": 50}, 100),
    },
    "iwae": {
        "vae-1": burda("stl", 1, 700, -86.76),
        "iwae-5": burda("dreg", 5, 480, -85.54),
        "iwae-50": burda("dreg", 50, 480, -84.78),
    },
    "guides": {
        "amortized": learned("amortized", "elbo", gaps=AIS),
        "mixture-learned": learned("mixture", "miselbo"),
        "amortized-full": refitted("amortized", covariance="full"),
        "flow": refitted("flow"),
        "mixture": refitted("mixture", "miselbo"),
        "semi_amortized": refitted("semi_amortized", epochs=20),
        "mean_field": Row(None, {}, of="amortized", gaps=AIS | {"guide": "mean_field"}),
    },
}

"""The rows of every table that ``reproduce`` can make."""

from typing import Any, NamedTuple

__all__ = ["TABLES", "Row"]


class Row(NamedTuple):
    """A command and its options, and what is measured afterwards.

    Args:
        command: that trains; none where the row only measures another row's run.
        options: of the command.
        samples: draws per image of an evaluation on all test images; none where log p(x) is exact
            or no such figure is wanted.
        published: the published test log p(x) [nats], if there is one.
        of: the row whose run is refitted or measured.
        gaps: options of ``gaps``, where the row's inference gaps are measured.
    """

    command: str | None
    options: dict[str, Any]
    samples: int | None = None
    published: float | None = None
    of: str | None = None
    gaps: dict[str, Any] | None = None


HIDDEN = {"hidden_dims": (200, 200), "activation": "tanh"}
"""Two layers of 200 tanh units, each way (Burda, Grosse & Salakhutdinov 2016)."""

BURDA = {
    "model": "vae",
    "model_options": {"latent_dim": 50, "likelihood": "bernoulli", **HIDDEN},
    "binarize": "dynamic",
    "centre": True,
    "batch_size": 100,
    "lr": 1.5e-3,
    "warmup": 0.02,
}
"""Their VAE: 50 latents, pixels binarised anew at every visit; the schedule is ours."""


def burda(objective: str, particles: int, epochs: int, published: float) -> Row:
    """A row of their table; gradients see log q through z alone."""
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
    """Their decoder, trained together with a guide."""
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

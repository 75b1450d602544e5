"""What several guides say about Bayesian PPCA's parameters: table, LOO, NetCDF, picture."""

from typing import Any, NamedTuple

from torch import Tensor

from experiments.data import Data
from experiments.evaluation.bayesian.arviz_adapter import compare_loo, inference_data, save_netcdf
from experiments.evaluation.bayesian.draws import Posterior, distance, predictive, worst_rhat
from experiments.evaluation.metrics import protocol
from experiments.evaluation.predictive import tail_areas
from experiments.reports import plots
from experiments.reports.markdown import markdown_table
from experiments.reports.page import finish
from experiments.reports.words.titles import counted, joined, subject
from experiments.runs.files import write
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run
from ppl_models.bayesian_ppca import BayesianPPCA

SURPLUS = 0.1
"""A column is surplus where its norm is below this share of the largest."""


class Fitted(NamedTuple):
    """What a guide says, and what that took."""

    posterior: Posterior
    seconds: float
    divergences: int | None = None


def report_guides(
    run: Run, found: dict[str, Fitted], model: BayesianPPCA, data: Data, x: Tensor
) -> dict[str, Any]:
    """Print and save everything."""
    tables: dict[str, Any] = {"Guides": [line(name, one, found) for name, one in found.items()]}
    kept, tables["Posterior predictive checks"] = {}, []
    for name, one in found.items():
        replicated = predictive(model, one.posterior, len(x))
        checks = tail_areas(x, replicated.flatten(0, 1))
        tables["Posterior predictive checks"] += [{"guide": name, **row} for row in checks]
        kept[name] = saved(run, name, one.posterior, replicated, x)
    kept.pop("auto_delta", None)  # a point has no density to leave a datum out of
    if len(kept) > 1:
        tables["LOO, as if draws of q were of the posterior [nats]"] = compare_loo(kept)
    for title, rows in tables.items():
        run.say(f"\n{title}\n\n{markdown_table(rows)}")
    norms = {name: one.posterior.norms.flatten(0, 1) for name, one in found.items()}
    run.figure("columns", plots.column_norms(norms))
    metrics = Metrics(
        "bayesian_ppca",
        list(found),
        data.name,
        protocol(data, None, run.config.particles),
        objective="elbo",
        seed=run.config.seed,
        epochs=run.config.steps,
        more={"tables": tables},
    )
    title = f"{subject('bayesian_ppca', data.name)}: how many dimensions?"
    return finish(run, metrics, title, [in_words(tables["Guides"], x)], tables)


def in_words(rows: list[dict[str, Any]], x: Tensor) -> str:
    """How many columns each guide keeps."""
    kept: dict[int, list[str]] = {}
    for row in rows:
        kept.setdefault(row["columns"], []).append(row["guide"])
    parts = [
        f"{joined(guides)} {'keep' if len(guides) > 1 else 'keeps'} {counted(count, 'column')}"
        for count, guides in kept.items()
    ]
    return (
        f"On {len(x)} rows of {x.shape[1]} numbers, {joined(parts)} of W; the prior switches the "
        f"others off (a norm below {SURPLUS:.0%} of the largest)."
    )


def line(name: str, one: Fitted, found: dict[str, Fitted]) -> dict[str, Any]:
    """One guide's row; beside NUTS, how far E[W W⊤] is from its own."""
    norms = one.posterior.norms.flatten(0, 1).mean(0)
    row: dict[str, Any] = {
        "guide": name,
        "columns": int((norms > SURPLUS * norms[0]).sum()),
        "largest norms": ", ".join(f"{norm:.3f}" for norm in norms[:5]),
        "sigma": f"{one.posterior.sigma.mean():.4f} ± {one.posterior.sigma.std():.4f}",
        "log p / N": f"{one.posterior.log_p.mean() / one.posterior.log_likelihood.shape[-1]:.4f}",
        "seconds": f"{one.seconds:.0f}",
    }
    if "nuts" in found and len(found) > 1:
        gap = None if name == "nuts" else distance(one.posterior, found["nuts"].posterior)
        row["E[W W⊤] from nuts, sds"] = gap
    if "nuts" in found:
        several = name == "nuts" and len(one.posterior.sigma) > 1
        values = worst_rhat(one.posterior) if several else {}
        for quantity in ("W W⊤", "sigma", "log p"):
            row[f"R-hat {quantity}"] = f"{values[quantity]:.4f}" if values else None
        row["divergences"] = one.divergences
    return row


def saved(run: Run, name: str, found: Posterior, replicated: Tensor, x: Tensor) -> Any:
    """The draws as ArviZ's inference data, also saved as NetCDF."""
    draws = {key: value.numpy() for key, value in found._asdict().items()}
    log_likelihood = draws.pop("log_likelihood")
    data = inference_data(
        {
            "posterior": draws | {"log_p": found.log_p.numpy()},
            "log_likelihood": {"x": log_likelihood},
            "posterior_predictive": {"x": replicated.numpy()},
            "observed_data": {"x": x.numpy()},
        }
    )
    write(run.path / f"{name}.nc", lambda path: save_netcdf(data, path))
    return data

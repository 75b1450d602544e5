"""One model under several guides: tables, figures, findings and the report."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import mean, stdev
from typing import Any

from experiments.data import Data
from experiments.evaluation.comparison import Row, best
from experiments.evaluation.metrics import protocol
from experiments.reports.bars import bars
from experiments.reports.markdown import csv_table, markdown_table, text_table
from experiments.reports.page import finish
from experiments.reports.tables import Table
from experiments.reports.words.comparisons import findings_of_guides, lost
from experiments.reports.words.numbers import SMALL, column, number, squared
from experiments.reports.words.titles import counted, subject
from experiments.runs.files import write_text
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run
from ppl_models import MODELS

WORDS = {
    "frozen": "p frozen: all guides approximate the same posterior. Nats per data point.",
    "learned": "p learned with each guide, so the guide also affects p. Nats per data point.",
}

NEXT = """\
next:   ppl animate posterior --out posterior.png    four guides in the latent plane, as a picture
        ppl vae --data digits --latent-dim 10        a variational autoencoder, and its report"""
"""Commands to try after a comparison."""

MEANING = {
    "bound": "ELBO; IW-K, the importance-weighted bound of K draws; the log joint is not a bound",
    "gap": "log p(x) - bound, what the guide loses; ± standard error over images and draws",
    "exact gap": "KL(q || p(z | x)), the same gap in closed form, if q is Gaussian",
    "diagonal": "smallest gap of a diagonal Gaussian for the learned W",
    "below best": "best ELBO - this one, paired by image; ± standard error",
    "sq. error": "squared error of the reconstructions, summed over pixels",
    "s/epoch": "seconds per pass over the data",
}
"""Columns of the short table."""


def save_comparison(run: Run, rows: list[Row], data: Data) -> dict[str, Any]:
    """Print the short tables and the findings; save tables, figures, metrics and report."""
    config, figures, tables = run.config, [], dict[str, Table]()
    meaning: dict[str, str] = {}
    for decoder in dict.fromkeys(row.decoder for row in rows):
        table = _figures([row for row in rows if row.decoder == decoder])
        figures += table
        short = _short(table)
        own = {name: MEANING[name] for name in short[0] if name in MEANING}
        meaning |= own
        run.say(f"\n{WORDS[decoder]}\n{text_table(short, ('guide', 'bound'))}")
        for line in _over_seeds(table):
            run.say(line)
        tables[f"Decoder {decoder}"] = Table(short, own, WORDS[decoder], table)
        _picture(run, decoder, [row for row in table if row["seed"] == config.seed])
    width = max(map(len, meaning))
    run.say("\n" + "\n".join(f"{name:<{width}}  {text}" for name, text in meaning.items()))
    write_text(run.path / "table.csv", csv_table(figures))
    write_text(run.path / "table.md", markdown_table(figures))
    guides = list(dict.fromkeys(row.entry.label for row in rows))
    on_frozen = config.of is None and any(row.decoder == "frozen" for row in rows)
    turned = config.rotate and on_frozen and hasattr(MODELS.get(config.model), "rotated")
    metrics = Metrics(
        config.model,
        [row.entry.label for row in rows],
        data.name,
        protocol(data, None, config.particles) | {"rotated": turned},
        seed=config.seed,
        epochs=config.epochs,
        parameters=max(row["parameters"] for row in figures),
        more={"rows": figures},
    )
    title = (
        f"{subject(config.model, data.name)}: the same model under {counted(len(guides), 'guide')}"
    )
    content = finish(run, metrics, title, findings_of_guides(figures), tables)
    run.say(NEXT)
    return content


def _figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """All figures of one decoder, differences paired within each seed."""
    table = []
    for seed in dict.fromkeys(row.seed for row in rows):
        same = [row for row in rows if row.seed == seed]
        table += [row.figures(best(same, row.kind)) for row in same]
    return table


def _short(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table that is shown: what is known, at most eight columns."""
    several = len({row["seed"] for row in table}) > 1
    shown: dict[str, list[str]] = {
        "guide": [r["guide"] + (f", seed {r['seed']}" if several else "") for r in table],
        "bound": [_bound(row["bound"]) for row in table],
        "value": column([row["value"] for row in table]),
    }
    if any(row["evidence"] is not None for row in table):
        shown["log p(x)"] = column([row["evidence"] for row in table])
        shown["gap"] = [number(row["gap"], row["gap_se"]) for row in table]
        shown["exact gap"] = column([row["exact_gap"] for row in table])
        if len({row["oracle_gap"] for row in table}) > 1:
            shown["diagonal"] = column([row["oracle_gap"] for row in table])
    else:
        below = [None if r["minus_best"] is None else -r["minus_best"] for r in table]
        errors = [row["minus_best_se"] for row in table]
        shown["value"] = [number(row["value"], row["value_se"]) for row in table]
        shown["below best"] = list(map(number, below, errors))
        squares = [row["squared_error"] for row in table]
        shown["sq. error"] = [
            text if value is None or value >= SMALL else squared(value)
            for value, text in zip(squares, column(squares), strict=True)
        ]
    seconds = [row["seconds_per_epoch"] for row in table]
    shown["s/epoch"] = ["–" if value is None else f"{value:.2g}" for value in seconds]
    return [dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True)]


def _bound(kind: str) -> str:
    """ELBO, IW-100 or log joint."""
    name, _, draws = kind.partition(" ")
    names = {"elbo": "ELBO", "log_joint": "log joint", "iw_bound": f"IW-{draws.strip('()')}"}
    return names[name]


def _over_seeds(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """For every guide the mean of its bound over the seeds, and their standard deviation."""
    lines = []
    for guide in dict.fromkeys(row["guide"] for row in table):
        values = [row["value"] for row in table if row["guide"] == guide]
        if len(values) > 1:
            spread = number(mean(values), stdev(values))
            lines.append(f"{guide}: {spread} over {len(values)} seeds (standard deviation)")
    return lines


def _picture(run: Run, decoder: str, table: Sequence[Mapping[str, Any]]) -> None:
    """Bars of what the guides lose, the best guide on top."""
    known = all(row["gap"] is not None for row in table if row["bound"] != "log_joint")
    shown = [row for row in table if row["gap" if known else "minus_best"] is not None]
    if not shown:
        return
    losses = sorted(((row["guide"], *_loss(row, known)) for row in shown), key=itemgetter(1))
    names, below, errors = zip(*losses, strict=True)
    floor = shown[0]["oracle_gap"] if decoder == "frozen" else None
    label = f"{'log p(x)' if known else 'best ELBO'} - bound [nats per data point]"
    figure = bars(names, below, label, errors, floor, "least that a diagonal Gaussian loses")
    run.figure(f"gap_{decoder}", figure)


def _loss(row: Mapping[str, Any], known: bool) -> tuple[float, float | None]:
    """How far a bound is below log p(x) if it is known, else below the best ELBO; its error."""
    if not known:
        return -row["minus_best"], row["minus_best_se"]
    loss, error = lost(row)
    return loss or 0.0, error

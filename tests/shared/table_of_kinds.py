"""The table of docs/guides.md: what is right, and what is refused, for which kind of program.

``python -m tests.shared.table_of_kinds`` writes it there; ``test_table_of_kinds`` tries it.
"""

import re
from pathlib import Path

import torch

from experiments.data import as_data
from ppl_models import Batch, describe
from ppl_models.sites import simulate
from tests.shared.program_kinds import (
    Angle,
    ConditionalVAE,
    Counts,
    FactorAnalysis,
    MixtureVAE,
    N,
    Ordinal,
    Rate,
    SemiSupervised,
    Shares,
    VampPrior,
)
from tests.shared.structured_kinds import (
    Factor,
    Hierarchy,
    InnerPlate,
    Schools,
    Sequence,
    SeveralSites,
)

KINDS = {
    "factor analysis, values missing": FactorAnalysis,
    "conditional VAE, labels given": ConditionalVAE,
    "semi-supervised, labels summed out": SemiSupervised,
    "Gaussian-mixture VAE": MixtureVAE,
    "counts with an exposure": Counts,
    "ordinal answers": Ordinal,
    "positive latent": Rate,
    "latent on a simplex": Shares,
    "angle": Angle,
    "VampPrior": VampPrior,
    "hierarchy of latents": Hierarchy,
    "several observed sites": SeveralSites,
    "a factor": Factor,
    "inner plate": InnerPlate,
    "sequences of different lengths": Sequence,
    "global latents": Schools,
}
COLUMNS = ("train", "compiled", "IW bound", "AIS", "gaps", "k-hat", "calibrate", "ArviZ")

PAGE = Path(__file__).parents[2] / "docs/guides.md"
ALL_DATA = (
    "{} is computed per datum, but 'm' of Schools is a global latent: only the ELBO of the whole "
    "training set is defined, which train reports."
)
REFUSED = {
    ("a factor", "calibrate"): (
        "calibration simulates data, but data drawn from Factor ignore 'penalty', a factor or an "
        "observation with a fixed value: they are not draws from p(x, z)."
    ),
    ("global latents", "IW bound"): ALL_DATA.format("this estimate"),
    ("global latents", "AIS"): ALL_DATA.format("annealed importance sampling"),
    ("global latents", "gaps"): ALL_DATA.format("this estimate"),
    ("global latents", "k-hat"): ALL_DATA.format("this estimate"),
    ("global latents", "calibrate"): ALL_DATA.format("calibration"),
}
"""Kind and column -> the message; every other cell is right."""


def table():
    """The table in Markdown, the messages below it."""
    messages = list(dict.fromkeys(REFUSED.values()))
    lines = [f"| program | {' | '.join(COLUMNS)} |", f"| --- |{' --- |' * len(COLUMNS)}"]
    for kind in KINDS:
        words = [REFUSED.get((kind, column)) for column in COLUMNS]
        cells = [f"refused ({messages.index(w) + 1})" if w else "right" for w in words]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    notes = [f"{number}. `{message}`" for number, message in enumerate(messages, 1)]
    return "\n".join([*lines, "", "The refusals:", "", *notes])


def made(kind):
    """A model of a kind, and data that another one of the kind has made."""
    torch.manual_seed(1)
    truth = KINDS[kind]()
    given = truth.given()
    describe(truth, Batch.draw(N)._replace(given=given))
    with torch.no_grad():
        _, drawn = simulate(truth, N)
    if "mask" in given:
        data = as_data(drawn.x.masked_fill(~given["mask"], torch.nan), missing="mask")
    else:
        data = as_data(drawn.x, given)
    torch.manual_seed(2)
    model = KINDS[kind]()
    model.load_state_dict(truth.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    describe(model, data)
    return model, data.like(model)


if __name__ == "__main__":
    text = PAGE.read_text()
    between = r"(?<=<!-- table of kinds -->\n\n).*?(?=\n\n<!-- end of the table -->)"
    PAGE.write_text(re.sub(between, lambda _: table(), text, flags=re.DOTALL))

"""Names that are not known: the nearest one, and what there is, in one line."""

import os

import pytest

from experiments import bayesian_ppca, compare, nvae, reproduce, train, vae
from experiments.tools import bench, evaluate, refit, sample, sweep
from guides import GUIDES, check_pair
from ppl_models import PPCA, VAE
from ppl_models.names import unknown
from tests.shared.commands import refused


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


NAMES = [
    (train, ["--guide", "amortised"], "guide 'amortised' is unknown; did you mean amortized?"),
    (train, ["--guide", "Mean-Field"], "did you mean mean_field?"),
    (train, ["--data", "mnits"], "did you mean mnist?"),
    (train, ["--model", "vea"], "did you mean vae?"),
    (train, ["--objective", "elbow"], "did you mean elbo?"),
    (vae, ["--objective", "evidence"], "objective 'evidence' is unknown; there are elbo"),
    (vae, ["--likelihood", "bernouli"], "did you mean bernoulli?"),
    (vae, ["--optimizer", "adma"], "did you mean adam?"),
    (vae, ["--schedule", "cosin"], "did you mean cosine?"),
    (vae, ["--binarize", "statc"], "did you mean static?"),
    (vae, ["--guide.activation", "rellu"], "did you mean relu?"),
    (nvae, ["--preset", "digit-tiny"], "did you mean digits-tiny?"),
    (nvae, ["--pretrained", "mnist-smal", "--data", "digits"], "did you mean mnist-small?"),
    (compare, ["--guides", "exat,prior"], "did you mean exact?"),
    (bayesian_ppca, ["--guide", "auto_nomal"], "did you mean auto_normal?"),
    (reproduce, ["iwea"], "did you mean iwae?"),
    (bench, ["nvae-steps"], "did you mean nvae-step?"),
    (sweep, ["vea", "--grid", "seed=0"], "command 'vea' is unknown; did you mean vae?"),
    (sweep, ["vae", "--grid", "latnt_dim=2"], "meant: --latent-dim"),
    (train, ["--data", "qqq"], "'qqq' is unknown; there are digits, mnist"),
    (train, ["--data", "mnits"], "did you mean mnist?"),
]


@pytest.mark.parametrize(("command", "words", "said"), NAMES, ids=lambda x: str(x)[:40])
def test_an_unknown_name_is_answered_with_the_nearest(command, words, said, capsys):
    refused(capsys, command, words, said)


def test_names_in_python():
    with pytest.raises(
        ValueError, match="likelihood 'bernouli' is unknown; did you mean bernoulli"
    ):
        VAE((1, 4, 4), likelihood="bernouli")
    with pytest.raises(ValueError, match="guide 'exat' is unknown; did you mean exact"):
        check_pair(PPCA(4, 2), "exat")
    assert unknown("x", "q", ["ab", "cd"]) == "x 'q' is unknown; there are ab, cd."
    assert unknown("x", "bc", ["ab", "bcd"]) == (
        "x 'bc' is unknown; did you mean bcd? There are ab, bcd."
    )


@pytest.mark.parametrize(
    "kind", ["amortized", "flow", "mixture", "semi_amortized", "bottom_up", "top_down"]
)
def test_an_unknown_activation_of_a_guide_is_answered_with_the_nearest(kind):
    with pytest.raises(ValueError, match="activation 'rellu' is unknown; did you mean relu"):
        GUIDES[kind](PPCA(4, 2), activation="rellu")


def test_an_unknown_activation_is_refused_where_it_has_no_effect():
    with pytest.raises(ValueError, match="activation 'rellu' is unknown"):
        GUIDES["amortized"](VAE((1, 4, 4)), encoder="conv", activation="rellu")


def run(path, age: float) -> None:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    os.utime(path / "config.json", (1e9 - age, 1e9 - age))


def test_a_run_that_is_missing_is_said_to_be_and_others_are_named(capsys, tmp_path):
    for command, more in ((evaluate, []), (sample, []), (refit, ["--guide", "prior"])):
        refused(capsys, command, ["runs/vae-1", *more], "runs/vae-1 does not exist.")
    for i in range(7):
        run(tmp_path / f"runs/vae-{i}", age=i)
    run(tmp_path / "other/ppca", age=0)
    run(tmp_path / "mine/VAE-Digits", age=0)
    (tmp_path / "runs/notes").mkdir()
    newest = "The newest runs in runs are vae-0, vae-1, vae-2, vae-3, vae-4."
    refused(capsys, evaluate, ["runs/vea-1"], f"does not exist. Did you mean vae-1? {newest}")
    refused(capsys, evaluate, ["nowhere/zzz"], f"nowhere/zzz does not exist. {newest}")
    refused(
        capsys, evaluate, ["other/pca"], "Did you mean ppca? The newest runs in other are ppca."
    )
    refused(capsys, evaluate, ["mine/vae-digits2"], "exist. Did you mean VAE-Digits? The newest")
    refused(capsys, evaluate, ["runs/notes"], "runs/notes is not a run: it has no config.json.")
    refused(capsys, evaluate, ["runs"], "runs is not a run", "It holds the runs vae-0, vae-1")
    refused(capsys, compare, ["--of", "runs/vea-1"], "runs/vea-1 does not exist. Did you mean")

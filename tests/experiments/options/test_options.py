"""Options: their ranges, their groups, and the names they choose from."""

import dataclasses
import importlib
import re
from typing import Annotated, Any, get_args, get_type_hints

import pytest
import tyro

from experiments.errors import UsageError
from experiments.options.commands import COMMANDS, module_of
from experiments.options.common import TrainOptions
from experiments.options.parsing import parse
from experiments.options.ranges import Count, Fraction, check_ranges, ranges_of
from experiments.vae import Config as VAEConfig
from ppl_models.likelihoods import LIKELIHOODS

ANY_NUMBER = {"bits", "value_range", "between", "labs", "published"}
"""Options whose values are checked against the data or by what they choose from."""


def test_likelihoods_to_choose_from_are_those_of_the_registry():
    assert set(get_args(get_type_hints(VAEConfig)["likelihood"])) == set(LIKELIHOODS)


@pytest.mark.parametrize("second", [["--hidden-dims", "20"], ["--hidden_dims=20"]])
def test_an_option_with_several_values_is_not_given_twice(second):
    from experiments.vae import Config, main

    assert parse(Config, main, ["--hidden-dims", "30", "20"]).hidden_dims == (30, 20)
    with pytest.raises(UsageError, match="--hidden-dims is given twice; write all its values"):
        parse(Config, main, ["--hidden-dims", "30", *second])
    with pytest.raises(UsageError, match=r"--guide\.hidden-dims is given twice"):
        parse(Config, main, ["--guide.hidden-dims", "8", "--guide.hidden-dims", "9"])


@pytest.mark.parametrize("second", ["--hidden-dims", "--model.hidden-dims"])
def test_nor_is_one_of_a_model_by_its_short_name(second):
    from experiments.train import Config, main

    args = ["--model", "vae", "--hidden-dims", "30", second, "20"]
    with pytest.raises(UsageError, match=r"--model\.hidden-dims is given twice"):
        parse(Config, main, args)


def is_number(hint: Any) -> bool:
    return hint in (int, float) or any(is_number(one) for one in get_args(hint))


def test_every_number_has_a_range():
    """A new option cannot be forgotten: what it may be stands on the field."""
    without = []
    for command in COMMANDS:
        config = importlib.import_module(module_of(command)).Config
        hints = get_type_hints(config, include_extras=True)
        for field in dataclasses.fields(config):
            marks = getattr(hints[field.name], "__metadata__", ())
            free = field.name in ANY_NUMBER or tyro.conf.Suppress in marks
            if is_number(hints[field.name]) and not free and not [*ranges_of(hints[field.name])]:
                without.append(f"{command} --{field.name}")
    assert not without


@dataclasses.dataclass(frozen=True)
class Small:
    rows: Count | None = None
    shares: tuple[Fraction, ...] = (0.5,)
    guide_options: dict = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Small(rows=0), "--rows must be at least 1, got 0."),
        (Small(rows=2**63), "--rows must be below 2^63, got 9223372036854775808."),
        (Small(shares=(0.5, 1.0)), "--shares must lie in [0, 1), got 1.0."),
        (Small(shares=(float("nan"),)), "--shares must be finite, got nan."),
        (Small(shares=()), "--shares needs at least one value."),
        (Small(guide_options={"lr": float("inf")}), "--guide.lr must be finite, got inf."),
    ],
)
def test_what_is_out_of_range_is_named_with_its_range(config: Small, words: str):
    with pytest.raises(UsageError, match=f"^{re.escape(words)}$"):
        check_ranges(config)


def test_none_and_what_lies_inside_pass():
    check_ranges(Small())
    check_ranges(Small(rows=1, shares=(0.0, 0.999), guide_options={"size": -3}))


def main(config: TrainOptions) -> None:
    """Stands for a command."""


@pytest.mark.parametrize("everything", [False, True])
def test_help_lists_options_by_group_and_rare_ones_on_demand(capsys, everything: bool):
    with pytest.raises(SystemExit) as end:
        parse(TrainOptions, main, ["--help-all" if everything else "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    titles = ["data", "model", "guide and objective", "optimization", "run"]
    places = [shown.find(f"{title} options") for title in titles]
    if not everything:
        places.remove(shown.find("model options"))  # all of them are rare here
    assert -1 not in places
    assert places == sorted(places)
    assert ("--max-rollbacks" in shown) == everything
    assert "--epochs" in shown


def test_rare_options_are_taken_all_the_same():
    assert parse(TrainOptions, main, ["--max-rollbacks", "7"]).max_rollbacks == 7


def test_an_option_keeps_the_group_of_the_class_that_declared_it_first():
    from experiments.options.groups import group_of

    @dataclasses.dataclass(frozen=True)
    class Own(TrainOptions):
        epochs: Annotated[int, "doubled"] = 40
        extra: int = 1

    assert group_of(Own, "epochs") == "optimization"
    assert group_of(Own, "extra") == "command"

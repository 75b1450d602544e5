"""Malformed command lines.

A maker takes a generator of random choices and the directory the command will run in, puts files
there and gives the command line. The directory ``runs`` in it holds finished runs, as ``STOCK``
makes them.
"""

import dataclasses
import importlib
import random
import types
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from experiments.options.commands import COMMANDS, module_of
from experiments.options.ranges import ranges_of


class Case(NamedTuple):
    """Words after ``python -m experiments``, and whether the command may take them after all."""

    words: list[str]
    may_pass: bool = False


SMALL = ["--data", "digits", "--rows", "20", "--epochs", "1", "--batch-size", "20"]
STOCK = {
    "ppca": ["ppca", *SMALL, "--guide", "amortized"],
    "vae": ["vae", *SMALL, "--likelihood", "bernoulli", "--binarize", "static"],
    "nvae": [
        "nvae",
        "--preset",
        "digits-tiny",
        *SMALL,
        "--evaluate",
        "1",
        "--readjust",
        "1",
        "--pad",
        "32",
        "--model.groups",
        "1",
        "--model.channels",
        "4",
        "--model.depthwise",
    ],
    "other": ["evaluate", "runs/ppca", "--particles", "2"],
}
"""Finished runs, by the name of their directory below ``runs``; later ones read earlier ones."""

RUN = "runs/ppca"
BASE = {
    **dict.fromkeys(("ppca", "nonlinear", "vae", "train"), SMALL),
    "pca": SMALL[:4],
    "nvae": STOCK["nvae"][1:],
    "bayesian-ppca": ["--rows", "20", "--steps", "1", "--draws", "4", "--latent-dim", "1"],
    "compare": [*SMALL, "--particles", "2", "--guides", "exact"],
    "evaluate": [RUN, "--particles", "2"],
    "refit": [RUN, "--epochs", "1"],
    "gaps": [
        RUN,
        "--images",
        "5",
        "--particles",
        "30",
        "--local-steps",
        "2",
        "--ais-steps",
        "2",
        "--simulated",
        "2",
        "--chains",
        "2",
    ],
    "calibrate": [RUN, "--simulations", "100"],
    "predictive": [RUN, "--sets", "40", "--images", "5"],
    "gradients": [RUN, "--steps", "2", "--draws", "1", "--images", "5"],
    "sample": [RUN, "--count", "2", "--temperature", "1"],
    "reconstruct": [RUN, "--images", "5"],
    "sweep": ["ppca", "--dry-run", "--grid", "seed=0"],
    "reproduce": ["lab", "--data", "digits", "--rows", "20", "--epochs", "1"],
    "import-nvae": ["runs/nvae.pt"],
    "export-nvae": ["runs/nvae"],
    "explore": [RUN, "--points", "5", "--images", "2", "--particles", "2"],
    "animate": ["evidence", "--frames", "2", "--steps", "1"],
    "bench": ["lab-vae", "--data", "digits", "--rows", "20", "--epochs", "1"],
}
"""Words that a command takes, and is soon done with."""

WORDS = [
    "",
    " ",
    "\n",
    "a\nb",
    "a b",
    "é",
    "日本",
    "\u202e",
    "😀",
    "\udcff",
    "w" * 5000,
    "%s%n",
    "{0}",
    "$(x)",
    "../..",
    "---",
    "=",
    "-=",
    "None",
    "null",
    "0x1F",
    "1e",
    "--no-",
    "a=b",
    ";",
    "'",
    '"',
    "\\",
    "\x1b[31m",
    "\x07",
    "\r",
    "\t",
    "\v",
    "\u2028",
    "\x85",
    "[",
    "[red]",
    "[/]",
    ",",
    ":",
    "a:b",
]
NUL = "nul\0nul"
NO_INT = ["many", "", "1.5", "nan", "inf", "1e3", "0x10", "1_0_", "one two", "²", "1,000"]
NO_FLOAT = ["many", "", "1,5", "1e", "0x1p", "--1", "½", "1 2"]
EXTREME = [
    "-1",
    "0",
    "-0.0",
    "nan",
    "inf",
    "-inf",
    "5e-324",
    "1e308",
    "-1e308",
    "2147483648",
    "-9223372036854775809",
    "18446744073709551616",
    "9" * 30,
    "9" * 400,
]
LONG = {
    "epochs",
    "minutes",
    "steps",
    "sets",
    "draws",
    "tune",
    "chains",
    "ais_steps",
    "leapfrog",
    "simulations",
    "simulated",
    "samples",
    "rounds",
    "evaluate",
    "readjust",
    "local_steps",
    "seeds",
    "images",
    "jobs",
    "count",
    "patience",
    "cycles",
    "particles",
}
"""Of these a large number is a long wait, and no mistake."""
CLASSES = [
    "ppcaa",
    ":",
    "a:",
    ":b",
    "..:x",
    "os:getcwd",
    "no.such:Model",
    "os.path:join",
    "json:JSONDecoder",
    "torch.nn:Linear",
    "torch.nn:Module",
    "torch.nn:Identity",
    "torch.nn:Flatten",
    "a:b:c",
    "os:",
    "experiments.runs.run:Run",
    "sys:exit",
    "torch:nn",
    "torch.nn:Softmax",
    "pyro.nn:DenseNN",
]
CONFLICTS = [
    "ppca --guide point --objective elbo",
    "ppca --guide exact --objective log_joint",
    "ppca --guide mean_field --binarize dynamic",
    "ppca --resume",
    "ppca --products bfloat16 --dtype float64",
    "train --model ppca --centre",
    "vae --likelihood bernoulli",
    "vae --guide exact",
    "nonlinear --guide top_down",
    "ppca --guide exact --beta 2 --objective iwae",
    "ppca --patience 3 --kl-anneal 0.5",
    "ppca --bits 4",
    "nvae --pretrained nothing",
    "compare --guides exact,exact",
    "compare --guides exact:",
    "compare --decoder learned --guides point",
    "compare --runs",
    "compare --runs runs/ppca runs/vae",
    "compare --of runs/nowhere",
    "compare --runs runs/ppca runs/ppca/checkpoint",
    "refit --guide exact --objective log_joint",
    "gaps --guide top_down",
    "sample --between 0 99999",
    "sample --between -1 0",
    "sample --steps 1",
    "sample --of groups --between 4",
    "sample --temperature 0 1",
    "bayesian-ppca --guide auto_laplace",
    "bayesian-ppca --guide nothing",
    "reproduce --entries nothing",
    "sweep --grid epochs=0",
    "export-nvae --file runs/nvae/config.json",
    "gradients --objectives evidence",
    "bench --preset nothing",
    "bench --only nothing",
    "vae --out new --resume",
    "vae --out runs/ppca --resume",
    "vae --binarize-seed -1",
    "vae --pad 7",
    "vae --pad 4097",
    "vae --rows 1",
    "vae --rows 1438",
    "ppca --latent-dim 65",
    "predictive --memory 1e-9",
    "evaluate --memory 1e-12",
    "ppca --data folder",
    "ppca --device cuda:99",
    "explore --with runs/vae",
    "explore --with runs/nowhere",
    "explore --limit 1e-6",
    "explore --weights float16 --limit 1e-6",
    "explore --temperature",
    "explore --points 1",
    "animate --out new.mp4",
    "animate --frames 1",
    "animate --seconds 0.001",
]
"""Command lines that are malformed as a whole; each comes after the command's own words."""
GRIDS = [
    "",
    "=",
    "a=",
    "=b",
    "seed",
    "seed=",
    "seed=0,0",
    "seed=0,,1",
    "nosuch=1,2",
    "seed=x",
    "guide=nope",
    "guide=amortized:covariance=full:covariance=full",
    "out=a",
    "lr=nan",
    "seed=(",
    "guide=amortized:nosuch=1",
    "resume=true",
    "seed=-1,0",
    "model=ppca",
]


def command_line(rng: random.Random, home: Path) -> Case:
    """A command's own words with one mistake among them, and sometimes a second."""
    if rng.random() < 0.02:
        return Case([rng.choice([*WORDS, "ppcaa", "--version", "PPCA", "vae "]), "--rows", "20"])
    command = rng.choice([name for name in COMMANDS if name in BASE])
    mistakes = [
        surplus,
        unknown,
        of_type,
        of_type,
        of_type,
        outside,
        extreme,
        extreme,
        extreme,
        without_value,
        twice,
        place,
        place,
        origin,
        chosen,
        chosen,
        conflict,
    ]
    case = rng.choice(mistakes)(rng, command, home)
    return Case([*case.words, "--nonsense"]) if rng.random() < 0.1 else case


def words_of(command: str, *more: str) -> list[str]:
    out = [] if command == "export-nvae" or "--out" in more else ["--out", "new"]
    out = ["--out", "new.gif"] if command == "animate" and out else out
    return [command, *BASE[command], *out, *more]


def numbers(command: str) -> dict[str, Any]:
    """Every option of a command with its type."""
    config = importlib.import_module(module_of(command)).Config
    hints = get_type_hints(config, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(config) if f.name in hints}


def kinds(hint: Any) -> list[Any]:
    """The types that a hint allows, without ``None``."""
    if get_origin(hint) in (Union, types.UnionType):
        return [part for one in get_args(hint) for part in kinds(one) if part is not type(None)]
    return kinds(get_args(hint)[0]) if get_origin(hint) is Annotated else [hint]


def surplus(rng: random.Random, command: str, home: Path) -> Case:
    return Case(
        [*words_of(command), rng.choice(["surplus", "-", "9", *WORDS])], command == "sweep"
    )


def unknown(rng: random.Random, command: str, home: Path) -> Case:
    name = rng.choice(
        ["nonsense", "epoch", "guide.nosuch", "model.nosuch", "guide.", "no-seed", *WORDS]
    )
    value = rng.choice([[], ["1"], [rng.choice(WORDS)]])
    return Case(words_of(command, f"--{name or 'x'}", *value))


def of_type(rng: random.Random, command: str, home: Path) -> Case:
    """A value of another type than the option's."""
    options = {name: kinds(hint)[0] for name, hint in numbers(command).items()}
    fitting = {
        name: {int: NO_INT, float: NO_FLOAT, bool: ["maybe", "2"]}.get(kind, ["nothing", *WORDS])
        for name, kind in options.items()
        if kind in (int, float, bool)
        or get_origin(kind) is Literal
        or name in ("guide", "objective", "device", "preset", "guides")
    }
    name = rng.choice([*fitting, "nosuch"])
    value = rng.choice(fitting.get(name, WORDS))
    if name == "guides" and not value.strip():
        value = ","
    return Case(words_of(command, f"--{name.replace('_', '-')}={value}"))


def outside(rng: random.Random, command: str, home: Path) -> Case:
    """A number that no command can use."""
    outsiders = {
        name: [
            text
            for text in ("-1", "-0.5", "0", "1", "nan", "inf", str(2**32), "9" * 30)
            if any(not one.contains(float(text)) for one in ranges_of(hint))
        ]
        for name, hint in numbers(command).items()
    }
    name = rng.choice([name for name, texts in outsiders.items() if texts] or ["nosuch"])
    value = rng.choice(outsiders.get(name, ["0"]))
    return Case(words_of(command, f"--{name.replace('_', '-')}={value}"))


def extreme(rng: random.Random, command: str, home: Path) -> Case:
    """A number at the end of what can be written; some of them are allowed."""
    command = "vae" if command == "bench" else command
    hints = {name: kinds(hint) for name, hint in numbers(command).items()}
    fitting = [name for name, kind in hints.items() if {int, float} & set(kind)] or ["nosuch"]
    added = [
        "guide.hidden-dims",
        "guide.local-lr",
        "hidden-dims",
        "guide.components",
        "latent-dim",
    ]
    name = rng.choice(fitting + (added if command in ("vae", "train", "refit", "ppca") else []))
    large = EXTREME[:5] if name in LONG else EXTREME
    return Case(words_of(command, f"--{name.replace('_', '-')}={rng.choice(large)}"), True)


def without_value(rng: random.Random, command: str, home: Path) -> Case:
    hints = {name: kinds(hint)[0] for name, hint in numbers(command).items()}
    names = [name for name, kind in hints.items() if kind in (int, float)]
    names = names or ["nosuch"]
    return Case(words_of(command, f"--{rng.choice(names).replace('_', '-')}"))


def twice(rng: random.Random, command: str, home: Path) -> Case:
    return Case(words_of(command, "--seed", "1", "--seed", rng.choice(NO_INT)))


def place(rng: random.Random, command: str, home: Path) -> Case:
    """A directory that cannot be written, or a run that is none."""
    (home / "file").write_text("kept")
    (home / "empty").mkdir()
    (home / "loop").symlink_to("loop")
    (home / "hanging").symlink_to("nowhere")
    bad = [
        "file",
        "file/below",
        "runs",
        "loop",
        "n" * 300,
        "/".join(["deep"] * 2000),
        "/proc/none",
        "/dev/null",
        "/dev/null/x",
        NUL,
        "runs/ppca/config.json",
    ]
    if BASE[command][0].startswith("runs/") and rng.random() < 0.6:
        run = rng.choice([*bad, "empty", "hanging", "", "nowhere", "runs/nvae/checkpoint", *WORDS])
        return Case([command, run, *BASE[command][1:]])
    if command == "export-nvae":
        return Case(words_of(command, "--file", rng.choice([*bad, ".", "empty"])))
    return Case(words_of(command, "--out", rng.choice(bad)), command == "sweep")


def origin(rng: random.Random, command: str, home: Path) -> Case:
    """Data that lie nowhere."""
    (home / "file").write_text("kept")
    takes = [name for name in COMMANDS if {"data", "data_root"} <= set(numbers(name))]
    command = command if command in takes else rng.choice(takes)
    (home / "data").mkdir()
    root = rng.choice(["nowhere", "file", "", "/dev/null", "n" * 300, NUL, *WORDS])
    return Case(words_of(command, "--data", "mnist", "--data-root", f"data/{root}"))


def chosen(rng: random.Random, command: str, home: Path) -> Case:
    """A model, a guide or an option of theirs that does not exist."""
    if command == "sweep":
        return Case(
            [
                "sweep",
                "ppca",
                "--out",
                "new",
                "--dry-run",
                "--grid",
                rng.choice(GRIDS),
                "--with",
                "data=digits",
                "rows=20",
            ]
        )
    command = rng.choice(["train", "train", "compare", "vae", "refit"])
    if command in ("train", "compare"):
        return Case(words_of(command, "--model", rng.choice([*CLASSES, *WORDS])))
    option = rng.choice(
        ["covariance", "hidden-dims", "encoder", "flows", "components", "local-lr"]
    )
    guide = rng.choice(["amortized", "flow", "mixture", "prior", "mean_field", "semi_amortized"])
    value = rng.choice(["", "-1", "0", "nan", "conv", "0 0", "x", *WORDS])
    return Case(words_of(command, "--guide", guide, f"--guide.{option}={value}"), True)


def conflict(rng: random.Random, command: str, home: Path) -> Case:
    command, *more = rng.choice(CONFLICTS).split(" ")
    return Case(words_of(command, *more))

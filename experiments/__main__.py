"""Lists the commands, or runs one of them."""

import importlib
import sys

from experiments.options.commands import COMMANDS, module_of
from experiments.options.process.installed import check_installed, not_installed
from experiments.options.process.streams import safe_streams

USAGE = """usage: python -m experiments COMMAND [OPTIONS]     (or: ppl COMMAND [OPTIONS])

One model, many guides. Commands:

{commands}

Start with
  python -m experiments compare --data digits        PPCA under every guide (no download)
  python -m experiments ppca --help                  options of a command
  python -m experiments nvae --preset digits-tiny    a hierarchy of latents in seconds
"""


@safe_streams()
def main() -> None:
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        lines = "\n".join(f"  {name:<13} {words}" for name, words in COMMANDS.items())
        print(USAGE.format(commands=lines))
        return
    if name not in COMMANDS:
        from experiments.errors import listed, one_line

        words = f"command '{one_line(name)}' is unknown; {listed(name, COMMANDS)}."
        print(f"error: {words}", file=sys.stderr)
        sys.exit(2)
    check_installed()
    try:
        module = importlib.import_module(module_of(name))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("experiments", "guides", "ppl_models")):
            raise
        not_installed(error.name or str(error))
    from experiments.runs.cli import cli

    cli(module.Config, module.main, rest)


if __name__ == "__main__":
    main()

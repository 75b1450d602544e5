"""Everything that brings models and guides together: data, inference, evaluation, commands."""

import sys

# While `python -m experiments.vae` looks for its module, argv[0] is still "-m"; `-m experiments`
# checks for itself, after its --help.
if sys.argv[:1] == ["-m"] and not {"experiments", "-mexperiments"} & set(sys.orig_argv):
    from experiments.installed import check_installed

    check_installed()

"""``python -m tgmm``: the command line without an installed script."""

from tgmm.cli import main

main()

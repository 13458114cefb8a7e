"""The command line, as `python -m bayesinv`."""

from bayesinv.cli.commands import main

main()

"""The command line, as `python -m bayesinv`."""

from bayesinv.cli import main

main()

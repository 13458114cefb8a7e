"""Command line: from files to a folder with posterior, numbers, pictures and a report."""

from bayesinv.cli.commands import app as app
from bayesinv.cli.commands import main as main
from bayesinv.cli.commands import run as run
from bayesinv.cli.outcome import BROKEN as BROKEN
from bayesinv.cli.outcome import FAILED as FAILED
from bayesinv.cli.outcome import INTERRUPTED as INTERRUPTED
from bayesinv.cli.outcome import PASSED as PASSED
from bayesinv.cli.outcome import PROGRAM as PROGRAM
from bayesinv.cli.outcome import REFUSED as REFUSED

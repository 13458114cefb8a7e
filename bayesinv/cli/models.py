"""`bayesinv models`: what priors there are, and what each believes."""

from __future__ import annotations

import bayesinv
from bayesinv.cli.options import Model
from bayesinv.cli.outcome import PASSED
from bayesinv.cli.screen import show_table, tell


def models(name: Model | None = None) -> int:
    """List the shipped models, or show the card of one."""
    if name is not None:
        tell(bayesinv.read_card(name))
        return PASSED
    titles = bayesinv.list_models()
    show_table(("model", "what it believes"), [(model, title.removesuffix(".")) for model, title in titles.items()])
    return PASSED

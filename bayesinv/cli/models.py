"""`bayesinv models`: the shipped priors and their cards."""

from __future__ import annotations

import bayesinv
from bayesinv.cli.options import Model
from bayesinv.cli.outcome import PASSED
from bayesinv.cli.screen import show_table, show_text


def models(name: Model | None = None) -> int:
    """List the shipped models, or show the card of one."""
    if name is not None:
        show_text(bayesinv.read_card(name))
        return PASSED
    titles = bayesinv.list_models()
    show_table(("model", "what it believes"), [(model, title.removesuffix(".")) for model, title in titles.items()])
    return PASSED

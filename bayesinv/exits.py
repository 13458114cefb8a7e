"""The ways out of nouns: to files, to MNE-Python, to ArviZ. Each room is entered when its way is first taken.

A noun knows these by name alone, for they stand downstream of it, and most need a library that loads slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

ROOMS = {
    "forward_to_mne": "bayesinv.bridges.mne_lead_field",
    "save": "bayesinv.bridges.archive",
    "to_arviz": "bayesinv.bridges.arviz",
    "to_inverse_operator": "bayesinv.bridges.mne_operator",
    "to_mne": "bayesinv.bridges.mne_maps",
}


def way_out(name: str) -> Callable[..., Any]:
    """Return the function of that name from the room that holds it."""
    found: Callable[..., Any] = getattr(import_module(ROOMS[name]), name)
    return found

"""Exports of posteriors and lead fields: to files, MNE-Python and ArviZ; each module is imported on first use.

The dataclasses know these functions by name only: their modules import the dataclasses, and most need a library that
loads slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

MODULES = {
    "forward_to_mne": "bayesinv.bridges.mne_lead_field",
    "save": "bayesinv.bridges.archive",
    "to_arviz": "bayesinv.bridges.arviz",
    "to_inverse_operator": "bayesinv.bridges.mne_operator",
    "to_mne": "bayesinv.bridges.mne_maps",
}


def exporter(name: str) -> Callable[..., Any]:
    """Return the export function of that name."""
    function: Callable[..., Any] = getattr(import_module(MODULES[name]), name)
    return function
